//! The facts of a kind before any object of it is read: its resource, how it is written, what
//! one replica is. Discovery, rights and the table of the documentation come from here.

use strum::IntoStaticStr;

/// A kind of workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// The API group, empty for the core's.
    pub group: &'static str,
    /// The version that is read and written.
    pub version: &'static str,
    /// The kind.
    pub kind: &'static str,
    /// The resource: the kind's plural in addresses.
    pub plural: &'static str,
    /// Whether an object holds several roles.
    pub roles: Roles,
    /// How replicas are written.
    pub form: Form,
    /// `targets.<switch>.enabled` in the chart grants the rights; empty where they are always
    /// granted.
    pub switch: &'static str,
    /// The unit: what one replica is.
    pub replica: &'static str,
    /// Which of a replica's pods serve metrics.
    pub serving: &'static str,
    /// Which replica goes first when replicas are lowered.
    pub victim: Victim,
    /// Hazards that are refused, and why.
    pub refused: &'static str,
}

/// Whether an object of the kind holds several roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Roles {
    /// The whole object is one role.
    One,
    /// The object holds several; the target names one of them.
    Several,
}

/// How replicas are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Through the `scale` subresource.
    Scale,
    /// By a JSON patch of the object, with tests.
    JsonPatch,
}

/// Which replica goes first when replicas are lowered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr)]
pub enum Victim {
    /// The lowest `controller.kubernetes.io/pod-deletion-cost`, after pods that are not ready.
    #[strum(serialize = "lowest pod-deletion-cost")]
    DeletionCost,
    /// A RoleInstance that has the label `rbg.workloads.x-k8s.io/role-instance-delete`: an order to
    /// delete it, whatever the replicas, and so not written by us.
    #[strum(serialize = "labelled RoleInstance")]
    DeleteLabel,
    /// The highest ordinal, always.
    #[strum(serialize = "highest ordinal")]
    HighestOrdinal,
    /// The system's own order, which nobody can change.
    #[strum(serialize = "system's own order")]
    Own,
}

impl Kind {
    /// `apiVersion` of its manifests.
    pub fn api_version(&self) -> String {
        match self.group {
            "" => self.version.to_owned(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// Whether manifests of `api_version` and `kind` are of this kind.
    pub fn is(&self, api_version: &str, kind: &str) -> bool {
        self.kind == kind && self.api_version() == api_version
    }
}
