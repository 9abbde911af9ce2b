//! The chart as rendered: every flag, safe pods, ports and selectors that meet, the CRD as
//! generated.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use clap::CommandFactory as _;
use pd_api::Resource;
use pd_autoscaler::args::Args;
use serde_json::{Value, json};

use super::{args, container, everything, of_kind, one, parsed, rendered};

#[tokio::test]
async fn the_defaults_are_two_controllers_that_may_act_everywhere() {
    let objects = rendered(json!({})).await;
    let mut kinds = BTreeMap::<&str, usize>::new();
    for object in &objects {
        *kinds.entry(object["kind"].as_str().unwrap()).or_default() += 1;
    }
    let want = BTreeMap::from([
        ("ClusterRole", 3),
        ("ClusterRoleBinding", 1),
        ("CustomResourceDefinition", 5),
        ("Deployment", 1),
        // The one of `helm test`.
        ("Pod", 1),
        ("PodDisruptionBudget", 1),
        ("Role", 1),
        ("RoleBinding", 1),
        ("Service", 1),
        ("ServiceAccount", 1),
    ]);
    assert_eq!(kinds, want);
    assert_eq!(one(&objects, "Deployment")["spec"]["replicas"], 2);
}

#[tokio::test]
async fn every_flag_has_a_value_and_every_argument_is_a_flag() {
    let objects = rendered(everything()).await;
    let token = rendered(json!({ "prometheus": { "auth": { "secretName": "login" } } })).await;
    let [args, other] = [args(&objects), args(&token)];
    parsed(&args);
    parsed(&other);
    let env = container(&objects)["env"].as_array().unwrap();
    let command = Args::command();
    let unreachable: Vec<&str> = command
        .get_arguments()
        .filter(|flag| {
            let name = format!("--{}=", flag.get_long().unwrap_or_default());
            let in_args = args.iter().chain(&other).any(|arg| arg.starts_with(&name));
            let variable = flag.get_env().and_then(|variable| variable.to_str());
            !in_args && !env.iter().any(|entry| entry["name"].as_str() == variable)
        })
        .filter_map(clap::Arg::get_long)
        .filter(|flag| !["help", "version"].contains(flag))
        .collect();
    assert!(
        unreachable.is_empty(),
        "give these flags a value in the chart: {unreachable:?}"
    );
}

#[tokio::test]
async fn values_reach_the_controller_unchanged() {
    let args = args(&rendered(everything()).await);
    let want = [
        "--interval=7s",
        "--status-interval=2m",
        "--checkpoint-interval=3m",
        "--concurrency=3",
        "--namespace-concurrency=2",
        "--watch-namespace=inference",
        "--controller-class=blue",
        "--object-selector=team in (a, b)",
        "--shard-count=4",
        "--shard-index=3",
        "--placement-url=http://pd-control:8082",
        "--prometheus-url=http://prometheus:9090",
        "--prometheus-timeout=4s",
        "--prometheus-username=me",
        "--prometheus-password-file=/etc/pd-prometheus/password",
        "--prometheus-ca-file=/etc/pd-prometheus/ca.crt",
        "--prometheus-cert-file=/etc/pd-prometheus/tls.crt",
        "--prometheus-key-file=/etc/pd-prometheus/tls.key",
        "--prometheus-header=X-Scope-OrgID=a",
        "--metrics-window=3m",
        "--metrics-age-max=45s",
        "--namespace-label=ns",
        "--pod-label=pod_name",
        "--gateway-namespaces=aibrix-system,kthena-system",
        "--grouped-queries=false",
        "--allow-server-urls=http://p.*.svc:9090",
        "--allow-server-urls=http://q",
        "--allow-secret-references=true",
        "--object-queries=Refused",
        "--leader-elect=true",
        "--leader-election-namespace=system",
        "--leader-election-lease=pd-pd-autoscaler",
        "--leader-election-lease-duration=30s",
        "--leader-election-renew-deadline=20s",
        "--leader-election-retry-period=5s",
        "--admin-address=[::]:9000",
        "--console-address=[::]:9085",
        "--console-hosts=pd.example.com,pd.test",
        "--log-format=text",
        "--log-filter=info,kube=warn",
        "--shutdown-grace-period=50s",
        "--kubeconfig=/etc/pd-autoscaler/kubeconfig",
    ];
    assert_eq!(args, want);
}

