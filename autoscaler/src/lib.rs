//! pd-autoscaler: the controller that scales prefill and decode workloads together.
//!
//! One reconcile of one PDAutoscaler is a pipeline, a file for each step:
//!
//! ```text
//! validate -> observe -> plan -> apply -> report
//! ```
//!
//! [`validate`] takes the policy out of an object, by `pd-api`'s rules; it comes first, because
//! names and queries of a spec go into requests. [`observe`] reads workloads, other autoscalers of
//! them and metrics into a [`pd_core::Snapshot`]. [`plan`] is [`pd_core::plan`] and its audit.
//! [`apply`] writes replicas, and [`report`] metrics, events and status. Each value is the only
//! input of the next step: `ValidObject`, `Observed`, `Planned`, `Applied`. Only `observe`, `apply`
//! and `report` touch the network. [`cluster`] is what `observe` reads of workloads: watched, so
//! that a steady pass sends the API server nothing. [`controller`] strings the steps together and
//! decides when to look again.
//!
//! [`poller`] reads the metrics of many objects by few queries, which [`grouping`] makes of those
//! of one.
//!
//! [`selection`] says which objects are handled, [`tenancy`] bounds what an object may have the
//! controller ask, [`budget`] the GPUs that several objects hold together. [`console`] shows people
//! what status holds, and has no part in decisions.
//!
//! A fault outside never lowers replicas: what cannot be read is `Unknown` in the snapshot, and the
//! core does not lower on it. `tests/faults` holds that against an API server that fails on
//! purpose.

pub mod answer;
pub mod apply;
pub mod args;
pub mod budget;
pub mod checkpoint;
pub mod cluster;
pub mod console;
pub mod context;
pub mod controller;
pub mod error;
pub mod grouping;
pub mod lock;
pub mod metrics;
pub mod observe;
pub mod outcome;
pub mod placement;
pub mod plan;
pub mod poller;
pub mod report;
pub mod run;
pub mod selection;
pub mod share;
pub mod tenancy;
pub mod validate;
pub mod workload;

use kube::core::DeserializeGuard;
use pd_api::v1alpha1::PDAutoscaler;
pub use pd_runtime::prometheus;

/// Name of the binary: field manager of every write, reporter of every event, user agent.
pub const NAME: &str = "pd-autoscaler";

/// Version of the binary.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The watched type: a PDAutoscaler, or why it cannot be decoded.
pub type Guarded = DeserializeGuard<PDAutoscaler>;
