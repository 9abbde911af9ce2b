//! The memory of one PDAutoscaler, beside it.
//!
//! Nobody watches these objects, so that a memory of kilobytes goes to no client at each write, and
//! the PDAutoscaler itself stays short to read. The vertical pod autoscaler of Kubernetes keeps its
//! histories in the same way.

use serde::{Deserialize, Serialize};

use crate::derives::{CustomResource, KubeSchema};

/// Most characters of a memory: compressed and in base64, far below what etcd takes.
pub const MEMORY_LENGTH_MAX: usize = 65_536;
/// Most characters of the text that says what a memory is about.
pub const SUBJECT_LENGTH_MAX: usize = 1_024;

/// The memory of the PDAutoscaler of the same name and namespace. Written by the controller alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "pdautoscaler.io",
    version = "v1alpha1",
    kind = "PDAutoscalerCheckpoint",
    plural = "pdautoscalercheckpoints",
    singular = "pdautoscalercheckpoint",
    shortname = "pdac",
    namespaced,
    derive = "PartialEq",
    doc = "PDAutoscalerCheckpoint holds what the controller remembers about the PDAutoscaler of the same name. It is not for reading or writing by others; deleting it makes the controller forget."
)]
#[serde(rename_all = "camelCase")]
pub struct PDAutoscalerCheckpointSpec {
    /// UID of the PDAutoscaler; a new one of the same name begins without memory. At most 64
    /// characters.
    #[schemars(length(max = 64))]
    pub uid: String,
    /// The workloads, GPUs of a replica and engine that the memory is about; with others it is
    /// forgotten. At most 1024 characters.
    #[schemars(length(max = SUBJECT_LENGTH_MAX))]
    pub subject: String,
    /// The memory: JSON, compressed as zlib does (RFC 1950), in base64. At most 65536 characters.
    #[schemars(length(max = MEMORY_LENGTH_MAX))]
    pub memory: String,
}
