//! Values that every chart is expected to have: names, labels, namespaces, what users add to pods
//! and releases, who may reach pods, and parts that are switched off.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{of_kind, one, rendered};

/// Values with every part.
fn parts(mut values: Value) -> Value {
    for part in ["webhook", "extender", "control"] {
        values[part]["enabled"] = true.into();
    }
    values
}

fn deployments(objects: &[Value]) -> Vec<&Value> {
    let found = of_kind(objects, "Deployment");
    assert_eq!(found.len(), 4);
    found
}

#[tokio::test]
async fn namespace_override_moves_every_object_of_the_release() {
    let monitoring = json!({ "enabled": true });
    let objects = rendered(parts(json!({
        "namespaceOverride": "elsewhere", "prometheusRule": monitoring, "podMonitor": monitoring,
        "dashboards": monitoring, "networkPolicy": monitoring,
    })))
    .await;
    let text = serde_json::to_string(&objects).unwrap();
    assert!(
        !text.contains("\"namespace\":\"system\"") && !text.contains(".system.svc"),
        "{text}"
    );
    let webhook = one(&objects, "ValidatingWebhookConfiguration");
    assert_eq!(
        webhook["webhooks"][0]["clientConfig"]["service"]["namespace"],
        "elsewhere"
    );
    let left_out = &webhook["webhooks"][0]["namespaceSelector"]["matchExpressions"][0]["values"];
    assert!(left_out.as_array().unwrap().contains(&json!("elsewhere")));
}

#[tokio::test]
async fn common_labels_are_on_everything_and_replace_nothing() {
    let labels = json!({ "team": "llm", "app.kubernetes.io/name": "mine" });
    let objects = rendered(parts(
        json!({ "commonLabels": labels, "dashboards": { "enabled": true } }),
    ))
    .await;
    for object in &objects {
        let labels = &object["metadata"]["labels"];
        assert_eq!(labels["team"], "llm", "{object}");
        assert_eq!(
            labels["app.kubernetes.io/name"], "pd-autoscaler",
            "{object}"
        );
    }
    for deployment in deployments(&objects) {
        let spec = &deployment["spec"];
        assert_eq!(spec["template"]["metadata"]["labels"]["team"], "llm");
        assert!(
            spec["selector"]["matchLabels"]["team"].is_null(),
            "a selector cannot be changed"
        );
    }
}

#[tokio::test]
async fn every_deployment_is_replaced_as_asked() {
    let strategy = json!({ "rollingUpdate": { "maxSurge": 0 } });
    let objects = rendered(parts(
        json!({ "strategy": strategy, "revisionHistoryLimit": 1 }),
    ))
    .await;
    for deployment in deployments(&objects) {
        assert_eq!(deployment["spec"]["strategy"], strategy);
        assert_eq!(deployment["spec"]["revisionHistoryLimit"], 1);
    }
    let objects = rendered(parts(json!({}))).await;
    assert!(
        deployments(&objects)
            .iter()
            .all(|one| one["spec"]["strategy"].is_null())
    );
}

#[tokio::test]
async fn users_add_arguments_environment_volumes_and_labels_to_every_program() {
    let volume = json!({ "name": "more", "emptyDir": {} });
    let mount = json!({ "name": "more", "mountPath": "/more" });
    let added = json!({
        "extraArgs": ["--new-flag=1"], "extraEnv": [{ "name": "NEW", "value": "1" }],
        "extraVolumes": [volume], "extraVolumeMounts": [mount],
        "podLabels": { "team": "llm" }, "podAnnotations": { "a": "b" },
    });
    let mut values = added.clone();
    for part in ["webhook", "extender", "control"] {
        values[part] = added.clone();
    }
    let alone = rendered(parts(values.clone())).await;
    // Beside volumes of the chart's own.
    values["kubeconfig"] = json!({ "secretName": "k" });
    values["webhook"]["certManager"] = json!({ "enabled": true, "issuerRef": { "name": "i" } });
    values["extender"]["tls"] = json!({ "secretName": "s" });
    values["prometheus"] = json!({ "url": "http://p", "tls": { "caSecretName": "ca" } });
    let beside = rendered(parts(values)).await;
    for (objects, volumes) in [(&alone, 1), (&beside, 2)] {
        for deployment in deployments(objects) {
            let template = &deployment["spec"]["template"];
            assert_eq!(template["metadata"]["labels"]["team"], "llm");
            assert_eq!(template["metadata"]["annotations"]["a"], "b");
            let pod = &template["spec"];
            let container = &pod["containers"][0];
            let last = |list: &Value| list.as_array().unwrap().last().unwrap().clone();
            assert_eq!(last(&container["args"]), "--new-flag=1");
            let environment = container["env"].as_array().unwrap();
            assert!(environment.iter().any(|entry| entry["name"] == "NEW"));
            assert_eq!(last(&pod["volumes"]), volume);
            assert_eq!(last(&container["volumeMounts"]), mount);
            assert!(pod["volumes"].as_array().unwrap().len() >= volumes, "{pod}");
        }
    }
}