/// The files that the flags of Prometheus name are the files that are mounted.
#[tokio::test]
async fn secrets_of_prometheus_are_mounted_where_the_flags_look() {
    let own_account =
        json!({ "prometheus": { "auth": { "serviceAccountToken": { "enabled": true } } } });
    let token = json!({ "prometheus": { "auth": { "secretName": "login" }, "tls": { "caSecretName": "ca" } } });
    for values in [everything(), own_account, token] {
        let objects = rendered(values).await;
        let named: BTreeSet<String> = args(&objects)
            .iter()
            .filter_map(|arg| arg.split_once("=/etc/pd-prometheus/"))
            .map(|(_, file)| file.to_owned())
            .collect();
        let volumes = &one(&objects, "Deployment")["spec"]["template"]["spec"]["volumes"];
        let mut volume = volumes.as_array().unwrap().iter();
        let volume = volume
            .rfind(|volume| volume["name"] == "prometheus")
            .unwrap();
        let mounted = volume["projected"]["sources"].as_array().unwrap().iter();
        let paths = mounted.flat_map(|source| {
            let items = ["secret", "configMap"].map(|kind| &source[kind]["items"]);
            let items = items.into_iter().filter_map(Value::as_array).flatten();
            let items = items.chain([&source["serviceAccountToken"]]);
            items.filter_map(|item| item["path"].as_str().map(str::to_owned))
        });
        assert_eq!(named, paths.collect::<BTreeSet<String>>());
        assert!(!named.is_empty());
    }
}

#[tokio::test]
async fn the_charts_defaults_are_those_of_the_flags() {
    let args = args(&rendered(json!({})).await);
    parsed(&args);
    let command = Args::command();
    for arg in &args {
        let (flag, value) = arg.split_once('=').unwrap();
        let flag = command
            .get_arguments()
            .find(|known| known.get_long() == flag.strip_prefix("--"))
            .unwrap();
        let Some(default) = flag.get_default_values().first() else {
            let of_the_release = [
                "--leader-election-namespace=system",
                "--leader-election-lease=pd-pd-autoscaler",
            ];
            assert!(
                of_the_release.contains(&arg.as_str()),
                "{arg} has no default"
            );
            continue;
        };
        assert_eq!(default.to_str(), Some(value), "{arg}");
    }
}

#[tokio::test]
async fn pods_are_locked_down_and_probed_where_the_controller_listens() {
    for (values, port) in [(json!({}), 8080), (everything(), 9000)] {
        let objects = rendered(values).await;
        let pod = &one(&objects, "Deployment")["spec"]["template"]["spec"];
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(pod["securityContext"]["runAsUser"], 65532);
        assert_eq!(
            pod["securityContext"]["seccompProfile"]["type"],
            "RuntimeDefault"
        );
        for host in ["hostNetwork", "hostPID", "hostIPC"] {
            assert!(pod[host].is_null(), "{host}");
        }
        let container = container(&objects);
        let locked = json!({ "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
            "capabilities": { "drop": ["ALL"] } });
        assert_eq!(container["securityContext"], locked);
        assert!(container["resources"]["limits"]["memory"].is_string());

        assert_eq!(
            parsed(&args(&objects)).process.admin.admin_address.port(),
            port
        );
        let ports = container["ports"].as_array().unwrap();
        assert_eq!(ports[0]["containerPort"], port);
        for (probe, path) in [("livenessProbe", "/livez"), ("readinessProbe", "/readyz")] {
            let want = json!({ "path": path, "port": ports[0]["name"] });
            assert_eq!(container[probe]["httpGet"], want);
        }
        let services = of_kind(&objects, "Service");
        let targets: Vec<&Value> = services
            .iter()
            .map(|service| &service["spec"]["ports"][0]["targetPort"])
            .collect();
        let names: Vec<&Value> = ports.iter().map(|port| &port["name"]).collect();
        assert_eq!(targets, names);
    }
}

#[tokio::test]
async fn the_console_is_off_until_it_is_enabled_and_behind_a_service_of_its_own() {
    let off = rendered(json!({})).await;
    assert!(!serde_json::to_string(&off).unwrap().contains("console"));
    assert!(parsed(&args(&off)).console.console_address.is_none());

    let values = json!({ "autoscaler": { "console": { "enabled": true } }, "service": { "enabled": false } });
    let objects = rendered(values).await;
    let address = parsed(&args(&objects)).console.console_address.unwrap();
    assert_eq!(address.port(), 8085);
    let port = &container(&objects)["ports"][1];
    assert_eq!(port["containerPort"], 8085);
    let service = &one(&objects, "Service");
    assert_eq!(service["metadata"]["name"], "pd-pd-autoscaler-console");
    assert_eq!(service["spec"]["type"], "ClusterIP");
    assert_eq!(service["spec"]["ports"][0]["targetPort"], port["name"]);
}

