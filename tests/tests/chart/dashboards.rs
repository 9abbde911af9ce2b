//! Dashboards: the files are what the code makes, Grafana can lay them out, and every metric they
//! use is in the documentation, which a running program is held to.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
};

use pd_tests::{chart, dashboards};
use promql_parser::{
    label::METRIC_NAME,
    parser::{Expr, VectorSelector},
    util::{ExprVisitor, walk_expr},
};
use serde_json::{Value, json};

use super::{of_kind, rendered};

/// The names of the series that an expression reads.
#[derive(Default)]
struct Read(BTreeSet<String>);

impl ExprVisitor for Read {
    type Error = String;

    fn pre_visit(&mut self, expression: &Expr) -> Result<bool, String> {
        let of = |selector: &VectorSelector| {
            let named = selector.matchers.matchers.iter();
            let mut named = named.filter(|matcher| matcher.name == METRIC_NAME);
            let name = selector.name.clone();
            name.or_else(|| named.next().map(|matcher| matcher.value.clone()))
        };
        let name = match expression {
            Expr::VectorSelector(selector) => of(selector),
            Expr::MatrixSelector(selector) => of(&selector.vs),
            _ => return Ok(true),
        };
        self.0.insert(name.ok_or("a selector without a metric")?);
        Ok(true)
    }
}

/// The metrics that a PromQL text reads, by the names under which programs document them.
pub(crate) fn metrics(promql: &str) -> BTreeSet<String> {
    let expression =
        promql_parser::parser::parse(promql).unwrap_or_else(|e| panic!("{promql}: {e}"));
    let mut read = Read::default();
    walk_expr(&mut read, &expression).unwrap_or_else(|error| panic!("{promql}: {error}"));
    let parts = ["_bucket", "_count", "_sum"];
    let whole = |name: String| {
        let whole = parts.iter().find_map(|part| name.strip_suffix(part));
        whole.map_or(name.clone(), str::to_owned)
    };
    read.0.into_iter().map(whole).collect()
}

/// The metrics that the documentation lists.
pub(crate) fn documented() -> BTreeSet<String> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let mut names = BTreeSet::new();
    for file in ["monitoring.md", "numeric-tolerations.md"] {
        let text = fs::read_to_string(docs.join(file)).unwrap();
        let rows = text.lines().filter(|line| line.starts_with("| `p"));
        let first_cells = rows.filter_map(|line| line.split('|').nth(1));
        for cell in first_cells {
            let quoted = cell.split('`').skip(1).step_by(2);
            names.extend(
                quoted
                    .filter(|name| name.starts_with("pd_") || name.starts_with("process_"))
                    .map(str::to_owned),
            );
        }
    }
    names
}

fn queries() -> Vec<(String, String)> {
    let mut queries = Vec::new();
    for dashboard in dashboards::all() {
        let variables = [("namespace", ".*"), ("name", "llama")];
        for panel in dashboard.panels() {
            let place = format!("{}: {}", dashboard.uid, panel.title);
            let filled = panel
                .queries
                .iter()
                .map(|query| query.filled(&variables, "5m"));
            queries.extend(filled.map(|filled| (place.clone(), filled)));
        }
        let series = dashboard.variable_series();
        queries.extend(
            series.map(|series| (dashboard.uid.to_owned(), series.replace("$namespace", "a"))),
        );
    }
    queries
}

#[test]
fn the_files_are_what_the_code_makes() {
    let mut wanted = BTreeMap::new();
    for dashboard in dashboards::all() {
        wanted.insert(format!("{}.json", dashboard.uid), dashboard.text());
    }
    let directory = dashboards::directory();
    if std::env::var_os("PD_UPDATE").is_some() {
        fs::create_dir_all(&directory).unwrap();
        for (name, text) in &wanted {
            fs::write(directory.join(name), text).unwrap();
        }
    }
    let found: BTreeMap<String, String> = fs::read_dir(directory)
        .and_then(|entries| {
            let read = |entry: io::Result<fs::DirEntry>| {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy().into_owned();
                Ok((name, fs::read_to_string(entry.path())?))
            };
            entries.map(read).collect()
        })
        .unwrap_or_default();
    assert!(
        found == wanted,
        "the chart's dashboards differ from the code; run \
         `PD_UPDATE=1 cargo test -p pd-tests --test chart the_files` and commit the result"
    );
}

#[test]
fn every_metric_of_a_panel_is_documented() {
    let documented = documented();
    let unknown: Vec<String> = queries()
        .into_iter()
        .flat_map(|(place, query)| {
            metrics(&query)
                .into_iter()
                .map(move |name| (place.clone(), name))
        })
        .filter(|(_, name)| !documented.contains(name))
        .map(|(place, name)| format!("{place}: {name}"))
        .collect();
    assert!(unknown.is_empty(), "{unknown:#?}");
}

