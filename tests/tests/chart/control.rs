//! The chart's node and eviction controllers: off unless asked for, every flag with a value,
//! defaults as the program's, and rights that follow what is switched on.

use std::collections::BTreeSet;

use clap::{CommandFactory as _, Parser as _};
use pd_scheduler_plugin::args::{Args, Command, ControlArgs};
use pd_systems::member::{self, Marks};
use serde_json::{Value, json};

use super::{parts::Part, rendered};

const NAME: &str = "pd-pd-autoscaler-control";
const PROGRAM: &str = "pd-scheduler-plugin";

async fn control(changes: Value) -> Part {
    control_with(changes, json!({})).await
}

/// The controllers, with values about the way into Prometheus.
async fn control_with(changes: Value, mut prometheus: Value) -> Part {
    prometheus["url"] = json!("http://prometheus:9090");
    // Policies gate pods of placement groups without a webhook.
    let others = json!({ "prometheus": prometheus, "webhook": { "edition": "policy" } });
    Part::enabled("control", changes, others).await
}

fn parsed(command: &[String]) -> ControlArgs {
    let args = Args::try_parse_from(command).unwrap_or_else(|error| panic!("{error}"));
    match args.command {
        Command::Control(args) => *args,
        other => panic!("{other:?} is not control"),
    }
}

/// Another value than the default for everything that is off or empty by default.
fn everything() -> Value {
    json!({
        "dryRun": true,
        "eviction": { "persist": true, "moveDeadlines": "both", "method": "evict", "groupLabel": "gang", "perMinute": 6 },
        "publisher": { "config": { "interval": "30s", "publishers": [] } },
        "preflight": { "tryWebhook": true, "metricsUrls": ["kube-scheduler=https://10.0.0.1:10259/metrics"] },
        "placement": { "enabled": true, "window": "30s", "nominate": false },
    })
}

#[tokio::test]
async fn it_is_off_unless_asked_for() {
    let off = rendered(json!({})).await;
    assert!(off.iter().all(|object| object["metadata"]["name"] != NAME));
    let on = control(json!({})).await;
    let want = [
        "ClusterRole",
        "ClusterRoleBinding",
        "Deployment",
        "PodDisruptionBudget",
        "Role",
        "RoleBinding",
        "ServiceAccount",
    ];
    assert_eq!(on.kinds(), want.map(|kind| (kind, 1)).into());
    on.is_wired();
}

#[tokio::test]
async fn every_flag_has_a_value_and_defaults_agree() {
    let plain = control(json!({})).await.command(PROGRAM);
    let login = json!({
        "auth": { "secretName": "login", "username": "me" },
        "tls": { "caSecretName": "authorities", "clientSecretName": "client" },
        "headers": { "X-Scope-OrgID": "a" },
    });
    let full = control_with(everything(), login).await.command(PROGRAM);
    let token = json!({ "auth": { "secretName": "login" } });
    let token = control_with(json!({}), token).await.command(PROGRAM);
    let all: BTreeSet<String> = [&plain, &full, &token]
        .into_iter()
        .flatten()
        .cloned()
        .collect();
    let command = Args::command();
    let command = command.find_subcommand("control").unwrap();
    let left_out = [
        "help",
        "version",
        "kubeconfig",
        "log-filter",
        "leader-election-identity",
    ];
    Part::flags_have_values(command, &all, &left_out);

    let default = parsed(&[PROGRAM.to_owned(), "control".to_owned()]);
    let chart = parsed(&plain);
    assert_eq!(
        format!("{:?}", chart.eviction),
        format!("{:?}", default.eviction)
    );
    assert_eq!(
        format!("{:?}", chart.mirror),
        format!("{:?}", default.mirror)
    );
    assert_eq!(chart.preflight_interval, default.preflight_interval);
    assert_eq!(chart.probe.kubelets_max, default.probe.kubelets_max);
    let placing = parsed(&full).placement;
    assert!(!chart.placement.placement && placing.placement && !placing.placement_nominate);
    assert!(!chart.control.dry_run && chart.publisher.publisher_config.is_none());
    assert!(parsed(&full).publisher.publisher_config.is_some());
}

