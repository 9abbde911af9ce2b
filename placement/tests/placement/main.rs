//! Placing as its users see it: named cases, every placement tried, laws, and manifests.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed step of a test ends it"
)]

mod apart;
mod bounds;
mod brute_force;
mod laws;
mod levels;
mod manifests;
mod nodes;
mod packing;
mod pictures;
mod running;
mod turns;
mod what_if;
mod world;
