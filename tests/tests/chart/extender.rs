//! The chart's scheduler extender: off unless asked for, every flag with a value, exactly the
//! rights it uses, and notes that kube-scheduler can be configured from.

use std::collections::BTreeSet;

use clap::{CommandFactory as _, Parser as _};
use pd_scheduler_plugin::args::{Args, Command, ServeArgs};
use serde_json::{Value, json};

use super::{parts::Part, rendered};

const NAME: &str = "pd-pd-autoscaler-extender";

async fn extender(changes: Value) -> Part {
    Part::enabled("extender", changes, json!({})).await
}

fn parsed(command: &[String]) -> ServeArgs {
    let args = Args::try_parse_from(command).unwrap_or_else(|error| panic!("{error}"));
    match args.command {
        Command::Serve(args) => *args,
        other => panic!("{other:?} is not serve"),
    }
}

#[tokio::test]
async fn it_is_off_unless_asked_for() {
    let off = rendered(json!({})).await;
    assert!(off.iter().all(|object| object["metadata"]["name"] != NAME));
    let on = extender(json!({})).await;
    let want = [
        "ClusterRole",
        "ClusterRoleBinding",
        "Deployment",
        "PodDisruptionBudget",
        "Role",
        "RoleBinding",
        "Service",
        "ServiceAccount",
    ];
    assert_eq!(on.kinds(), want.map(|kind| (kind, 1)).into());
    on.is_wired();
}

#[tokio::test]
async fn every_flag_has_a_value_and_defaults_agree() {
    let own = extender(json!({})).await.command("pd-scheduler-plugin");
    let given = extender(json!({ "tls": { "secretName": "made-elsewhere" } })).await;
    let given = given.command("pd-scheduler-plugin");
    let all: BTreeSet<String> = own.iter().chain(&given).cloned().collect();
    let serve = Args::command();
    let serve = serve.find_subcommand("serve").unwrap();
    let left_out = ["help", "version", "kubeconfig", "log-filter", "namespace"];
    Part::flags_have_values(serve, &all, &left_out);

    let default = parsed(&["pd-scheduler-plugin".to_owned(), "serve".to_owned()]);
    let chart = parsed(&own);
    assert_eq!(
        chart.extender.extender_address,
        default.extender.extender_address
    );
    assert_eq!(chart.extender.prefer_margin, default.extender.prefer_margin);
    assert_eq!(
        chart.certificates.certificate_validity,
        default.certificates.certificate_validity
    );
    assert!(
        chart.certificates.authority_overlap * 3 <= chart.certificates.authority_validity,
        "a new authority must sign before the old one ends"
    );
    assert!(parsed(&given).certificates.tls_key_file.is_some());
    let plain = extender(json!({ "tls": { "enabled": false } })).await;
    assert!(!parsed(&plain.command("pd-scheduler-plugin")).extender.tls);
}

#[tokio::test]
async fn it_gets_exactly_the_rights_it_uses() {
    let own = format!("secrets/{NAME}-certificates");
    let want = [
        "nodes list".to_owned(),
        "nodes watch".to_owned(),
        "secrets create".to_owned(),
        format!("{own} get"),
        format!("{own} update"),
    ];
    assert_eq!(extender(json!({})).await.rights(), want.into());
    for tls in [
        json!({ "enabled": false }),
        json!({ "secretName": "made-elsewhere" }),
    ] {
        let rights = extender(json!({ "tls": tls })).await.rights();
        assert_eq!(
            rights,
            ["nodes list", "nodes watch"].map(str::to_owned).into()
        );
    }
}
