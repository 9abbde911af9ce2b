//! kube-scheduler and the extender: the rendered configurations are taken by the real program, and
//! the second scheduler has what it needs to run.

use std::{fs, path::Path, process::Command};

use pd_tests::{
    chart::template,
    tools::{KubernetesVersion, Tools},
};
use serde_json::{Value, json};

use super::{of_kind, one, rendered};

fn by_name<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let found = of_kind(objects, kind);
    let found = found
        .into_iter()
        .find(|object| object["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("{kind} {name}"))
}

/// Has the real kube-scheduler read a configuration, with its files in `directory`, and gives what
/// it made of it.
fn read_by_kube_scheduler(configuration: &Value, directory: &Path) -> Value {
    let tools = Tools::locate_or_build(KubernetesVersion::from_environment().unwrap()).unwrap();
    let kubeconfig = directory.join("kubeconfig");
    fs::write(
        &kubeconfig,
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "a",
            "clusters": [{ "name": "a", "cluster": { "server": "https://127.0.0.1:1" } }],
            "users": [{ "name": "a", "user": { "token": "t" } }],
            "contexts": [{ "name": "a", "context": { "cluster": "a", "user": "a" } }],
        })
        .to_string(),
    )
    .unwrap();
    let mut configuration = configuration.clone();
    configuration["clientConnection"] = json!({ "kubeconfig": kubeconfig });
    for extender in configuration["extenders"].as_array_mut().unwrap() {
        if !extender["tlsConfig"].is_null() {
            let authority = directory.join("ca.crt");
            let issued = rcgen::generate_simple_self_signed(vec!["extender".to_owned()]).unwrap();
            fs::write(&authority, issued.cert.pem()).unwrap();
            extender["tlsConfig"]["caFile"] = json!(authority);
        }
    }
    let (given, written) = (directory.join("given.json"), directory.join("written.yaml"));
    fs::write(&given, configuration.to_string()).unwrap();
    let output = Command::new(tools.kube_scheduler)
        .arg(format!("--config={}", given.display()))
        .arg(format!("--write-config-to={}", written.display()))
        .output()
        .unwrap();
    let text = fs::read_to_string(&written).unwrap_or_else(|_| {
        panic!(
            "{configuration}: {}",
            String::from_utf8_lossy(&output.stderr)
        )
    });
    serde_saphyr::from_str(&text).unwrap()
}

fn configuration(map: &Value) -> Value {
    serde_saphyr::from_str(map["data"]["kube-scheduler.yaml"].as_str().unwrap()).unwrap()
}

#[tokio::test]
async fn kube_scheduler_takes_the_configuration_for_it() {
    let cases = [
        json!({}),
        json!({ "tls": { "enabled": false }, "service": { "clusterIP": "10.96.0.77" } }),
        json!({ "scheduling": { "filter": false, "weight": 7, "httpTimeout": "500ms", "ignorable": true,
            "managedResources": ["nvidia.com/gpu"] } }),
        json!({ "scheduling": { "score": false } }),
    ];
    for mut extender in cases {
        extender["enabled"] = true.into();
        let objects = rendered(json!({ "extender": extender })).await;
        let map = by_name(&objects, "ConfigMap", "pd-pd-autoscaler-extender-scheduler");
        let directory = tempfile::tempdir().unwrap();
        let read = read_by_kube_scheduler(&configuration(map), directory.path());
        let entry = &read["extenders"][0];
        let scores = extender["scheduling"]["score"] != false;
        assert_eq!(entry["prioritizeVerb"] == "prioritize", scores, "{entry}");
        assert_eq!(entry["nodeCacheCapable"], true);
        let tls = extender["tls"]["enabled"] != false;
        assert_eq!(entry["enableHTTPS"] == true, tls, "{entry}");
        let address = extender["service"]["clusterIP"]
            .as_str()
            .unwrap_or("ADDRESS");
        let scheme = if tls { "https" } else { "http" };
        assert_eq!(entry["urlPrefix"], format!("{scheme}://{address}:8888"));
        let asked = &extender["scheduling"];
        if asked["filter"] == false {
            assert!(entry["filterVerb"].is_null());
            assert_eq!(
                entry["managedResources"],
                json!([{ "name": "nvidia.com/gpu" }])
            );
            for key in ["weight", "httpTimeout", "ignorable"] {
                assert_eq!(entry[key], asked[key], "{key}");
            }
        } else {
            assert_eq!(entry["filterVerb"], "filter");
        }
    }
}

