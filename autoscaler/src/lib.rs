//! pd-autoscaler: the controller that scales prefill and decode workloads together.
//!
//! One pass over one PDAutoscaler is a pipeline, a file for each step:
//!
//! ```text
//! observe -> validate -> plan -> apply -> report
//! ```
//!
//! [`observe`] reads the workloads and their metrics into a [`pd_core::Snapshot`]; validation is
//! `pd-api`'s; the plan is [`pd_core::plan`] and nothing else; [`apply`] writes replicas; [`report`]
//! writes status and events. Only the first and the last two touch the network. [`controller`]
//! strings them together, decides when to look again and survives what fails.
//!
//! A fault outside never lowers replicas: what cannot be read is `Unknown` in the snapshot, and the
//! core does not lower on it.

pub mod apply;
pub mod args;
pub mod context;
pub mod controller;
pub mod error;
pub mod metrics;
pub mod observe;
pub mod report;
pub mod run;

pub use pd_runtime::prometheus;

/// Name of the binary: field manager of every write, reporter of every event, user agent.
pub const NAME: &str = "pd-autoscaler";

/// Version of the binary.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