/// Grafana needs these of a dashboard, and breaks silently when they are wrong.
#[test]
fn panels_lie_side_by_side_and_name_no_data_source() {
    for dashboard in dashboards::all() {
        let uid = dashboard.uid;
        let dashboard = dashboard.json();
        let panels = dashboard["panels"].as_array().unwrap();
        let mut ids = BTreeSet::new();
        let mut taken = BTreeSet::new();
        for panel in panels {
            let title = &panel["title"];
            assert!(
                ids.insert(panel["id"].as_u64().unwrap()),
                "{uid}: {title}: the id is taken"
            );
            let place = &panel["gridPos"];
            let at = |key: &str| place[key].as_u64().unwrap();
            assert!(at("x") + at("w") <= 24, "{uid}: {title} is beyond the grid");
            for x in at("x")..at("x") + at("w") {
                for y in at("y")..at("y") + at("h") {
                    assert!(taken.insert((x, y)), "{uid}: {title} lies on another panel");
                }
            }
            if panel["type"] == "row" {
                continue;
            }
            assert_eq!(
                panel["datasource"]["uid"], "${datasource}",
                "{uid}: {title}"
            );
            assert!(
                !panel["description"].as_str().unwrap().is_empty(),
                "{uid}: {title}"
            );
            let targets = panel["targets"].as_array().unwrap();
            assert!(!targets.is_empty(), "{uid}: {title}");
            let ids: BTreeSet<&str> = targets
                .iter()
                .map(|target| target["refId"].as_str().unwrap())
                .collect();
            assert_eq!(ids.len(), targets.len(), "{uid}: {title}");
        }
        let variables = dashboard["templating"]["list"].as_array().unwrap();
        let known: BTreeSet<&str> = variables
            .iter()
            .map(|variable| variable["name"].as_str().unwrap())
            .collect();
        let text = dashboard.to_string();
        let used = text
            .split('$')
            .skip(1)
            .filter(|rest| !rest.starts_with(['{', '_']));
        for rest in used {
            let name: String = rest.chars().take_while(char::is_ascii_alphabetic).collect();
            assert!(known.contains(name.as_str()), "{uid}: nobody knows ${name}");
        }
    }
}

#[test]
fn a_link_leads_to_a_dashboard_and_its_variables() {
    let all = dashboards::all();
    for dashboard in &all {
        let text = dashboard.text();
        for link in text.split("\"/d/").skip(1) {
            let link = link.split('"').next().unwrap();
            let (uid, query) = link.split_once('?').unwrap();
            let target = all.iter().find(|other| other.uid == uid).unwrap().json();
            let variables = target["templating"]["list"].as_array().unwrap();
            for variable in query.split('&').map(|part| part.split('=').next().unwrap()) {
                let name = variable.strip_prefix("var-").unwrap();
                assert!(
                    variables.iter().any(|known| known["name"] == name),
                    "{link}: {name}"
                );
            }
        }
    }
}

#[tokio::test]
async fn the_chart_brings_the_dashboards_of_what_it_installs() {
    assert!(of_kind(&rendered(json!({})).await, "ConfigMap").is_empty());
    let dashboards = json!({ "enabled": true, "namespace": "grafana", "annotations": { "grafana_folder": "LLM" } });
    let names = |objects: &[Value]| -> BTreeSet<String> {
        let maps = of_kind(objects, "ConfigMap").into_iter();
        let maps = maps.filter(|map| map["metadata"]["labels"]["grafana_dashboard"] == "1");
        maps.flat_map(|map| map["data"].as_object().unwrap().keys().cloned())
            .collect()
    };
    let alone = rendered(json!({ "dashboards": dashboards })).await;
    let of_services = ["pd-control-plane.json", "pd-fleet.json", "pd-service.json"];
    assert_eq!(names(&alone), of_services.map(str::to_owned).into());
    let map = of_kind(&alone, "ConfigMap")[0];
    assert_eq!(map["metadata"]["namespace"], "grafana");
    assert_eq!(map["metadata"]["annotations"]["grafana_folder"], "LLM");
    let (name, text) = map["data"].as_object().unwrap().iter().next().unwrap();
    let file = fs::read_to_string(chart::directory().join("files/dashboards").join(name)).unwrap();
    assert_eq!(text.as_str().unwrap(), file);
    let more = rendered(json!({ "dashboards": dashboards, "extender": { "enabled": true } })).await;
    assert!(names(&more).contains("pd-placement.json"));
}
