//! PDAutoscaler custom resources: types, defaults, CEL rules and validation into core types.
//!
//! [`v1alpha1`] holds the objects as users write them, tolerant on purpose: times and ratios stay
//! text and counts stay signed, so that an object which an old or rule-less API server let through
//! still decodes and gets an answer. [`v1alpha1::PDAutoscalerSpec::policy`] turns a spec into the
//! core's [`pd_core::Policy`], or says for every wrong field where it is, what it holds and what to
//! write instead. The rules of the CRD say the same at admission.
//!
//! [`condition`] keeps the status conditions, [`pause`] reads the pause annotations, and
//! [`crd`] makes the `CustomResourceDefinition`s that the chart ships. [`explanation`], [`wording`]
//! and [`age`] are for programs that show an object to people.
//!
//! Everything about a cluster (the resource itself, its CRD, status and conditions) is behind the
//! feature `kube`, which is on by default. Without it the crate holds the spec and what it means,
//! for programs that read [`Manifest`]s, and builds neither `kube` nor `k8s-openapi`.
//!
//! One rule holds for the whole API: a field that is accepted does something. What a later version
//! will bring is in the schema, and refused with a message.

#![cfg_attr(
    not(feature = "kube"),
    expect(
        dead_code,
        unused_imports,
        reason = "the texts of the CEL rules and the bounds of the schema are beside the types"
    )
)]

#[cfg(feature = "kube")]
pub mod age;
#[cfg(feature = "kube")]
pub mod condition;
#[cfg(feature = "kube")]
pub mod crd;
#[cfg(feature = "kube")]
pub mod explanation;
pub mod manifest;
pub mod pause;
pub mod v1alpha1;
pub mod validate;
#[cfg(feature = "kube")]
pub mod wording;

mod derives;

#[cfg(feature = "kube")]
pub use condition::{ConditionState, ConditionType};
#[cfg(feature = "kube")]
pub use crd::Resource;
pub use manifest::Manifest;
pub use pause::PauseReading;
pub use validate::FieldError;
