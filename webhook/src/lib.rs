//! pd-webhook: numeric SLA tolerations at admission, on clusters that would refuse them.
//!
//! [`admission`] is pure: the bytes of an `AdmissionReview` and what is known of the cluster give the bytes of the answer.
//! It rewrites `Gt` and `Lt` to `Exists` with the numbers kept in an annotation and in required node affinity, expands
//! what users wrote into the annotation, and refuses what disagrees. [`gate`] finds out by asking the API server whether any
//! of this is needed. [`certificates`] makes and rotates the authority and the serving certificate as a plain state
//! machine; [`rotation`] keeps its state in a Secret and its bundle in the webhook configurations; [`tls`] serves with
//! whatever certificate is current. [`claims`] knows the PDAutoscalers, so that no two take one workload.
//!
//! The webhook writes nothing but its own Secret and its own configurations, so a dry run is as good as a run.

pub mod admission;
pub mod args;
pub mod certificates;
pub mod claims;
pub mod gate;
pub mod metrics;
pub mod rotation;
pub mod serve;
pub mod tls;

/// Name of the binary, and user agent.
pub const NAME: &str = "pd-webhook";

/// Version of the binary.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
