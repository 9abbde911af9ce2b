//! The derives of the API's types: those of `kube` and `schemars`, or stand-ins that make nothing.
//!
//! Feature `kube` decides. Types name the derives from here, so that they are written once.

#[cfg(feature = "kube")]
pub(crate) use kube::{CustomResource, KubeSchema};
#[cfg(not(feature = "kube"))]
pub(crate) use pd_api_without_kube::{CustomResource, JsonSchema, KubeSchema};
#[cfg(feature = "kube")]
pub(crate) use schemars::JsonSchema;
