//! Writing replicas, through `/scale`, or as the system of the workload has it.
//!
//! Grow first, shrink second: if the second write fails, the service has too much and not too
//! little. Every write is made against the replicas that the decision saw: if somebody else changed
//! them, ours is not made and the next reconcile decides again. Leadership is checked right before
//! each write.
//!
//! Both roles go to zero together and come back together, in two writes. When only one of them is
//! made, the next reconcile finds one role alone at zero, and the core knows from its memory that
//! it was going there: it finishes the way down while no request arrives, and turns both back up
//! otherwise. Without that memory, as after a crash in between, it turns both back up.

use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    autoscaling::v1::Scale,
};
use kube::{
    Api,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
    runtime::reflector::ObjectRef,
};
use pd_api::v1alpha1::{PDAutoscaler, PDAutoscalerSpec, TargetReference};
use pd_core::{PerRole, Plan, Role};
use pd_signals::pods::TargetKind;
use serde_json::json;
use tracing::warn;

use super::victims::Victims;
use crate::{
    answer::{ending, within_limit},
    context::Context,
    observe::target::{TargetError, is_of_system, kind},
    workload::{
        self, WorkloadError,
        write::{VERSION_RETRIES, Wanted},
    },
};

/// Why replicas were not written.
#[derive(Debug, thiserror::Error)]
pub enum ScaleError {
    /// Somebody else changed the replicas meanwhile.
    #[error(
        "{role} replicas of `{target}` are {found} and were {expected} when this was decided; deciding again"
    )]
    Conflict {
        /// The role.
        role: Role,
        /// The target's name.
        target: String,
        /// Replicas found.
        found: u32,
        /// Replicas the decision saw.
        expected: u32,
    },
    /// The object's version kept changing, with the same replicas.
    #[error(
        "`{target}` of {role} changed {VERSION_RETRIES} times while its replicas were written; deciding again"
    )]
    VersionConflict {
        /// The role.
        role: Role,
        /// The target's name.
        target: String,
    },
    /// The API server refused.
    #[error("{role} replicas of `{target}` cannot be written: {source}")]
    Refused {
        /// The role.
        role: Role,
        /// The target's name.
        target: String,
        /// Its answer.
        source: kube::Error,
    },
    /// The kind cannot be scaled.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// A workload of another system was not written.
    #[error(transparent)]
    Workload(#[from] WorkloadError),
    /// Another process leads now.
    #[error("another process leads now")]
    NotLeading,
}

/// The writes of one object.
#[derive(Clone, Copy, Debug)]
pub struct Writes<'a> {
    /// Clients and leadership.
    pub context: &'a Context,
    /// The object.
    pub key: &'a ObjectRef<PDAutoscaler>,
    /// Its spec.
    pub spec: &'a PDAutoscalerSpec,
    /// The pods that go first.
    pub victims: &'a Victims<'a>,
}

impl Writes<'_> {
    /// Writes the replicas of `plan` where they differ from `current`. Gives the roles written.
    pub async fn make(
        &self,
        current: PerRole<u32>,
        plan: Plan,
    ) -> (Vec<Role>, Result<(), ScaleError>) {
        let (written, result) = self.replicas(current, plan).await;
        for role in Role::ALL {
            // Those that are lowered were marked before.
            if result.is_ok() && plan.replicas[role] >= current[role] {
                self.mark(role, current, plan).await;
            }
        }
        (written, result)
    }

    async fn replicas(
        &self,
        current: PerRole<u32>,
        plan: Plan,
    ) -> (Vec<Role>, Result<(), ScaleError>) {
        let mut written = Vec::new();
        let order = write_order(current, plan);
        let of_system = |role: &Role| is_of_system(&self.spec.role(*role).target);
        if !order.is_empty() && order.iter().all(of_system) {
            return self.of_systems(current, plan, &order).await;
        }
        for role in order {
            if of_system(&role) {
                let (more, result) = self.of_systems(current, plan, &[role]).await;
                written.extend(more);
                match result {
                    Ok(()) => continue,
                    Err(error) => return (written, Err(error)),
                }
            }
            let target = &self.spec.role(role).target;
            let kind = match kind(target) {
                Ok(kind) => kind,
                Err(error) => return (written, Err(TargetError::from(error).into())),
            };
            if plan.replicas[role] < current[role] {
                self.mark(role, current, plan).await;
            }
            let write = Write {
                context: self.context,
                namespace: self.namespace(),
                role,
                target,
                kind,
                expected: current[role],
                replicas: plan.replicas[role],
            };
            match write.run().await {
                Ok(()) => written.push(role),
                Err(error) => return (written, Err(error)),
            }
        }
        (written, Ok(()))
    }

    /// Writes the replicas of `roles`, whose workloads are of other systems: both at once where one
    /// object holds them.
    async fn of_systems(
        &self,
        current: PerRole<u32>,
        plan: Plan,
        roles: &[Role],
    ) -> (Vec<Role>, Result<(), ScaleError>) {
        for &role in roles {
            if plan.replicas[role] < current[role] {
                self.mark(role, current, plan).await;
            }
        }
        let wanted = roles.iter().map(|&role| Wanted {
            target: self.spec.role(role).target.of_side(role),
            from: current[role],
            to: plan.replicas[role],
        });
        let wanted: Vec<Wanted> = wanted.collect();
        let context = self.context;
        let is_leader = || context.is_leader();
        let writing = workload::write::write(&context.client, self.namespace(), &wanted, is_leader);
        // Boxed, for its many requests make the future large.
        let (written, result) = Box::pin(writing).await;
        let result = result.map_err(|error| match error {
            WorkloadError::NotLeading => ScaleError::NotLeading,
            error => error.into(),
        });
        (written, result)
    }

    /// Marks the pods of `role` that go first. A scale-down does not wait for that to succeed.
    async fn mark(&self, role: Role, current: PerRole<u32>, plan: Plan) {
        let marking = self.victims.mark(role, current[role], plan.replicas[role]);
        // Boxed, for its many requests make the future large.
        let Some(marked) = Box::pin(marking).await else {
            return;
        };
        let error = marked.err().map(|error| error.to_string());
        if let Some(error) = &error {
            let (namespace, name) = (self.namespace(), &self.key.name);
            warn!(error, namespace, name, "pods that go first are not marked");
            self.context.metrics.api_failed("pod");
        }
        self.context
            .update(self.key, |state| state.unmarked = error);
    }

    fn namespace(&self) -> &str {
        self.key.namespace.as_deref().unwrap_or_default()
    }
}