#[tokio::test]
async fn the_kubelet_waits_longer_than_the_controller() {
    for values in [json!({}), everything()] {
        let objects = rendered(values).await;
        let pod = &one(&objects, "Deployment")["spec"]["template"]["spec"];
        let limit = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
        let grace = parsed(&args(&objects))
            .process
            .shutdown
            .shutdown_grace_period;
        assert!(grace < Duration::from_secs(limit), "{grace:?} {limit}");
    }
}

#[tokio::test]
async fn selectors_find_the_pods_whatever_labels_users_add() {
    let objects = rendered(everything()).await;
    let deployment = &one(&objects, "Deployment")["spec"];
    let labels = deployment["template"]["metadata"]["labels"]
        .as_object()
        .unwrap();
    assert_eq!(labels["team"], "inference");
    let services = of_kind(&objects, "Service");
    let service = services[0];
    let spread = &deployment["template"]["spec"]["topologySpreadConstraints"][0];
    let selectors = [
        &deployment["selector"]["matchLabels"],
        &service["spec"]["selector"],
        &services[1]["spec"]["selector"],
        &spread["labelSelector"]["matchLabels"],
        &one(&objects, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
    ];
    for selector in selectors {
        let selector = selector.as_object().unwrap();
        assert!(
            selector.len() == 3
                && selector
                    .iter()
                    .all(|(key, value)| labels.get(key) == Some(value))
        );
    }
    let monitor = &one(&objects, "ServiceMonitor")["spec"];
    let service_labels = service["metadata"]["labels"].as_object().unwrap();
    let selector = monitor["selector"]["matchLabels"].as_object().unwrap();
    assert!(
        selector
            .iter()
            .all(|(key, value)| service_labels.get(key) == Some(value))
    );
    assert_eq!(
        monitor["endpoints"][0]["port"],
        service["spec"]["ports"][0]["name"]
    );
}

#[tokio::test]
async fn one_replica_needs_neither_budget_nor_spread() {
    let objects = rendered(json!({ "replicas": 1, "leaderElection": { "enabled": false } })).await;
    assert!(of_kind(&objects, "PodDisruptionBudget").is_empty());
    let pod = &one(&objects, "Deployment")["spec"]["template"]["spec"];
    assert!(pod["topologySpreadConstraints"].is_null());
    assert!(
        of_kind(&objects, "Role").is_empty(),
        "no lease, no right to leases"
    );
    assert!(!parsed(&args(&objects)).leader.leader_elect);
}

#[tokio::test]
async fn the_crds_are_the_generated_ones_and_are_kept_unless_told() {
    for keep in [true, false] {
        let objects = rendered(json!({ "crds": { "keep": keep } })).await;
        let crds = of_kind(&objects, "CustomResourceDefinition");
        for resource in Resource::ALL {
            let generated: Value = serde_saphyr::from_str(&resource.crd_yaml().unwrap()).unwrap();
            let name = &generated["metadata"]["name"];
            let crd = crds.iter().find(|crd| crd["metadata"]["name"] == *name);
            let crd = crd.unwrap();
            assert_eq!(crd["spec"], generated["spec"]);
            let policy = &crd["metadata"]["annotations"]["helm.sh/resource-policy"];
            assert_eq!(policy == "keep", keep);
        }
    }
    let without = rendered(json!({ "crds": { "enabled": false } })).await;
    assert!(of_kind(&without, "CustomResourceDefinition").is_empty());
}

#[tokio::test]
async fn the_image_is_named_by_tag_or_digest() {
    let version = env!("CARGO_PKG_VERSION");
    let digest = format!("sha256:{}", "0".repeat(64));
    let cases = [
        (json!({}), format!("pdautoscaler/pd-autoscaler:{version}")),
        (
            json!({ "registry": "r:5000/", "tag": "t" }),
            "r:5000/pdautoscaler/pd-autoscaler:t".to_owned(),
        ),
        (
            json!({ "repository": "pd", "tag": "t", "digest": digest }),
            format!("pd@{digest}"),
        ),
    ];
    for (image, want) in cases {
        let objects = rendered(json!({ "image": image })).await;
        assert_eq!(container(&objects)["image"], want.as_str());
    }
}
