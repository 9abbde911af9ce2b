//! A PDAutoscaler as a file holds it: its name and what its owner wants.
//!
//! For programs that read an object and talk to no cluster. Fields that a server fills in are not
//! looked at.

use serde::Deserialize;

use crate::v1alpha1::PDAutoscalerSpec;

/// The parts of an object that its owner writes.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Manifest {
    /// The name of the object.
    pub metadata: ManifestMetadata,
    /// The owner's spec.
    pub spec: PDAutoscalerSpec,
}

/// The name and namespace of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct ManifestMetadata {
    /// The object's name.
    pub name: Option<String>,
    /// The object's namespace; without, that of the reader's context.
    pub namespace: Option<String>,
}