#[tokio::test]
async fn its_rights_follow_what_is_switched_on() {
    let always = [
        "events create",
        "events patch",
        "leases create",
        "leases get",
        "leases update",
        "nodes get",
        "nodes list",
        "nodes watch",
        "pdautoscalers list",
        "pdautoscalers/status patch",
        "pods create",
        "pods get",
        "pods list",
        "pods patch",
        "pods watch",
    ];
    let with = |more: &[&str]| -> BTreeSet<String> {
        let all = always.iter().chain(more).copied();
        all.map(str::to_owned).collect()
    };
    let quiet = json!({ "mirrorLabels": false, "eviction": { "enabled": false }, "preflight": { "readComponents": false } });
    assert_eq!(control(quiet).await.rights(), with(&[]));
    assert_eq!(
        control(json!({})).await.rights(),
        with(&[
            "nodes patch",
            "nodes/proxy get",
            "pods delete",
            "pods/status patch"
        ])
    );
    let placing = [
        "clustertopologies list",
        "clustertopologies watch",
        "persistentvolumeclaims list",
        "persistentvolumeclaims watch",
        "persistentvolumes list",
        "persistentvolumes watch",
        "pdautoscalers watch",
        "placementgroups create",
        "placementgroups delete",
        "placementgroups get",
        "placementgroups list",
        "placementgroups patch",
        "placementgroups watch",
        "placementgroups/status patch",
        "pods delete",
        "pods/eviction create",
        "pods/status patch",
    ];
    let quiet = json!({ "mirrorLabels": false, "eviction": { "enabled": false }, "preflight": { "readComponents": false },
        "placement": { "enabled": true } });
    assert_eq!(control(quiet).await.rights(), with(&placing));
    let full = [&placing[..], &["nodes patch", "nodes/proxy get"]].concat();
    assert_eq!(control(everything()).await.rights(), with(&full));
}

#[tokio::test]
async fn pods_of_groups_are_gated_by_a_policy_or_by_the_webhook_and_never_by_none() {
    let placement = json!({ "enabled": true, "placement": { "enabled": true } });
    let gates = async |webhook: Value| {
        let values = json!({ "control": placement, "webhook": webhook });
        let objects = pd_tests::chart::render(&values).await?;
        let of = |kind: &str, text: &str| {
            let is_it =
                |object: &&Value| object["kind"] == kind && object.to_string().contains(text);
            objects.iter().filter(is_it).count()
        };
        Ok::<_, pd_tests::chart::ChartError>((
            of("MutatingAdmissionPolicy", "pdautoscaler.io/placement-group"),
            of(
                "MutatingWebhookConfiguration",
                "placement.webhook.pdautoscaler.io",
            ),
        ))
    };
    assert_eq!(gates(json!({ "enabled": true })).await.unwrap(), (0, 1));
    let policy = json!({ "enabled": true, "edition": "policy" });
    // One for pods with a label, one for pods of targets.
    assert_eq!(gates(policy).await.unwrap(), (2, 0));
    assert_eq!(gates(json!({ "edition": "policy" })).await.unwrap(), (2, 0));
    let none = gates(json!({})).await.unwrap_err().to_string();
    assert!(none.contains("webhook.enabled=true"), "{none}");
    let alone = json!({ "control": { "placement": { "enabled": true } } });
    let alone = pd_tests::chart::render(&alone)
        .await
        .unwrap_err()
        .to_string();
    assert!(alone.contains("control.enabled=true"), "{alone}");
}

