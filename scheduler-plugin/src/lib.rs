//! pd-scheduler-plugin: numeric SLA tolerations at the stock scheduler.
//!
//! Four ways in, one set of rules ([`pd_tolerations`]). [`explain`] answers offline, from files,
//! whether a pod fits nodes, which toleration answers which taint, what the API server would say,
//! and when a running pod would go. [`extender`] answers the scheduler's filter and prioritize
//! calls; it is pure (a request's bytes and a view of the nodes give a response's bytes), and
//! [`serve`] puts HTTP and the node cache of [`nodes`] around it.
//!
//! [`preflight`] says of a cluster who compares numbers by itself, and what breaks if some do not.
//! [`control`] runs the controllers: what must be written to nodes, and what becomes of pods that
//! run already.
//!
//! Nothing but the controllers writes to the cluster. The extender decides only what the scheduler
//! cannot see: taints that a rewritten `Exists` tolerates and the pod's own number does not.
//! Everything else is the scheduler's business.

pub mod args;
pub mod control;
pub mod explain;
pub mod extender;
pub mod metrics;
pub mod nodes;
pub mod preflight;
pub mod serve;

/// Name of the binary, and user agent.
pub const NAME: &str = "pd-scheduler-plugin";

/// Version of the binary.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
