//! Stand-ins for the derives of pd-api's types in builds without Kubernetes.
//!
//! Each derive has the name and the attributes of the one that it stands in for, and makes nothing.
//! So the types of pd-api are written once, schema and CEL rules beside each field, and a program
//! that only reads specs, such as the simulator, builds neither `kube` nor `schemars`.

use proc_macro::TokenStream;

/// Stands in for `kube::CustomResource`.
#[proc_macro_derive(CustomResource, attributes(kube))]
pub fn custom_resource(_: TokenStream) -> TokenStream {
    TokenStream::new()
}

/// Stands in for `kube::KubeSchema`.
#[proc_macro_derive(KubeSchema, attributes(schemars, x_kube))]
pub fn kube_schema(_: TokenStream) -> TokenStream {
    TokenStream::new()
}

/// Stands in for `schemars::JsonSchema`.
#[proc_macro_derive(JsonSchema, attributes(schemars))]
pub fn json_schema(_: TokenStream) -> TokenStream {
    TokenStream::new()
}