#[tokio::test]
async fn the_policy_knows_the_pods_of_every_kind_of_target_that_the_webhook_knows() {
    let values = json!({
        "control": { "enabled": true, "placement": { "enabled": true } }, "webhook": { "edition": "policy" },
    });
    let objects = rendered(values).await;
    let mut policies = objects
        .iter()
        .filter(|object| object["kind"] == "MutatingAdmissionPolicy");
    let policy = policies.find(|object| object["spec"]["paramKind"]["kind"] == "PDAutoscaler");
    let conditions = policy.unwrap()["spec"]["matchConditions"]
        .as_array()
        .unwrap();
    let of_target = conditions.iter().find(|one| one["name"] == "of-a-target");
    let expression = of_target.unwrap()["expression"].as_str().unwrap();
    for row in member::ROWS {
        let (api, kind) = (row.api_version, row.kind);
        let wanted = match row.marks {
            Marks::Controller => vec![format!("'{kind}'")],
            Marks::Deployment => vec![
                format!("kind == '{kind}'"),
                format!("apiVersion == '{api}'"),
                format!("apiVersion.startsWith('{api}')"),
            ],
            Marks::Labels {
                name, role, fixed, ..
            } => {
                let role = role.unwrap_or_default();
                let mut wanted = vec![format!("['{api}', '{kind}', '{name}', '{role}']")];
                wanted.extend(
                    fixed
                        .iter()
                        .map(|(key, value)| format!("labels[?'{key}'].orValue('') == '{value}'")),
                );
                wanted
            }
        };
        let found = wanted.iter().filter(|text| expression.contains(*text));
        // A Deployment's version is compared as a whole or by its beginning.
        let least = wanted.len() - usize::from(row.marks == Marks::Deployment);
        assert!(found.count() >= least, "{kind}: {wanted:?} in {expression}");
    }
    let labels = member::ROWS
        .iter()
        .filter(|row| matches!(row.marks, Marks::Labels { .. }));
    // Once for each role.
    assert_eq!(expression.matches("', '").count() / 3, 2 * labels.count());
}

/// The arguments of the autoscaler with these values, and everything that is rendered.
async fn asking(control: Value, decisions: Value) -> (Vec<Value>, Option<String>) {
    let values = json!({ "control": control, "decisions": decisions,
        "networkPolicy": { "enabled": true }, "webhook": { "edition": "policy" } });
    let objects = rendered(values).await;
    let autoscaler = objects.iter().find(|object| {
        object["kind"] == "Deployment" && object["metadata"]["name"] == "pd-pd-autoscaler"
    });
    let args = autoscaler.unwrap()["spec"]["template"]["spec"]["containers"][0]["args"].clone();
    let url = args.as_array().unwrap().iter().find_map(|arg| {
        let url = arg.as_str()?.strip_prefix("--placement-url=")?;
        Some(url.to_owned())
    });
    (objects, url)
}

#[tokio::test]
async fn the_autoscaler_asks_the_control_that_places_groups() {
    let placing = json!({ "enabled": true, "placement": { "enabled": true } });
    let (objects, url) = asking(placing, json!({})).await;
    let find = |kind: &str| {
        let mut objects = objects.iter();
        objects.find(|object| object["kind"] == kind && object["metadata"]["name"] == NAME)
    };
    let service = find("Service").unwrap();
    let port = &service["spec"]["ports"][0];
    let namespace = service["metadata"]["namespace"].as_str().unwrap();
    assert_eq!(
        url.unwrap(),
        format!("http://{NAME}.{namespace}:{}", port["port"])
    );
    let pod = &find("Deployment").unwrap()["spec"]["template"]["spec"]["containers"][0];
    let ports = pod["ports"].as_array().unwrap();
    assert!(
        ports
            .iter()
            .any(|known| known["name"] == port["targetPort"] && known["containerPort"] == 8082)
    );
    let ingress = &find("NetworkPolicy").unwrap()["spec"]["ingress"][1];
    let from = &ingress["from"][0]["podSelector"]["matchLabels"];
    assert_eq!(ingress["ports"][0]["port"], "what-if");
    assert_eq!(from["app.kubernetes.io/component"], "autoscaler");

    let quiet = json!({ "enabled": true, "placement": { "enabled": true, "whatIf": { "enabled": false } } });
    let elsewhere = json!({ "placementUrl": "http://other:1" });
    for (control, decisions, expected) in [
        (json!({ "enabled": true }), json!({}), None),
        (quiet, json!({}), None),
        (json!({}), elsewhere, Some("http://other:1")),
    ] {
        let (objects, url) = asking(control, decisions).await;
        assert_eq!(url.as_deref(), expected);
        let has_service = objects
            .iter()
            .any(|object| object["kind"] == "Service" && object["metadata"]["name"] == NAME);
        assert!(!has_service, "a Service that nobody answers at");
    }
}

#[tokio::test]
async fn a_publisher_without_prometheus_is_refused() {
    let values =
        json!({ "control": { "enabled": true, "publisher": { "config": { "interval": "30s" } } } });
    let error = pd_tests::chart::render(&values).await.unwrap_err();
    assert!(
        error.to_string().contains("control.prometheusUrl"),
        "{error}"
    );
}
