//! pd-webhook: numeric SLA tolerations at admission, on clusters that would refuse them.
//!
//! [`admission`] is pure: the bytes of an `AdmissionReview` and what is known of the cluster give
//! the bytes of the answer. It rewrites `Gt` and `Lt` to `Exists` with the numbers kept in an
//! annotation and in required node affinity, has new pods prefer nodes by margin, expands what
//! users wrote into the annotation, and refuses what disagrees. [`feature_gate`] finds out by
//! asking the API server whether any of this is needed. [`configurations`] shows the API server
//! which authority the webhook has, and [`claims`] knows the PDAutoscalers, so that no two take one
//! workload and pods get what their role asks for. [`scope`] has exactly those pods sent here.
//!
//! The webhook writes nothing but its own Secret and its own configurations, so a dry run is as
//! good as a run.

pub mod admission;
pub mod args;
pub mod claims;
pub mod configurations;
pub mod feature_gate;
pub mod metrics;
pub mod scope;
pub mod serve;

/// Name of the binary, and user agent.
pub const NAME: &str = "pd-webhook";

/// Version of the binary.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
