//! A taint changes, and the scheduler asks an extender that has not heard of it yet.
//!
//! The extender's watch is held back, so that it always loses. Alone, the pod would wait until
//! something else happens or five minutes are over; the controllers wake it.

#![expect(clippy::unwrap_used, reason = "a failed step of a test ends it")]

use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use pd_tests::{
    add_ons::{ExtenderPort, start_control},
    control_plane::{ControlPlane, NodeSpec, Options, eventually},
    late::LateWatches,
    supervisor::Process,
};
use pd_tolerations::{Effect, Taint, Toleration, rewrite};
use serde_json::{Value, json};

/// Longer than the scheduler backs off after a first refusal.
const LATE: Duration = Duration::from_secs(3);
const DEADLINE: Duration = Duration::from_mins(1);

/// As the webhook would store it, but without affinity, so that the extender alone decides.
fn pod(name: &str, bound: &str) -> Value {
    let numeric: Toleration = serde_json::from_value(
        json!({ "key": "sla", "operator": "Gt", "value": bound, "effect": "NoSchedule" }),
    )
    .unwrap();
    let (tolerations, originals) = rewrite::rewrite(&[numeric]);
    json!({
        "metadata": {
            "name": name, "namespace": "default",
            "annotations": { rewrite::ANNOTATION: serde_json::to_string(&originals).unwrap() },
        },
        "spec": {
            "containers": [{ "name": "c", "image": "x" }],
            "nodeSelector": { "kubernetes.io/hostname": format!("{name}-0") },
            "tolerations": tolerations,
        },
    })
}

struct Story {
    plane: ControlPlane,
    pods: Api<Pod>,
    nodes: Api<Node>,
    port: ExtenderPort,
    extender: Process,
}

impl Story {
    async fn state(&self, name: &str) -> (Option<String>, Option<String>) {
        let pod = self.pods.get(name).await.unwrap();
        let conditions = pod
            .status
            .unwrap_or_default()
            .conditions
            .unwrap_or_default();
        let refused = conditions
            .into_iter()
            .find(|one| one.reason.as_deref() == Some("Unschedulable"));
        (
            pod.spec.unwrap().node_name,
            refused.and_then(|one| one.message),
        )
    }

    /// A node that is not good enough, and a pod that waits for it.
    async fn refused(&self, name: &str) {
        let spec = NodeSpec {
            prefix: name.to_owned(),
            ..NodeSpec::default()
        };
        self.plane.add_nodes(&spec).await.unwrap();
        self.change(name, "800").await;
        self.until_known(name, "700").await;
        let pod: Pod = serde_json::from_value(pod(name, "900")).unwrap();
        self.pods
            .create(&PostParams::default(), &pod)
            .await
            .unwrap();
        eventually(
            "the extender to refuse the pod",
            DEADLINE,
            async || match self.state(name).await {
                (None, Some(message)) if message.contains("taint sla") => Ok(()),
                state => Err(format!("{state:?}")),
            },
        )
        .await
        .unwrap();
    }

    async fn change(&self, name: &str, value: &str) {
        let taint = Taint::new("sla", value, Effect::NoSchedule);
        let patch = json!({ "spec": { "taints": [taint] } });
        let node = format!("{name}-0");
        self.nodes
            .patch(&node, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .unwrap();
    }

    /// Waits until the extender knows that the node's value is above `bound`.
    async fn until_known(&self, name: &str, bound: &str) {
        let (pod, node) = (pod(name, bound), format!("{name}-0"));
        self.port
            .until_it_fits(&self.extender, &pod, &[&node])
            .await
            .unwrap();
    }

    async fn until_bound(&self, name: &str) {
        eventually(
            &format!("{name} to be bound"),
            DEADLINE,
            async || match self.state(name).await {
                (Some(_), _) => Ok(()),
                state => Err(format!("{state:?}")),
            },
        )
        .await
        .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_a_late_extender_refused_is_tried_again() {
    let port = ExtenderPort::reserve().unwrap();
    let plane = ControlPlane::start(Options {
        kwok: false,
        controller_manager: false,
        api_server_arguments: vec![
            "--disable-admission-plugins=TaintNodesByCondition,ServiceAccount".to_owned(),
        ],
        scheduler_extenders: vec![port.configuration()],
        ..Options::default()
    })
    .await
    .unwrap();
    let late = LateWatches::start(&plane, LATE).await.unwrap();
    let extender = port.start_as(&plane, late.kubeconfig()).await.unwrap();
    let client = plane.client().await.unwrap();
    let story = Story {
        pods: Api::default_namespaced(client.clone()),
        nodes: Api::all(client),
        port,
        extender,
        plane,
    };
    // The race is real: the scheduler has tried again and the extender knows better now, but nobody
    // asks it.
    story.refused("alone").await;
    story.change("alone", "950").await;
    story.until_known("alone", "900").await;
    assert!(
        matches!(story.state("alone").await, (None, Some(_))),
        "{:?}",
        story.state("alone").await
    );
    // A new leader does not know what was changed before it led, and wakes what fits.
    let control = start_control(&story.plane, &[]).await.unwrap();
    story.until_bound("alone").await;
    // And whoever leads wakes what a change makes fit, as often as it takes.
    story.refused("led").await;
    story.change("led", "950").await;
    story.until_bound("led").await;
    assert!(
        control.log().contains("pod woken"),
        "{}",
        control.log_tail()
    );
}
