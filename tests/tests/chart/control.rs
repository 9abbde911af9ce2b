//! The chart's node and eviction controllers: off unless asked for, every flag with a value,
//! defaults as the program's, and rights that follow what is switched on.

use std::collections::BTreeSet;

use clap::{CommandFactory as _, Parser as _};
use pd_scheduler_plugin::args::{Args, Command, ControlArgs};
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
    let others = json!({ "prometheus": prometheus });
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
    let full = with(&[
        "nodes patch",
        "nodes/proxy get",
        "pods/eviction create",
        "pods/status patch",
    ]);
    assert_eq!(control(everything()).await.rights(), full);
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