/// Roles that change, those that grow first.
fn write_order(current: PerRole<u32>, plan: Plan) -> Vec<Role> {
    let mut roles: Vec<Role> = Role::ALL
        .into_iter()
        .filter(|&role| current[role] != plan.replicas[role])
        .collect();
    roles.sort_by_key(|&role| plan.replicas[role] < current[role]);
    roles
}

struct Write<'a> {
    context: &'a Context,
    namespace: &'a str,
    role: Role,
    target: &'a TargetReference,
    kind: TargetKind,
    expected: u32,
    replicas: u32,
}

impl Write<'_> {
    async fn run(&self) -> Result<(), ScaleError> {
        for _ in 0..VERSION_RETRIES {
            let scale = within_limit(self.get()).await;
            let scale = scale.map_err(|source| self.refused(source))?;
            let found = scale.spec.and_then(|spec| spec.replicas).unwrap_or(0);
            let found = u32::try_from(found).unwrap_or(0);
            if found != self.expected {
                let (role, target, expected) = (self.role, self.target.name.clone(), self.expected);
                return Err(ScaleError::Conflict {
                    role,
                    target,
                    found,
                    expected,
                });
            }
            // Right before the write: the read may have taken longer than a term lasts.
            if !self.context.is_leader() {
                return Err(ScaleError::NotLeading);
            }
            match within_limit(self.put(scale.metadata.resource_version)).await {
                Ok(()) => return Ok(()),
                // Something else of the object changed, perhaps its status: look again.
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(source) => return Err(self.refused(source)),
            }
        }
        Err(ScaleError::VersionConflict {
            role: self.role,
            target: self.target.name.clone(),
        })
    }

    fn refused(&self, source: kube::Error) -> ScaleError {
        ScaleError::Refused {
            role: self.role,
            target: self.target.name.clone(),
            source,
        }
    }

    async fn get(&self) -> Result<Scale, kube::Error> {
        self.api().get_scale(&self.target.name).await
    }

    async fn put(&self, resource_version: Option<String>) -> Result<(), kube::Error> {
        let params = PatchParams {
            field_manager: Some(crate::NAME.to_owned()),
            ..PatchParams::default()
        };
        let patch = Patch::Merge(json!({
            "metadata": { "resourceVersion": resource_version },
            "spec": { "replicas": self.replicas },
        }));
        let name = &self.target.name;
        let request = kube::core::Request::new(self.api().resource_url().to_owned());
        let request = request.patch_subresource("scale", name, &params, &patch);
        let request = ending(request.map_err(kube::Error::BuildRequest)?)?;
        let written = self.context.client.request::<Scale>(request).await;
        written.map(drop)
    }

    /// The API of the target's kind. Its own type does not matter: `/scale` looks the same for all.
    fn api(&self) -> Api<DynamicObject> {
        let resource = match self.kind {
            TargetKind::Deployment => ApiResource::erase::<Deployment>(&()),
            TargetKind::StatefulSet => ApiResource::erase::<StatefulSet>(&()),
        };
        Api::namespaced_with(self.context.client.clone(), self.namespace, &resource)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grows_is_written_before_what_shrinks() {
        let current = PerRole {
            prefill: 4,
            decode: 2,
        };
        let plan = |prefill, decode| Plan {
            replicas: PerRole { prefill, decode },
        };
        assert_eq!(
            write_order(current, plan(2, 4)),
            vec![Role::Decode, Role::Prefill]
        );
        assert_eq!(
            write_order(current, plan(6, 1)),
            vec![Role::Prefill, Role::Decode]
        );
        assert_eq!(write_order(current, plan(4, 3)), vec![Role::Decode]);
        assert_eq!(write_order(current, plan(4, 2)), vec![]);
        // To zero and back both are written; what a failed write left is written by the next
        // reconcile.
        assert_eq!(
            write_order(current, plan(0, 0)),
            vec![Role::Prefill, Role::Decode]
        );
        let alone = PerRole {
            prefill: 0,
            decode: 2,
        };
        assert_eq!(write_order(alone, plan(0, 0)), vec![Role::Decode]);
        assert_eq!(write_order(alone, plan(1, 2)), vec![Role::Prefill]);
    }
}
