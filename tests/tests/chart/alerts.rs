//! Alerts: each is played by promtool, has a page in docs/runbooks, and reads metrics that there
//! are; the chart brings those of what it installs.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use pd_tests::{
    chart,
    tools::{KubernetesVersion, Tools},
};
use serde_json::{Value, json};

use super::{
    dashboards::{documented, metrics},
    of_kind, one, rendered,
};

fn yaml(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap();
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The rule files, by name.
fn files() -> BTreeMap<String, PathBuf> {
    let entries = fs::read_dir(chart::directory().join("files/alerts")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .map(|path| {
            (
                path.file_name().unwrap().to_string_lossy().into_owned(),
                path,
            )
        })
        .collect()
}

fn rules(file: &Value) -> impl Iterator<Item = &Value> {
    let groups = file["groups"].as_array().unwrap().iter();
    groups.flat_map(|group| group["rules"].as_array().unwrap())
}

fn all_rules() -> Vec<Value> {
    let files: Vec<Value> = files().values().map(|path| yaml(path)).collect();
    files.iter().flat_map(rules).cloned().collect()
}

fn names(rules: &[Value]) -> BTreeSet<String> {
    rules
        .iter()
        .map(|rule| rule["alert"].as_str().unwrap().to_owned())
        .collect()
}

fn plays(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("alerts")
        .join(name)
}

/// Has promtool play the rules of one file. Their texts for people are another test's.
fn play(promtool: &Path, name: &str, rules: &Path) -> Result<(), String> {
    let directory = tempfile::tempdir().unwrap();
    let mut rules = yaml(rules);
    for group in rules["groups"].as_array_mut().unwrap() {
        for rule in group["rules"].as_array_mut().unwrap() {
            rule.as_object_mut().unwrap().remove("annotations");
        }
    }
    let mut tests = yaml(&plays(name));
    tests["rule_files"] = json!(["rules.json"]);
    fs::write(directory.path().join("rules.json"), rules.to_string()).unwrap();
    let file = directory.path().join("tests.json");
    fs::write(&file, tests.to_string()).unwrap();
    let output = Command::new(promtool)
        .args(["test", "rules"])
        .arg(&file)
        .output()
        .unwrap();
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(format!("{name}:\n{}", String::from_utf8_lossy(&said)))
}

#[test]
fn every_alert_fires_when_it_should_and_not_before() {
    let tools = Tools::locate_or_build(KubernetesVersion::from_environment().unwrap()).unwrap();
    let mut failures = Vec::new();
    for (name, path) in files() {
        let check = Command::new(&tools.promtool)
            .args(["check", "rules", "--lint=all", "--lint-fatal"])
            .arg(&path)
            .output()
            .unwrap();
        if !check.status.success() {
            let said = [check.stdout, check.stderr].concat();
            failures.push(String::from_utf8_lossy(&said).into_owned());
        }
        failures.extend(play(&tools.promtool, &name, &path).err());
        let alerts: Vec<Value> = rules(&yaml(&path)).cloned().collect();
        let tests = yaml(&plays(&name));
        let mut firing = BTreeSet::new();
        let mut silent = BTreeSet::new();
        for test in tests["tests"].as_array().unwrap() {
            for moment in test["alert_rule_test"].as_array().unwrap() {
                let fires = !moment["exp_alerts"].as_array().unwrap().is_empty();
                let kind = if fires { &mut firing } else { &mut silent };
                kind.insert(moment["alertname"].as_str().unwrap().to_owned());
            }
        }
        let played: BTreeSet<String> = firing.clone();
        if played != names(&alerts) {
            failures.push(format!("{name}: firing alerts {played:?}"));
        }
        // An alert that waits is seen to wait.
        let waiting = alerts.iter().filter(|rule| rule["for"].is_string());
        for rule in waiting.map(|rule| rule["alert"].as_str().unwrap()) {
            if !silent.contains(rule)
                && rule != "PDAutoscalerFlapping"
                && rule != "PDEvictionAnnotationsUnreadable"
            {
                failures.push(format!("{name}: {rule} is never seen to wait"));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_alert_has_a_runbook_and_every_runbook_an_alert() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/runbooks");
    let pages: BTreeSet<String> = fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter_map(|name| name.strip_suffix(".md").map(str::to_owned))
        .filter(|name| name != "README")
        .collect();
    let alerts = names(&all_rules());
    assert_eq!(pages, alerts);
    let index = fs::read_to_string(directory.join("README.md")).unwrap();
    for alert in &alerts {
        assert!(
            index.contains(&format!("- [{alert}]({alert}.md)\n")),
            "README: {alert}"
        );
        let page = fs::read_to_string(directory.join(format!("{alert}.md"))).unwrap();
        assert!(page.starts_with(&format!("# {alert}\n")), "{alert}");
        for part in ["\n## Consequence\n", "\n## Steps\n", "```sh\nkubectl "] {
            assert!(page.contains(part), "{alert}: {part}");
        }
    }
}

#[test]
fn every_alert_reads_documented_metrics_and_says_what_and_how_bad() {
    let documented = documented();
    let mut faults = Vec::new();
    for rule in all_rules() {
        let name = rule["alert"].as_str().unwrap();
        let unknown = metrics(rule["expr"].as_str().unwrap());
        faults.extend(
            unknown
                .difference(&documented)
                .map(|metric| format!("{name}: {metric}")),
        );
        if !["info", "warning", "critical"].contains(&rule["labels"]["severity"].as_str().unwrap())
        {
            faults.push(format!("{name}: severity"));
        }
        for text in ["summary", "description"] {
            if rule["annotations"][text].as_str().is_none_or(str::is_empty) {
                faults.push(format!("{name}: {text}"));
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

fn shown(objects: &[Value]) -> Vec<Value> {
    rules(&one(objects, "PrometheusRule")["spec"])
        .cloned()
        .collect()
}

#[tokio::test]
async fn the_chart_brings_the_alerts_of_what_it_installs() {
    assert!(of_kind(&rendered(json!({})).await, "PrometheusRule").is_empty());
    let enabled = json!({ "enabled": true });
    let of = |names: &[&str]| -> BTreeSet<String> {
        let paths = names
            .iter()
            .map(|name| files()[&format!("{name}.yaml")].clone());
        paths
            .flat_map(|path| self::names(&rules(&yaml(&path)).cloned().collect::<Vec<_>>()))
            .collect()
    };
    let alone = rendered(json!({ "prometheusRule": enabled })).await;
    assert_eq!(names(&shown(&alone)), of(&["services", "controller"]));
    let all = rendered(json!({
        "prometheusRule": enabled, "webhook": enabled, "extender": enabled, "prometheus": { "url": "http://p" },
        "control": { "enabled": true, "publisher": { "config": { "interval": "30s" } } },
    }))
    .await;
    assert_eq!(names(&shown(&all)), names(&all_rules()));
    // With policies no webhook runs, and without publishers nobody reads their file.
    let fewer = rendered(json!({
        "prometheusRule": enabled, "webhook": { "enabled": true, "edition": "policy" }, "control": enabled,
    }))
    .await;
    assert_eq!(
        names(&shown(&fewer)),
        of(&["services", "controller", "control"])
    );
}

#[tokio::test]
async fn users_route_leave_out_and_add_alerts() {
    let objects = rendered(json!({ "prometheusRule": {
        "enabled": true, "labels": { "release": "p" }, "ruleLabels": { "team": "llm", "severity": "page" },
        "runbookUrl": "https://example.com/books/", "disabled": ["PDAutoscalerFlapping"],
        "groups": [{ "name": "mine", "rules": [{ "alert": "Mine", "expr": "vector(1)" }] }],
    }}))
    .await;
    assert_eq!(
        one(&objects, "PrometheusRule")["metadata"]["labels"]["release"],
        "p"
    );
    let rules = shown(&objects);
    let names = names(&rules);
    assert!(names.contains("Mine") && !names.contains("PDAutoscalerFlapping"));
    for rule in rules.iter().filter(|rule| rule["alert"] != "Mine") {
        assert_eq!(rule["labels"], json!({ "team": "llm", "severity": "page" }));
        let url = format!(
            "https://example.com/books/{}.md",
            rule["alert"].as_str().unwrap()
        );
        assert_eq!(rule["annotations"]["runbook_url"], url.as_str());
    }
    let without =
        rendered(json!({ "prometheusRule": { "enabled": true, "runbookUrl": "" } })).await;
    assert!(
        shown(&without)
            .iter()
            .all(|rule| rule["annotations"]["runbook_url"].is_null())
    );
}

/// Go templates of Prometheus in the rules are not Helm's.
#[tokio::test]
async fn texts_reach_prometheus_unchanged() {
    let objects = rendered(json!({ "prometheusRule": { "enabled": true } })).await;
    let by_name = |rules: &[Value]| -> BTreeMap<String, Value> {
        let named = |rule: &Value| {
            (
                rule["alert"].as_str().unwrap().to_owned(),
                rule["annotations"]["summary"].clone(),
            )
        };
        rules.iter().map(named).collect()
    };
    let written = by_name(&all_rules());
    for (name, summary) in by_name(&shown(&objects)) {
        assert_eq!(written[&name], summary);
    }
    assert!(
        written
            .values()
            .any(|text| text.as_str().unwrap().contains("{{ $labels.namespace }}"))
    );
}
