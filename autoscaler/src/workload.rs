//! Workloads of systems that are read and written as JSON: all but Deployments and StatefulSets.
//!
//! The meaning of an object is pd-systems' to say. This reads what that needs, and writes the
//! result.
//! A kind that the cluster does not serve is no fault of the service's others, and may come later.

pub mod read;
pub mod write;

use pd_systems::refusal::Refusal;

/// Why a workload is not observed or not written.
#[derive(Debug, thiserror::Error)]
pub enum WorkloadError {
    /// It must not be scaled.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The cluster has no such kind.
    #[error(
        "the cluster serves no kind `{kind}` of apiVersion `{api_version}`: install its CustomResourceDefinition, or name another target"
    )]
    KindAbsent {
        /// The kind.
        kind: String,
        /// Its apiVersion.
        api_version: String,
    },
    /// There is no such object.
    #[error("{kind} `{name}` does not exist in namespace `{namespace}`")]
    NotFound {
        /// The kind.
        kind: String,
        /// The name.
        name: String,
        /// The namespace.
        namespace: String,
    },
    /// The API server did not give it.
    #[error(
        "{what} cannot be read: {source}; where rights are missing, set `targets.{switch}.enabled` in the chart"
    )]
    Unreadable {
        /// The thing that was read.
        what: String,
        /// The chart's switch that gives the rights.
        switch: &'static str,
        /// The cause.
        source: kube::Error,
    },
    /// Its version kept changing, with the same replicas.
    #[error("{kind} `{name}` kept changing while its replicas were written; deciding again")]
    VersionConflict {
        /// The kind.
        kind: String,
        /// The name.
        name: String,
    },
    /// The API server refused the write.
    #[error("replicas of {kind} `{name}` cannot be written: {source}")]
    Unwritable {
        /// The kind.
        kind: String,
        /// The name.
        name: String,
        /// Its answer.
        source: kube::Error,
    },
    /// Another process leads now.
    #[error("another process leads now")]
    NotLeading,
}
