//! Decisions of PDAutoscaler: how many prefill and decode replicas a service needs, and why.
//!
//! The whole crate is one pure function and the types around it:
//!
//! ```text
//! plan(snapshot, memory, now) -> (plan, report, memory)
//! ```
//!
//! A [`Snapshot`] is everything observed at one moment, [`Memory`] is the part of earlier decisions
//! that the next one needs, and `now` is an argument, so a recorded call can be replayed to the
//! byte. There is no Kubernetes here, no async, no clock, no environment, no file and no
//! randomness; the controller, the simulator and the tests all call the same function.
//!
//! [`plan`](mod@plan) puts the stages of a decision in their order, and the other modules hold
//! their rules: [`signal`] and [`histogram`] the measurements and how far they may be trusted,
//! [`demand`] the work that arrives, [`capacity`] the performance of one replica, [`forecast`] the
//! work that will come, [`need`] the replicas that the objective takes. [`solve`] fits both roles
//! into ratio, bounds and budget, [`guard`] slows and stops changes, [`report`] states why, and
//! [`audit`] checks every plan against the invariants.
//!
//! Functions are total: bad data becomes a [`Reason`] in the report and a held replica count.

pub mod audit;
pub mod behavior;
pub mod bottleneck;
pub mod bounds;
pub mod budget;
pub mod capacity;
pub mod demand;
pub mod error_budget;
pub mod evidence;
pub mod forecast;
pub mod guard;
pub mod histogram;
pub mod in_flight;
pub mod lead;
pub mod memory;
pub mod need;
pub mod objective;
pub mod operating_point;
pub mod plan;
pub mod policy;
pub mod queueing;
pub mod ratio;
pub mod reach;
pub mod readiness;
pub mod reason;
pub mod replicas;
pub mod report;
pub mod role;
pub mod role_state;
pub mod schedule;
pub mod signal;
pub mod snapshot;
pub mod solve;
pub mod step;
#[cfg(test)]
mod testing;
pub mod time;
pub mod tuning;
pub mod window_mean;
pub mod workload;
pub mod zero;

pub use audit::{Facts, Finding, audit, audit_after};
pub use forecast::{Forecast, Forecaster};
pub use memory::Memory;
pub use plan::{Decision, Plan, plan, plan_tuned};
pub use policy::Policy;
pub use ratio::Ratio;
pub use reason::Reason;
pub use report::Report;
pub use role::{PerRole, Role};
pub use role_state::RoleState;
pub use signal::{Gap, Reading, Signals};
pub use snapshot::Snapshot;
pub use step::{Stage, Step};
pub use time::Timestamp;
pub use tuning::Tuning;
