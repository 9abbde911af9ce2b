//! Two controllers of two classes on one cluster: each scales its own objects, and no others.
//!
//! No Prometheus is needed: minimum replicas hold without metrics.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, Client};
use pd_tests::{
    chart,
    control_plane::{Namespace, eventually, throughout},
    stage::{DEADLINE, StageError, autoscaler, prepared_cluster, run_controller, workload},
};
use serde_json::{Value, json};

/// `object` for the service `name` instead of `llama`.
fn renamed(object: &Value, name: &str) -> String {
    object.to_string().replace("llama", name)
}

/// A service with one replica of each role, and a PDAutoscaler with two at least.
async fn serve(namespace: &Namespace<'_>, name: &str, class: Value) -> Result<(), StageError> {
    for role in ["prefill", "decode"] {
        let mut workload = workload("Deployment", role, 1);
        // Two services in one namespace have two sets of pods.
        let template = &mut workload["spec"]["template"]["metadata"]["labels"];
        template["llm-d.ai/role"] = json!(format!("llama-{role}"));
        workload["spec"]["selector"]["matchLabels"]["llm-d.ai/role"] =
            json!(format!("llama-{role}"));
        namespace.apply(&renamed(&workload, name)).await?;
    }
    let least = json!({ "minReplicas": 2 });
    let change = json!({ "prefill": least, "decode": least, "controllerClass": class });
    let object = autoscaler("llama", "Deployment", &change);
    namespace.apply(&renamed(&object, name)).await?;
    Ok(())
}

async fn prefill_replicas(client: &Client, name: &str) -> Result<i32, String> {
    let deployments: Api<Deployment> = Api::default_namespaced(client.clone());
    let found = deployments.get(&format!("{name}-prefill")).await;
    let spec = found.map_err(|error| error.to_string())?.spec;
    Ok(spec.and_then(|spec| spec.replicas).unwrap_or(1))
}

#[tokio::test]
async fn each_controller_scales_the_objects_of_its_class() -> Result<(), StageError> {
    let plane = prepared_cluster().await?;
    let namespace = Namespace::create(plane, "classes").await?;
    let client = namespace.client().await?;
    serve(&namespace, "plain", Value::Null).await?;
    serve(&namespace, "blue", json!("blue")).await?;
    let values = json!({ "watchNamespace": namespace.name() });
    let release = chart::install(plane, namespace.name(), &values).await?;
    let is = async |name: &str, wanted: i32| {
        let found = prefill_replicas(&client, name).await?;
        if found == wanted {
            Ok(())
        } else {
            Err(format!("{name} has {found} prefill replicas"))
        }
    };

    let _plain = run_controller(plane, &release, "plain", &[]).await?;
    eventually("the object without a class is scaled", DEADLINE, || {
        is("plain", 2)
    })
    .await?;
    throughout(
        "nobody scales the class blue",
        Duration::from_secs(5),
        || is("blue", 1),
    )
    .await?;

    // It has no Lease of its own in this release.
    let flags = [("--controller-class", "blue"), ("--leader-elect", "false")];
    let _blue = run_controller(plane, &release, "blue", &flags).await?;
    eventually("the class blue is scaled", DEADLINE, || is("blue", 2)).await?;

    // An edit of each reaches its own controller.
    for (name, wanted) in [("plain", 3), ("blue", 4)] {
        let patch = json!({ "prefill": { "minReplicas": wanted } });
        let class = if name == "blue" {
            json!("blue")
        } else {
            Value::Null
        };
        let mut change = json!({ "decode": { "minReplicas": 2 }, "controllerClass": class });
        change["prefill"] = patch["prefill"].clone();
        let object = autoscaler("llama", "Deployment", &change);
        namespace.apply(&renamed(&object, name)).await?;
        eventually("the edit is carried out", DEADLINE, || is(name, wanted)).await?;
    }
    is("plain", 3).await.unwrap();
    Ok(())
}
