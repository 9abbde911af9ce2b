//! Marking the pods that go first, right before replicas are lowered, and taking old marks away.
//!
//! A mark is the annotation `controller.kubernetes.io/pod-deletion-cost` of a pod of the target,
//! and is the only thing that is ever written to a pod. It is an improvement and no condition of
//! the scale-down: where it cannot be written, the workload's controller chooses, and the report
//! says so.

use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use pd_api::v1alpha1::{PDAutoscalerSpec, behavior::VictimsKind};
use pd_core::Role;
use pd_systems::victims::{CostEdit, DELETION_COST, cost_edits};
use serde_json::json;

use crate::{answer::within_limit, context::Context, observe::drain::Drain};

/// Marks that are written at once.
const AT_ONCE: usize = 10;

/// The marks of one object's pods.
#[derive(Debug)]
pub struct Victims<'a> {
    context: &'a Context,
    namespace: &'a str,
    drain: &'a Drain,
    /// Whether pods are chosen; otherwise old marks alone are taken away.
    chooses: bool,
}

/// Whether `spec` has the pods chosen that go first.
pub fn are_chosen(spec: &PDAutoscalerSpec) -> bool {
    let drain = spec.behavior.scale_down.drain.as_ref();
    drain.is_some_and(|drain| drain.victims == VictimsKind::LeastWork)
}

impl<'a> Victims<'a> {
    /// The marks of the pods in `namespace` that `drain` is about, as `spec` wants them.
    pub fn new(
        context: &'a Context,
        namespace: &'a str,
        spec: &PDAutoscalerSpec,
        drain: &'a Drain,
    ) -> Self {
        Self {
            context,
            namespace,
            drain,
            chooses: are_chosen(spec),
        }
    }

    /// Marks those of `role` that go when its replicas are lowered from `from` to `to`, and takes
    /// marks away that mislead. Gives what was tried, if anything was.
    pub async fn mark(&self, role: Role, from: u32, to: u32) -> Option<Result<(), MarkError>> {
        let ranked = &self.drain.ranked[role];
        let is_marked = ranked
            .iter()
            .any(|replica| replica.cost.is_some_and(|cost| cost.is_ours));
        let lowers = self.chooses && to < from;
        if !lowers && !is_marked {
            return None;
        }
        // The controller removes as many as there are beyond those wanted.
        let wanted = usize::try_from(to).unwrap_or(usize::MAX);
        let fewer = if self.chooses {
            ranked.len().saturating_sub(wanted)
        } else {
            0
        };
        let edits = cost_edits(ranked, &self.drain.work[role], fewer);
        if edits.is_empty() {
            return None;
        }
        for some in edits.chunks(AT_ONCE) {
            let written = join_all(some.iter().map(|edit| self.write(edit))).await;
            if let Some(source) = written.into_iter().find_map(Result::err) {
                return Some(Err(MarkError { role, source }));
            }
        }
        Some(Ok(()))
    }

    async fn write(&self, edit: &CostEdit) -> Result<(), kube::Error> {
        // Right before each write; whoever leads now marks for itself.
        if !self.context.is_leader() {
            return Ok(());
        }
        let api: Api<Pod> = Api::namespaced(self.context.client.clone(), self.namespace);
        let params = PatchParams {
            field_manager: Some(crate::NAME.to_owned()),
            ..PatchParams::default()
        };
        let cost = edit.cost.map(|cost| cost.to_string());
        let patch = Patch::Merge(json!({ "metadata": { "annotations": { DELETION_COST: cost } } }));
        match within_limit(api.patch_metadata(&edit.pod, &params, &patch)).await {
            Ok(_) => Ok(()),
            // It is gone already.
            Err(kube::Error::Api(answer)) if answer.code == 404 => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// The pods that go first could not all be marked.
#[derive(Debug, thiserror::Error)]
#[error(
    "pods of {role} could not be marked as those that go first, so that the workload's controller chooses: {source}; where rights are missing, set `drain.enabled` in the chart"
)]
pub struct MarkError {
    role: Role,
    source: kube::Error,
}
