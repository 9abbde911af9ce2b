//! Slowing and stopping changes, one file per rule: tolerance, stabilization windows, rate
//! policies, bounds that moved, replicas that leave, pauses, releases before growth, the hard band
//! on the way, scale-up requests that are stuck, replicas that are broken, and replicas that go
//! back and forth.
//!
//! A guard takes the replicas that the stage before wants and gives those that may be requested
//! now, with a step that says why when the two differ. Windows, policies and their selection mean
//! what they mean in `HorizontalPodAutoscaler` `spec.behavior` (autoscaling/v2; KEP-853); each file
//! says where it differs, and `guard/tests/hpa.rs` holds the tables.

mod band;
mod bounds;
mod broken;
mod drain;
mod flap;
mod gap;
mod pause;
mod rate;
mod release;
mod stabilize;
mod stuck;
mod tolerate;
mod window;

pub use band::{BeforeBand, keep_hard_band};
pub use bounds::{BoundedRole, IMPLICIT_PERCENT, IMPLICIT_PERIOD};
pub use broken::BrokenMemory;
pub use drain::await_drain;
pub use flap::{FACTOR_MAX, FlapMemory, REVERSAL_COUNTS, REVERSAL_WITHIN, damp};
pub use gap::{Gap, GapMemory, USUAL_MAX};
pub use pause::pause;
pub use rate::limit_rate;
pub use release::await_releases;
pub use stabilize::stabilize;
pub use stuck::{BACKOFF, HANGS_AFTER, LATE_LEADS, LATE_MIN, StuckMemory, StuckState, cancel};
pub use tolerate::tolerate;
pub use window::{Extreme, StabilizationWindows, WINDOW_SAMPLES_MAX, Window};

#[cfg(test)]
mod tests;
