//! One attempt to carry an request out: look again, mark the pod, delete it.
//!
//! The pod and its node are read from the API server itself, not from a cache. The pod goes only if
//! what is read bears the request out: the same UID, and taints that it still does not tolerate, or
//! no longer than it was given. Everything else spares it, for the watch will soon say the same and
//! then the queue knows.
//!
//! Marking and deleting are what the taint-eviction controller does: condition `DisruptionTarget`
//! with its reason, then a plain delete; or the eviction API, where disruption budgets count, and
//! the API server marks the pod itself. Both name the UID, so that another pod of the same name is
//! not touched. They do not name the resource version: the kubelet reports every few seconds, and
//! each report would spare the pod once more.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use kube::{
    Api, Resource as _, ResourceExt as _,
    api::{DeleteParams, EvictParams, Patch, PostParams, Preconditions},
    runtime::events::{Event, EventType},
};
use pd_tolerations::eviction::{
    TolerationPeriod,
    request::{EvictionRequest, PodId, RequestOutcome},
    rules::Because,
};
use serde_json::json;
use tokio::time::timeout;

use strum::IntoStaticStr;

use super::{
    super::{
        Context, Term,
        objects::{WatchedNode, WatchedPod},
    },
    args::EvictionMethod,
    rules,
};

/// How long one attempt may take.
const LIMIT: Duration = Duration::from_secs(20);

/// The result of an attempt.
#[derive(Debug)]
pub struct Done {
    /// The request.
    pub request: EvictionRequest,
    /// How it ended.
    pub outcome: EvictionOutcome,
    /// How long after the deadline that was.
    pub late: Duration,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum EvictionOutcome {
    /// The pod was deleted.
    Deleted,
    /// The eviction API took it.
    Evicted,
    /// Either of both, as a dry run.
    DryRun,
    /// Somebody else was faster.
    Gone,
    /// A disruption budget does not allow it yet.
    Refused,
    /// The pod may stay, by what the API server says now.
    Spared,
    /// It did not work.
    Failed,
}

impl EvictionOutcome {
    /// A word for labels of metrics.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Whether the pod leaves because of us.
    pub const fn is_our_doing(self) -> bool {
        matches!(self, Self::Deleted | Self::Evicted | Self::DryRun)
    }

    /// The outcome as the queue takes it.
    pub const fn request_outcome(self) -> RequestOutcome {
        match self {
            Self::Deleted | Self::Evicted | Self::DryRun | Self::Gone => RequestOutcome::Leaves,
            Self::Refused => RequestOutcome::Refused,
            Self::Spared | Self::Failed => RequestOutcome::Failed,
        }
    }
}

/// Carries `request` out, if it is still right.
pub async fn carry_out(context: &Context, term: &Term, mut request: EvictionRequest) -> Done {
    let outcome = match timeout(LIMIT, attempt(context, term, &mut request)).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(error)) => {
            let PodId {
                namespace, name, ..
            } = &request.pod;
            tracing::warn!(namespace, pod = name, attempt = request.attempt, %error, "pod cannot be evicted");
            EvictionOutcome::Failed
        }
        Err(_) => EvictionOutcome::Failed,
    };
    report(context, &request, outcome).await;
    Done {
        request,
        outcome,
        late: Duration::ZERO,
    }
}

async fn attempt(
    context: &Context,
    term: &Term,
    request: &mut EvictionRequest,
) -> Result<EvictionOutcome, kube::Error> {
    let pods = Api::<WatchedPod>::namespaced(context.client.clone(), &request.pod.namespace);
    let Some(pod) = pods.get_opt(&request.pod.name).await? else {
        return Ok(EvictionOutcome::Gone);
    };
    let is_another = pod.uid().as_ref() != Some(&request.pod.uid);
    if is_another || pod.meta().deletion_timestamp.is_some() {
        return Ok(EvictionOutcome::Gone);
    }
    if !matches!(request.because, Because::Group { .. }) {
        let nodes = Api::<WatchedNode>::all(context.client.clone());
        let node = nodes.get_opt(&request.node).await?;
        match bears_out(&pod, node.as_ref(), &request.because) {
            Some(because) => request.because = because,
            None => return Ok(EvictionOutcome::Spared),
        }
    }
    if !term.may_write() {
        return Ok(EvictionOutcome::Spared);
    }
    match context.args.eviction.eviction_method {
        EvictionMethod::Delete => delete(context, request).await,
        EvictionMethod::Evict => evict(context, request).await,
    }
}

