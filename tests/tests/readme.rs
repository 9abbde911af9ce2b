//! README's table of what the product does today, generated from the code that does it.
//!
//! A row comes from the list that the code itself goes by: kinds of workload, the catalogue of an
//! engine, flags of the chart, rules of the CRD. So a claim cannot outlive the code, and no code
//! can stay unmentioned. `PD_UPDATE=1` writes the table.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed step of a test ends it"
)]

use std::{fmt::Write as _, fs, path::PathBuf};

use clap::CommandFactory as _;
use kube::CustomResourceExt as _;
use pd_api::v1alpha1::PDAutoscaler;
use pd_signals::{engine::ENGINES, gateway::GATEWAYS, pods::TargetKind};
use serde_json::Value;

/// The parts that the chart installs when they are switched on, by their key in `values.yaml`.
const PARTS: [&str; 3] = ["webhook", "extender", "control"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// Each kind with its API version.
fn kinds() -> String {
    let named = TargetKind::ALL.map(|kind| {
        let (api_version, kind) = kind.type_meta();
        format!("{kind} ({api_version})")
    });
    named.join(", ")
}

/// Each kind that a switch of the chart grants the rights for.
fn switched_kinds() -> String {
    let kinds = pd_systems::ALL
        .into_iter()
        .flat_map(pd_systems::system::System::kinds);
    let switched = kinds.filter(|kind| !kind.switch.is_empty());
    let named: Vec<String> = switched
        .map(|kind| format!("{} ({})", kind.kind, kind.api_version()))
        .collect();
    format!("{}, and any other kind with `scale`", named.join(", "))
}

/// The first sentence of the comment above `enabled` of a part in `values.yaml`.
fn part(values: &str, name: &str) -> String {
    let own = values.split_once(&format!("\n{name}:\n")).unwrap().1;
    let comment = own
        .lines()
        .find_map(|line| line.trim().strip_prefix("# -- "));
    let sentence = comment.expect("a comment above the first value");
    sentence
        .split(". ")
        .next()
        .unwrap()
        .trim_end_matches('.')
        .to_owned()
}

/// Fields of later versions, which the CRD knows and refuses, with the advice of the rule.
fn refused(schema: &Value, path: &str, found: &mut Vec<(String, String)>) {
    let rules = schema["x-kubernetes-validations"].as_array();
    for rule in rules
        .into_iter()
        .flatten()
        .filter(|rule| rule["rule"] == "false")
    {
        let message = rule["message"].as_str().unwrap();
        let advice = message
            .split_once("; ")
            .map_or(message, |(_, advice)| advice);
        found.push((path.to_owned(), advice.to_owned()));
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        refused(property, &format!("{path}.{name}"), found);
    }
}

/// Every subcommand, as people type it.
fn commands(command: &clap::Command) -> Vec<String> {
    let name = command.get_name();
    let shown = command.get_subcommands().filter(|sub| !sub.is_hide_set());
    shown
        .map(|sub| format!("`{name} {}`", sub.get_name()))
        .collect()
}

/// Products, each with the versions that are read.
fn readable(products: impl Iterator<Item = (&'static str, &'static str)>) -> String {
    let named: Vec<String> = products
        .map(|(product, versions)| format!("{product} ({versions})"))
        .collect();
    named.join(", ")
}

fn table() -> String {
    let values = read("charts/pd-autoscaler/values.yaml");
    let chart: Value = serde_saphyr::from_str(&read("charts/pd-autoscaler/Chart.yaml")).unwrap();
    let crd = serde_json::to_value(PDAutoscaler::crd()).unwrap();
    let spec = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let mut fields = Vec::new();
    refused(spec, "spec", &mut fields);

    let mut rows = vec![
        ("scales, through `/scale`".to_owned(), kinds()),
        (
            "scales, by a switch of the chart (docs/systems.md)".to_owned(),
            switched_kinds(),
        ),
        (
            "reads the metrics of".to_owned(),
            readable(
                ENGINES
                    .iter()
                    .map(|engine| (engine.product, engine.versions)),
            ),
        ),
        (
            "and, before them, of the gateway".to_owned(),
            readable(
                GATEWAYS
                    .iter()
                    .map(|gateway| (gateway.product, gateway.versions)),
            ),
        ),
        (
            "runs on Kubernetes".to_owned(),
            chart["kubeVersion"].as_str().unwrap().replace("-0", ""),
        ),
    ];
    for name in PARTS {
        rows.push((
            format!("`{name}.enabled` of the chart"),
            part(&values, name),
        ));
    }
    rows.push((
        "judges numeric SLA tolerations by".to_owned(),
        commands(&pd_scheduler_plugin::args::Args::command()).join(", "),
    ));
    for (field, advice) in fields {
        rows.push((format!("refuses `{field}`"), advice));
    }
    let mut table = String::from("| | |\n|---|---|\n");
    for (what, how) in rows {
        writeln!(table, "| {what} | {how} |").unwrap();
    }
    table
}

#[test]
fn the_table_of_claims_is_what_the_code_does() {
    let (start, end) = ("<!-- begin claims -->\n", "<!-- end claims -->");
    let readme = read("README.md");
    let (head, rest) = readme.split_once(start).expect("a place for the claims");
    let (shown, tail) = rest.split_once(end).expect("an end of the claims");
    let table = table();
    if std::env::var_os("PD_UPDATE").is_some() {
        fs::write(
            root().join("README.md"),
            format!("{head}{start}{table}{end}{tail}"),
        )
        .unwrap();
        return;
    }
    assert!(
        shown == table,
        "README.md differs from the code; run `PD_UPDATE=1 cargo test -p pd-tests --test readme` \
         and commit the result"
    );
}