#[tokio::test]
async fn the_second_scheduler_finds_its_configuration_its_authority_and_its_rights() {
    let values = json!({ "extender": { "enabled": true },
        "scheduler": { "enabled": true, "name": "mine", "image": { "registry": "r.example.com/" } } });
    let objects = rendered(values).await;
    let name = "pd-pd-autoscaler-scheduler";
    let map = by_name(&objects, "ConfigMap", name);
    let directory = tempfile::tempdir().unwrap();
    let read = read_by_kube_scheduler(&configuration(map), directory.path());
    assert_eq!(read["profiles"][0]["schedulerName"], "mine");
    assert_eq!(read["leaderElection"]["resourceName"], name);
    assert_eq!(read["leaderElection"]["resourceNamespace"], "system");
    let entry = &configuration(map)["extenders"][0];
    assert_eq!(
        entry["urlPrefix"],
        "https://pd-pd-autoscaler-extender.system.svc:8888"
    );

    let pod = &by_name(&objects, "Deployment", name)["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let version = container["image"]
        .as_str()
        .unwrap()
        .strip_prefix("r.example.com/kube-scheduler:v");
    assert!(
        version.is_some_and(|version| version.split('.').count() == 3),
        "{container}"
    );
    let mounted: Vec<String> = container["volumeMounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|mount| mount["mountPath"].as_str().unwrap().to_owned())
        .collect();
    let authority = entry["tlsConfig"]["caFile"].as_str().unwrap();
    assert!(
        mounted
            .iter()
            .any(|path| authority.starts_with(path.as_str())),
        "{mounted:?}"
    );
    let secret = &pod["volumes"][1]["secret"];
    assert_eq!(
        secret["secretName"],
        "pd-pd-autoscaler-extender-certificates"
    );
    for role in ["kube-scheduler", "volume-scheduler"] {
        let binding = by_name(&objects, "ClusterRoleBinding", &format!("{name}-{role}"));
        assert_eq!(binding["roleRef"]["name"], format!("system:{role}"));
        assert_eq!(binding["subjects"][0]["name"], pod["serviceAccountName"]);
    }
    let lease = &by_name(&objects, "Role", name)["rules"][1];
    assert_eq!(lease["resourceNames"], json!([name]));
}

/// A scheduler reads its configuration once.
#[tokio::test]
async fn another_configuration_makes_other_pods() {
    let sum = async |weight: u32, replicas: u32| {
        let values = json!({ "extender": { "enabled": true, "replicas": replicas, "scheduling": { "weight": weight } },
            "scheduler": { "enabled": true, "image": { "registry": "r" } } });
        let objects = rendered(values).await;
        let deployment = by_name(&objects, "Deployment", "pd-pd-autoscaler-scheduler");
        deployment["spec"]["template"]["metadata"]["annotations"]["pdautoscaler.io/configuration"]
            .clone()
    };
    assert_ne!(sum(3, 2).await, sum(4, 2).await);
    assert_eq!(sum(3, 2).await, sum(3, 1).await);
}

#[tokio::test]
async fn a_second_scheduler_without_extender_or_image_is_refused() {
    let of = async |values: Value| template(&values, &[]).await.unwrap_err().to_string();
    let without =
        of(json!({ "scheduler": { "enabled": true, "image": { "registry": "r" } } })).await;
    assert!(without.contains("enable the extender"), "{without}");
    let without =
        of(json!({ "extender": { "enabled": true }, "scheduler": { "enabled": true } })).await;
    assert!(without.contains("scheduler.image.registry"), "{without}");
    let taken = of(json!({ "scheduler": { "name": "default-scheduler" } })).await;
    assert!(taken.contains("/scheduler/name"), "{taken}");
}

#[tokio::test]
async fn kubeadm_mounts_the_directory_that_the_configuration_names() {
    let objects = rendered(json!({ "extender": { "enabled": true } })).await;
    let map = one(&objects, "ConfigMap");
    let kubeadm: Value =
        serde_saphyr::from_str(map["data"]["kubeadm.yaml"].as_str().unwrap()).unwrap();
    let volume = &kubeadm["scheduler"]["extraVolumes"][0];
    let directory = volume["mountPath"].as_str().unwrap();
    assert_eq!(volume["hostPath"], directory);
    assert_eq!(
        kubeadm["scheduler"]["extraArgs"][0]["value"],
        format!("{directory}/kube-scheduler.yaml")
    );
    let authority = configuration(map)["extenders"][0]["tlsConfig"]["caFile"].clone();
    assert_eq!(authority, format!("{directory}/ca.crt"));
}