#[tokio::test]
async fn further_objects_may_use_the_release_and_the_crds_have_annotations() {
    let values = json!({
        "extraObjects": [
            { "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "{{ .Release.Name }}-one" } },
            "apiVersion: v1\nkind: Secret\nmetadata:\n  name: {{ include \"pd-autoscaler.fullname\" . }}-two",
        ],
        "crds": { "annotations": { "argocd.argoproj.io/sync-options": "ServerSideApply=true" } },
    });
    let objects = rendered(values).await;
    assert_eq!(one(&objects, "ConfigMap")["metadata"]["name"], "pd-one");
    assert_eq!(
        one(&objects, "Secret")["metadata"]["name"],
        "pd-pd-autoscaler-two"
    );
    for crd in of_kind(&objects, "CustomResourceDefinition") {
        let annotations = &crd["metadata"]["annotations"];
        assert_eq!(
            annotations["argocd.argoproj.io/sync-options"],
            "ServerSideApply=true"
        );
        assert_eq!(annotations["helm.sh/resource-policy"], "keep");
    }
}

#[tokio::test]
async fn the_controller_can_be_left_out() {
    let monitoring = json!({ "enabled": true });
    let objects = rendered(json!({
        "autoscaler": { "enabled": false }, "extender": { "enabled": true }, "podMonitor": monitoring,
        "prometheusRule": monitoring, "dashboards": monitoring, "networkPolicy": monitoring,
        "serviceMonitor": monitoring,
    }))
    .await;
    let components: BTreeSet<&str> = [
        "Deployment",
        "ServiceAccount",
        "Service",
        "PodDisruptionBudget",
        "NetworkPolicy",
    ]
    .iter()
    .flat_map(|kind| of_kind(&objects, kind))
    .map(|object| {
        object["metadata"]["labels"]["app.kubernetes.io/component"]
            .as_str()
            .unwrap()
    })
    .collect();
    assert_eq!(components, BTreeSet::from(["extender"]));
    let groups = one(&objects, "PrometheusRule")["spec"]["groups"]
        .as_array()
        .unwrap();
    assert_eq!(groups.len(), 1);
    assert_eq!(groups[0]["name"], "pd-extender");
    let names: BTreeSet<&str> = of_kind(&objects, "ConfigMap")
        .iter()
        .flat_map(|map| map["data"].as_object().unwrap().keys())
        .map(String::as_str)
        .filter(|name| {
            name.rsplit_once('.')
                .is_some_and(|(_, kind)| kind == "json")
        })
        .collect();
    assert_eq!(
        names,
        BTreeSet::from(["pd-control-plane.json", "pd-placement.json"])
    );
}

#[tokio::test]
async fn network_policies_open_the_ports_that_programs_have() {
    assert!(of_kind(&rendered(json!({})).await, "NetworkPolicy").is_empty());
    let from = json!([{ "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "monitoring" } } }]);
    let objects = rendered(parts(
        json!({ "networkPolicy": { "enabled": true, "metricsFrom": from } }),
    ))
    .await;
    let policies = of_kind(&objects, "NetworkPolicy");
    assert_eq!(policies.len(), 4);
    for deployment in deployments(&objects) {
        let pod = &deployment["spec"]["template"];
        let labels = &pod["metadata"]["labels"];
        let finds = |policy: &&&Value| {
            let selector = policy["spec"]["podSelector"]["matchLabels"]
                .as_object()
                .unwrap();
            selector.iter().all(|(key, value)| labels[key] == *value)
        };
        let of_pod: Vec<_> = policies.iter().filter(finds).collect();
        assert_eq!(of_pod.len(), 1, "one policy for each program");
        let spec = &of_pod[0]["spec"];
        assert_eq!(spec["policyTypes"], json!(["Ingress"]));
        assert_eq!(spec["ingress"][0]["from"], from);
        let open: BTreeSet<&str> = spec["ingress"]
            .as_array()
            .unwrap()
            .iter()
            .map(|rule| rule["ports"][0]["port"].as_str().unwrap())
            .collect();
        let ports = pod["spec"]["containers"][0]["ports"].as_array().unwrap();
        let listened: BTreeSet<&str> = ports
            .iter()
            .map(|port| port["name"].as_str().unwrap())
            .collect();
        assert_eq!(open, listened);
    }
    let egress = json!([{ "ports": [{ "port": 443 }] }]);
    let objects = rendered(json!({ "networkPolicy": { "enabled": true, "egress": egress } })).await;
    let spec = &one(&objects, "NetworkPolicy")["spec"];
    assert_eq!(spec["policyTypes"], json!(["Ingress", "Egress"]));
    assert_eq!(spec["egress"], egress);
    assert!(spec["ingress"][0]["from"].is_null(), "anybody");
}

#[tokio::test]
async fn the_console_is_reached_by_whom_its_policy_names() {
    let from = json!([{ "namespaceSelector": { "matchLabels": { "team": "platform" } } }]);
    let console = json!({ "enabled": true });
    for (named, want) in [(json!([]), Value::Null), (from.clone(), from)] {
        let objects = rendered(parts(json!({
            "autoscaler": { "console": console },
            "networkPolicy": { "enabled": true, "consoleFrom": named },
        })))
        .await;
        let policies = of_kind(&objects, "NetworkPolicy");
        let rules: Vec<&Value> = policies
            .iter()
            .flat_map(|policy| policy["spec"]["ingress"].as_array().unwrap())
            .filter(|rule| rule["ports"][0]["port"] == "console")
            .collect();
        assert_eq!(rules.len(), 1, "the controller's alone");
        assert_eq!(rules[0]["from"], want);
    }
}

/// The script is the chart's whole say: it is run here as `sh` would, with `wget` played.
#[tokio::test]
async fn helm_test_asks_every_program_that_runs() {
    let objects = rendered(parts(json!({ "service": { "port": 9000 } }))).await;
    let pod = one(&objects, "Pod");
    assert_eq!(pod["metadata"]["annotations"]["helm.sh/hook"], "test");
    let services = of_kind(&objects, "Service");
    let script = pod["spec"]["containers"][0]["args"][0].as_str().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let asked = directory.path().join("asked");
    let wget = format!(
        "wget() {{ for last; do :; done; echo \"$last\" >> {}; }}\n",
        asked.display()
    );
    let ran = std::process::Command::new("sh")
        .args(["-euc", &format!("{wget}{script}")])
        .output()
        .unwrap();
    assert!(ran.status.success(), "{ran:?}");
    let asked = std::fs::read_to_string(asked).unwrap();
    let urls: BTreeSet<&str> = asked.lines().collect();
    let want: BTreeSet<String> = services
        .iter()
        .filter(|service| service["spec"]["ports"][0]["name"] == "metrics")
        .map(|service| {
            format!(
                "http://{}.system.svc:9000/readyz",
                service["metadata"]["name"].as_str().unwrap()
            )
        })
        .collect();
    assert_eq!(want.len(), 4);
    assert_eq!(urls, want.iter().map(String::as_str).collect());
    for off in [
        json!({ "test": { "enabled": false } }),
        json!({ "service": { "enabled": false } }),
    ] {
        assert!(of_kind(&rendered(off).await, "Pod").is_empty());
    }
}
