//! The gate as a cluster sees it: named cases, and whole lives of clusters in which everything
//! fails.
//!
//! `PD_GATE_SEEDS=10000 cargo test -p pd-placement --test gate --release` plays as many lives; the
//! seed of one that breaks a promise is in the message, and `PD_GATE_SEED` plays it alone.

#![expect(clippy::unwrap_used, reason = "a failed step of a test ends it")]

mod cases;
mod chance;
mod cluster;
mod directed;
mod life;
mod promises;
mod room;
