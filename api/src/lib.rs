//! PDAutoscaler custom resources: types, defaults, CEL rules and validation into core types.
//!
//! [`v1alpha1`] holds the objects as users write them, tolerant on purpose: times and ratios stay
//! text and counts stay signed, so that an object which an old or rule-less API server let through
//! still decodes and gets an answer. [`v1alpha1::PDAutoscalerSpec::policy`] turns a spec into the
//! core's [`pd_core::Policy`], or says for every wrong field where it is, what it holds and what to
//! write instead. The rules of the CRD say the same at admission.
//!
//! [`condition`] keeps the status conditions, [`pause`] reads the pause annotations, and
//! [`crd`](mod@crd) makes the `CustomResourceDefinition` that the chart ships.
//!
//! One rule holds for the whole API: a field that is accepted does something. What a later version
//! will bring is in the schema, and refused with a message.

pub mod condition;
pub mod crd;
pub mod pause;
pub mod v1alpha1;
pub mod validate;

pub use condition::{ConditionState, ConditionType};
pub use crd::crd;
pub use pause::PauseReading;
pub use validate::FieldError;
