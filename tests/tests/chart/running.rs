//! The real controller under the chart: the rendered arguments, the chart's service account,
//! nothing else.
//!
//! It gets two workloads below their minimum, and no Prometheus. So it must read, scale, write
//! status and events and hold its lease; anything the chart's roles forget shows as a refusal in
//! its log.

use std::time::Duration;

use k8s_openapi::api::{
    apps::v1::Deployment, autoscaling::v1::Scale, coordination::v1::Lease, events::v1::Event,
};
use kube::{Api, Client, api::ListParams};
use pd_api::v1alpha1::PDAutoscaler;
use pd_tests::{
    binaries::workspace_binary,
    chart::Installed,
    control_plane::{ControlPlane, Namespace, eventually},
    supervisor::{ProcessSpec, Signal},
};
use serde_json::{Value, json};

const DEADLINE: Duration = Duration::from_mins(1);

/// Runs the controller until it has scaled two workloads in `namespace`.
pub(crate) async fn controls(
    plane: &ControlPlane,
    installed: &Installed,
    namespace: &Namespace<'_>,
) {
    for role in ["prefill", "decode"] {
        namespace.apply(&workload(role).to_string()).await.unwrap();
    }
    namespace.apply(&autoscaler().to_string()).await.unwrap();
    let program = tokio::task::spawn_blocking(|| workspace_binary("pd-autoscaler"));
    let spec = ProcessSpec {
        name: format!("{}-controller", installed.namespace),
        program: program.await.unwrap().unwrap(),
        arguments: installed.command_line(&[
            ("--interval", "1s"),
            ("--prometheus-url", "http://127.0.0.1:9"),
        ]),
        environment: vec![],
        log: None,
    };
    let process = plane.spawn(spec).await.unwrap();

    let client = plane.client().await.unwrap();
    let worked = eventually(
        "the controller to scale and to tell",
        DEADLINE,
        async || {
            done(&client, installed, namespace.name())
                .await
                .map_err(|seen| format!("{seen}\n{}", process.log_tail()))
        },
    );
    worked.await.unwrap();
    process.signal(Signal::Terminate).unwrap();
    assert!(
        process.wait_exit(DEADLINE).await.unwrap(),
        "{}",
        process.log_tail()
    );
    let log = process.log();
    let refused: Vec<&str> = log
        .lines()
        .filter(|line| line.to_lowercase().contains("forbidden"))
        .collect();
    assert!(refused.is_empty(), "{refused:#?}");
    namespace
        .kubectl(&["delete", "pda,deployments", "--all"])
        .await
        .unwrap();
}

/// The work that the controller should have done, or the part that is missing. Looked at while it
/// runs: at its end it clears the lease.
async fn done(client: &Client, installed: &Installed, namespace: &str) -> Result<(), String> {
    let text = |error: kube::Error| error.to_string();
    for role in ["prefill", "decode"] {
        let deployments = Api::<Deployment>::namespaced(client.clone(), namespace);
        let scale: Scale = deployments.get_scale(role).await.map_err(text)?;
        let replicas = scale.spec.and_then(|spec| spec.replicas);
        if replicas != Some(2) {
            return Err(format!("{role} has {replicas:?} replicas"));
        }
    }
    let object = Api::<PDAutoscaler>::namespaced(client.clone(), namespace)
        .get("llama")
        .await
        .map_err(text)?;
    let status = serde_json::to_value(object.status).map_err(|error| error.to_string())?;
    let conditions = status["conditions"]
        .as_array()
        .map_or(&[] as &[Value], Vec::as_slice);
    if !conditions
        .iter()
        .any(|found| found["type"] == "MetricsAvailable" && found["status"] == "False")
    {
        return Err(format!("status is {status}"));
    }
    let events = Api::<Event>::namespaced(client.clone(), namespace);
    let events = events.list(&ListParams::default()).await.map_err(text)?;
    if !events
        .items
        .iter()
        .any(|event| event.reporting_controller.as_deref() == Some("pd-autoscaler"))
    {
        return Err("no event".to_owned());
    }
    let leases = Api::<Lease>::namespaced(client.clone(), &installed.namespace);
    let name = installed.lease();
    let lease = leases.get(name).await.map_err(text)?;
    let holder = lease
        .spec
        .and_then(|spec| spec.holder_identity)
        .filter(|holder| !holder.is_empty());
    holder
        .map(|_| ())
        .ok_or_else(|| "nobody holds the lease".to_owned())
}

fn workload(name: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": name },
        "spec": {
            "replicas": 1,
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": { "containers": [{ "name": "engine", "image": "engine" }] },
            },
        },
    })
}

fn autoscaler() -> Value {
    let role = |name: &str| {
        json!({
            "target": { "apiVersion": "apps/v1", "kind": "Deployment", "name": name },
            "minReplicas": 2, "maxReplicas": 4, "gpusPerReplica": 1,
        })
    };
    json!({
        "apiVersion": "pdautoscaler.io/v1alpha1", "kind": "PDAutoscaler",
        "metadata": { "name": "llama" },
        "spec": {
            "prefill": role("prefill"),
            "decode": role("decode"),
            "objective": { "ttft": { "target": "500ms" }, "tpot": { "target": "50ms" } },
        },
    })
}
