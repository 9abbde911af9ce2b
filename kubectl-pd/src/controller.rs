//! Controllers as their Deployments show them: where, as whom, and with which flags.
//!
//! Everything comes from the object that the chart makes: its labels find it, its arguments say
//! which objects it handles, whose Lease it holds and which Prometheus it asks. Pure.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{apps::v1::Deployment, coordination::v1::Lease};
use kube::ResourceExt as _;
use pd_api::v1alpha1::PDAutoscaler;

/// Labels of the chart's controllers.
pub const LABELS: &str =
    "app.kubernetes.io/part-of=pdautoscaler,app.kubernetes.io/component=autoscaler";

/// Terms of a Lease that may have passed since its renewal before it counts as lost: one, and
/// another for clocks that differ.
const TERMS_MAX: i32 = 2;

/// Term of a Lease that does not say, seconds: the default of the controller's flag.
const TERM_SECONDS: i32 = 15;

/// A controller with its Lease: nothing where there is none, an error where it cannot be read.
pub type WithLease = (Controller, Result<Option<Lease>, String>);

/// A controller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Controller {
    /// Its namespace.
    pub namespace: String,
    /// Name of its Deployment.
    pub name: String,
    /// Pods that it shall have.
    pub wanted: i32,
    /// Pods that are ready.
    pub ready: i32,
    /// Its service account.
    pub service_account: String,
    /// Namespace and name of its Lease; nothing without leader election.
    pub lease: Option<(String, String)>,
    /// The Prometheus server that it asks, where it is given by a flag.
    pub prometheus_url: Option<String>,
    /// The namespace that it handles; all without.
    pub watch_namespace: Option<String>,
    /// The class that it handles; objects without one otherwise.
    pub class: Option<String>,
    /// Label that holds a pod's namespace.
    pub namespace_label: String,
    /// Label that holds a pod's name.
    pub pod_label: String,
}

impl Controller {
    /// The controller of a Deployment.
    pub fn of(deployment: &Deployment) -> Self {
        let spec = deployment.spec.clone().unwrap_or_default();
        let pod = spec.template.spec.unwrap_or_default();
        let args: Vec<String> = pod
            .containers
            .into_iter()
            .next()
            .and_then(|container| container.args)
            .unwrap_or_default();
        let flag = |name: &str| flag(&args, name);
        let namespace = deployment.namespace().unwrap_or_default();
        let lease_namespace =
            flag("leader-election-namespace").unwrap_or_else(|| namespace.clone());
        let elects = flag("leader-elect").is_none_or(|value| value != "false");
        Self {
            name: deployment.name_any(),
            wanted: spec.replicas.unwrap_or(1),
            ready: deployment
                .status
                .clone()
                .unwrap_or_default()
                .ready_replicas
                .unwrap_or(0),
            service_account: pod
                .service_account_name
                .unwrap_or_else(|| "default".to_owned()),
            lease: flag("leader-election-lease")
                .filter(|_| elects)
                .map(|name| (lease_namespace, name)),
            prometheus_url: flag("prometheus-url"),
            watch_namespace: flag("watch-namespace"),
            class: flag("controller-class"),
            namespace_label: flag("namespace-label").unwrap_or_else(|| "namespace".to_owned()),
            pod_label: flag("pod-label").unwrap_or_else(|| "pod".to_owned()),
            namespace,
        }
    }

    /// Whether it handles `object`, as far as namespace and class say.
    pub fn handles(&self, object: &PDAutoscaler) -> bool {
        let class = |text: &Option<String>| text.clone().unwrap_or_default();
        let watched = self.watch_namespace.as_ref();
        watched.is_none_or(|watched| Some(watched) == object.namespace().as_ref())
            && class(&self.class) == class(&object.spec.controller_class)
    }

    /// The Deployment, as a sentence names it.
    pub fn named(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// The value of a flag, which the chart writes as one word.
fn flag(args: &[String], name: &str) -> Option<String> {
    let beginning = format!("--{name}=");
    let value = args.iter().find_map(|arg| arg.strip_prefix(&beginning))?;
    (!value.is_empty()).then(|| value.to_owned())
}

/// Who holds `lease` now, or why nobody does.
pub fn holder(lease: Option<&Lease>, now: Timestamp) -> Result<String, String> {
    let Some(spec) = lease.and_then(|lease| lease.spec.as_ref()) else {
        return Err("it does not exist: no controller has ever led".to_owned());
    };
    let holder = spec.holder_identity.clone().unwrap_or_default();
    let Some(renewed) = spec.renew_time.as_ref().filter(|_| !holder.is_empty()) else {
        return Err("nobody holds it: the last leader gave it back".to_owned());
    };
    let term = spec.lease_duration_seconds.unwrap_or(TERM_SECONDS).max(1);
    let since = now.duration_since(renewed.0);
    if since > SignedDuration::from_secs(i64::from(term.saturating_mul(TERMS_MAX))) {
        return Err(format!(
            "`{holder}` renewed it {} s ago, and its term is {term} s",
            since.as_secs()
        ));
    }
    Ok(holder)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::tests::samples::{NOW, controller, object};

    fn lease(spec: &Value) -> Lease {
        serde_json::from_value(json!({ "metadata": {}, "spec": spec })).unwrap()
    }

    #[test]
    fn flags_of_the_chart_are_read() {
        let controller = controller();
        assert_eq!(controller.named(), "pd-system/pd-autoscaler");
        let lease = ("pd-system".to_owned(), "pd-autoscaler".to_owned());
        assert_eq!(controller.lease, Some(lease));
        assert_eq!(
            controller.prometheus_url.as_deref(),
            Some("http://prometheus.monitoring:9090")
        );
        assert_eq!((controller.wanted, controller.ready), (2, 2));
    }

    #[test]
    fn an_object_of_another_class_or_namespace_is_not_handled() {
        let object = object("steady");
        assert!(controller().handles(&object));
        let other = Controller {
            class: Some("blue".to_owned()),
            ..controller()
        };
        assert!(!other.handles(&object));
        let elsewhere = Controller {
            watch_namespace: Some("other".to_owned()),
            ..controller()
        };
        assert!(!elsewhere.handles(&object));
    }

    #[rstest]
    #[case::held(json!({"holderIdentity": "a", "leaseDurationSeconds": 15, "renewTime": "2026-11-30T11:59:50.000000Z"}), "a")]
    #[case::a_clock_ahead(json!({"holderIdentity": "a", "leaseDurationSeconds": 15, "renewTime": "2026-11-30T12:00:40.000000Z"}), "a")]
    #[case::lost(json!({"holderIdentity": "a", "leaseDurationSeconds": 15, "renewTime": "2026-11-30T11:59:00.000000Z"}), "renewed it 60 s ago")]
    #[case::given_back(json!({"holderIdentity": "", "renewTime": "2026-11-30T11:59:59.000000Z"}), "nobody holds it")]
    #[case::never_renewed(json!({"holderIdentity": "a"}), "nobody holds it")]
    fn a_lease_is_held_while_it_is_renewed(#[case] spec: Value, #[case] want: &str) {
        let found = holder(Some(&lease(&spec)), NOW);
        let text = found.unwrap_or_else(|why| why);
        assert!(text.contains(want), "{text}");
    }

    #[test]
    fn a_lease_that_is_not_there_was_never_held() {
        assert!(holder(None, NOW).unwrap_err().contains("does not exist"));
    }
}