/// Why the pod has to go by what the API server says now; nothing if it may stay.
fn bears_out(pod: &WatchedPod, node: Option<&WatchedNode>, ordered: &Because) -> Option<Because> {
    let ran_out = matches!(ordered, Because::Bounded { seconds, .. } if *seconds > 0);
    let Some(node) = node else {
        // A deadline outlives its node, as it does upstream.
        return ran_out.then(|| ordered.clone());
    };
    let judgement = rules(pod).ok()??.judge(node.taints());
    match judgement.period {
        TolerationPeriod::Over => judgement.because,
        TolerationPeriod::For(_) if ran_out => judgement.because,
        TolerationPeriod::For(_) | TolerationPeriod::Forever => None,
    }
}

async fn delete(
    context: &Context,
    request: &EvictionRequest,
) -> Result<EvictionOutcome, kube::Error> {
    let pods = Api::<Pod>::namespaced(context.client.clone(), &request.pod.namespace);
    let name = &request.pod.name;
    let patch = Patch::Strategic(condition(request));
    let marked = pods
        .patch_status(name, &context.patch_params(), &patch)
        .await;
    if let Some(outcome) = missing(marked.as_ref().err()) {
        return Ok(outcome);
    }
    marked?;
    let deleted = pods.delete(name, &delete_params(context, request)).await;
    if let Some(outcome) = missing(deleted.as_ref().err()) {
        return Ok(outcome);
    }
    deleted?;
    Ok(if context.args.control.dry_run {
        EvictionOutcome::DryRun
    } else {
        EvictionOutcome::Deleted
    })
}

async fn evict(
    context: &Context,
    request: &EvictionRequest,
) -> Result<EvictionOutcome, kube::Error> {
    let pods = Api::<Pod>::namespaced(context.client.clone(), &request.pod.namespace);
    let dry_run = context.args.control.dry_run;
    let params = EvictParams {
        delete_options: Some(delete_params(context, request)),
        post_options: PostParams {
            dry_run,
            ..PostParams::default()
        },
    };
    match pods.evict(&request.pod.name, &params).await {
        Ok(_) if dry_run => Ok(EvictionOutcome::DryRun),
        Ok(_) => Ok(EvictionOutcome::Evicted),
        Err(kube::Error::Api(status)) if status.code == 429 => Ok(EvictionOutcome::Refused),
        Err(error) => missing(Some(&error)).ok_or(error),
    }
}

fn delete_params(context: &Context, request: &EvictionRequest) -> DeleteParams {
    DeleteParams {
        dry_run: context.args.control.dry_run,
        preconditions: Some(Preconditions {
            uid: Some(request.pod.uid.clone()),
            resource_version: None,
        }),
        ..DeleteParams::default()
    }
}

/// Upstream's condition, with our reason behind its words. The UID makes it a condition of this
/// very pod.
fn condition(request: &EvictionRequest) -> serde_json::Value {
    let message = format!(
        "Taint manager: deleting due to NoExecute taint ({})",
        request.because
    );
    json!({
        "metadata": { "uid": request.pod.uid },
        "status": { "conditions": [{
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "DeletionByTaintManager",
            "message": message,
            "lastTransitionTime": jiff::Timestamp::now().round(jiff::Unit::Second).ok(),
        }] },
    })
}

/// The pod is not there any more; one of the same name may be.
fn missing(error: Option<&kube::Error>) -> Option<EvictionOutcome> {
    match error? {
        kube::Error::Api(status) if status.code == 404 => Some(EvictionOutcome::Gone),
        _ => None,
    }
}

