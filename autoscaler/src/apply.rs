//! The fourth step: replicas are written, unless something forbids it.
//!
//! A plan is held back when it fails the audit, in mode Recommend, and when somebody else scales a
//! target or that cannot be known. Leadership is checked right before each write.

pub mod scale;
pub mod victims;

use kube::runtime::reflector::ObjectRef;
use pd_api::v1alpha1::{Mode, PDAutoscaler, PDAutoscalerSpec};

use self::victims::Victims;
use crate::{
    context::Context,
    observe::Observed,
    outcome::{Applied, ApplyOutcome},
    plan::Planned,
};

/// Applies the plan. Nothing is dropped on the way: a field that is added to an earlier step does
/// not compile until it is used here.
pub async fn apply(
    context: &Context,
    key: &ObjectRef<PDAutoscaler>,
    planned: Planned<'_>,
) -> Box<Applied> {
    let Planned {
        observed,
        decision,
        findings,
        ..
    } = planned;
    let Observed {
        object,
        snapshot,
        contender,
        stated,
        sources,
        metrics_error,
        annotation_errors,
        members: _,
        drain,
    } = observed;
    let outcome = match contender {
        // A plan that breaks an invariant is a bug, which matters more than anything else here.
        _ if !findings.is_empty() => ApplyOutcome::AuditFailed(findings),
        // Nothing is written, so that whoever else scales a target is no hindrance: beside an
        // autoscaler that is to be replaced is where this mode is used.
        contender if object.spec.mode == Mode::Recommend => {
            ApplyOutcome::Recommended(contender.ok().flatten())
        }
        // Two autoscalers make replicas jump, so that not knowing is as good as a reason to wait.
        Err(error) => ApplyOutcome::ContentionUnknown(error),
        Ok(Some(contender)) => ApplyOutcome::Contended(contender),
        Ok(None) => {
            let current = snapshot.roles.map(|state| state.current);
            let namespace = key.namespace.as_deref().unwrap_or_default();
            let victims = Victims::new(context, namespace, &object.spec, &drain);
            let writes = scale::Writes {
                context,
                key,
                spec: &object.spec,
                victims: &victims,
            };
            let (written, result) = writes.make(current, decision.plan).await;
            match result {
                Ok(()) => ApplyOutcome::Applied(written),
                Err(error) => ApplyOutcome::Failed(written, error),
            }
        }
    };
    Box::new(Applied {
        snapshot,
        decision,
        stated,
        sources,
        metrics_error,
        annotation_errors,
        unmarked: unmarked(context, key, &object.spec),
        drain,
        outcome,
    })
}

/// Why the pods that go first could not be marked, where they are chosen.
fn unmarked(
    context: &Context,
    key: &ObjectRef<PDAutoscaler>,
    spec: &PDAutoscalerSpec,
) -> Option<String> {
    if !victims::are_chosen(spec) {
        context.update(key, |state| state.unmarked = None);
    }
    context.read(key, |state| state.unmarked.clone())
}
