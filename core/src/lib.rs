//! Decisions of PDAutoscaler: how many prefill and decode replicas a service needs, and why.
//!
//! The whole crate is one pure function and the types around it:
//!
//! ```text
//! plan(snapshot, memory, now) -> (plan, report, memory)
//! ```
//!
//! A [`Snapshot`] is everything observed at one moment, [`Memory`] is what earlier decisions left
//! behind, and `now` is an argument, so a recorded call can be replayed to the byte. There is no
//! Kubernetes here, no async, no clock, no environment, no file and no randomness; the controller,
//! the simulator and the tests all call the same function.
//!
//! Modules follow the stages of a decision: [`signal`] and [`histogram`] hold what was measured and
//! how far it may be trusted, [`capacity`] what one replica can do, [`forecast`] how much work will
//! come, [`need`] how many replicas the objective takes, [`solve`] fits both roles into ratio, bounds
//! and budget, [`guard`] slows and stops changes, [`report`] says why, and [`audit`] checks every plan
//! against the invariants.
//!
//! Functions are total: bad data becomes a [`Reason`] in the report and a held replica count.

pub mod audit;
pub mod bottleneck;
pub mod budget;
pub mod capacity;
pub mod error_budget;
pub mod evidence;
pub mod forecast;
pub mod guard;
pub mod histogram;
pub mod lead;
pub mod memory;
pub mod need;
pub mod operating_point;
pub mod plan;
pub mod policy;
pub mod queueing;
pub mod ratio;
pub mod readiness;
pub mod report;
pub mod role;
pub mod role_state;
pub mod schedule;
pub mod signal;
pub mod snapshot;
pub mod solve;
#[cfg(test)]
mod testing;
pub mod time;
pub mod workload;
pub mod zero;

pub use audit::{Finding, audit};
pub use forecast::{Forecast, Forecaster};
pub use memory::Memory;
pub use plan::{Decision, Plan, plan};
pub use policy::Policy;
pub use ratio::Ratio;
pub use report::{Reason, Report, Stage, Step};
pub use role::{PerRole, Role};
pub use role_state::RoleState;
pub use signal::{Gap, Reading, Signals};
pub use snapshot::Snapshot;
pub use time::Timestamp;