async fn report(context: &Context, request: &EvictionRequest, outcome: EvictionOutcome) {
    let PodId {
        namespace, name, ..
    } = &request.pod;
    let because = &request.because;
    let outcome_text = outcome.as_str();
    tracing::info!(namespace, pod = name, %because, outcome = outcome_text, "request carried out");
    let note = match outcome {
        EvictionOutcome::Deleted | EvictionOutcome::Evicted => {
            format!("Marking for deletion Pod {namespace}/{name}: {because}")
        }
        EvictionOutcome::Refused if request.attempt == 0 => {
            format!(
                "Pod {namespace}/{name} has to go and waits for its disruption budget: {because}"
            )
        }
        _ => return,
    };
    publish(context, &request.pod, note).await;
}

/// Publishes an event under upstream's reason.
pub(super) async fn publish(context: &Context, pod: &PodId, note: String) {
    let about = ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        namespace: Some(pod.namespace.clone()),
        name: Some(pod.name.clone()),
        uid: Some(pod.uid.clone()),
        ..ObjectReference::default()
    };
    let event = Event {
        type_: EventType::Normal,
        reason: "TaintManagerEviction".to_owned(),
        note: Some(note),
        action: "Evicting".to_owned(),
        secondary: None,
    };
    context.publish(&about, &event).await;
}

#[cfg(test)]
mod tests {
    use pd_tolerations::{
        Effect, Taint, Toleration,
        rewrite::{ANNOTATION, rewrite},
    };
    use rstest::rstest;

    use super::*;

    fn taint(value: &str) -> Taint {
        Taint::new("sla", value, Effect::NoExecute)
    }

    /// Above 950 for ever, above 900 for a minute.
    fn pod() -> WatchedPod {
        let above = |value: &str, seconds| Toleration {
            key: "sla".to_owned(),
            operator: "Gt".into(),
            value: value.to_owned(),
            toleration_seconds: seconds,
            ..Toleration::default()
        };
        let (spec, originals) = rewrite(&[above("950", None), above("900", Some(60))]);
        let originals = serde_json::to_string(&originals).unwrap();
        serde_json::from_value(json!({
            "metadata": { "name": "p", "annotations": { ANNOTATION: originals } },
            "spec": { "tolerations": spec },
        }))
        .unwrap()
    }

    fn untolerated() -> Because {
        let wanted = Vec::new();
        let taint = taint("800");
        Because::Untolerated { taint, wanted }
    }

    fn ran_out(seconds: i64) -> Because {
        let taint = taint("940");
        Because::Bounded { taint, seconds }
    }

    #[rstest]
    #[case::still_too_low(untolerated(), Some("800"), true)]
    #[case::bounded_by_now(untolerated(), Some("940"), false)]
    #[case::tolerated_by_now(untolerated(), Some("960"), false)]
    #[case::no_taint_any_more(untolerated(), None, false)]
    #[case::ran_out(ran_out(60), Some("940"), true)]
    #[case::ran_out_and_too_low_by_now(ran_out(60), Some("800"), true)]
    #[case::ran_out_and_tolerated_by_now(ran_out(60), Some("960"), false)]
    #[case::had_no_time_and_has_some_now(ran_out(0), Some("940"), false)]
    fn what_the_api_server_says_decides(
        #[case] ordered: Because,
        #[case] value: Option<&str>,
        #[case] goes: bool,
    ) {
        let taints: Vec<Taint> = value.map(taint).into_iter().collect();
        let node = json!({ "metadata": { "name": "n" }, "spec": { "taints": taints } });
        let node: WatchedNode = serde_json::from_value(node).unwrap();
        assert_eq!(bears_out(&pod(), Some(&node), &ordered).is_some(), goes);
    }

    #[test]
    fn only_a_deadline_outlives_the_node_and_an_unreadable_pod_stays() {
        assert!(bears_out(&pod(), None, &ran_out(60)).is_some());
        assert!(bears_out(&pod(), None, &untolerated()).is_none());
        let node: WatchedNode = serde_json::from_value(
            json!({ "metadata": { "name": "n" }, "spec": { "taints": [taint("800")] } }),
        )
        .unwrap();
        let mut broken = pod();
        let annotations = broken.annotations_mut();
        annotations.insert(ANNOTATION.to_owned(), "[{}]".to_owned());
        assert!(bears_out(&broken, Some(&node), &untolerated()).is_none());
    }
}
