//! The chart's Grafana dashboards, made from code.
//!
//! A dashboard's JSON is mostly what Grafana repeats for each panel. So the panels are written here
//! as what a person decides about them (title, meaning, query, unit), and the JSON in the chart's
//! `files/dashboards` is made of that; a test says when it differs. The same values give the tests
//! every query, to parse it, to look for its metrics in the code, and to run it.
//!
//! No dashboard names a data source: it is a variable, as are namespace and service.

mod control_plane;
mod fleet;
mod panel;
mod placement;
mod service;

use std::path::PathBuf;

use serde_json::{Value, json};

pub use self::panel::{Panel, Query};

/// Columns of Grafana's grid.
const COLUMNS: u32 = 24;

/// The data source of every panel: a variable.
fn datasource() -> Value {
    json!({ "type": "prometheus", "uid": "${datasource}" })
}

/// A dashboard.
#[derive(Debug)]
pub struct Dashboard {
    /// Its name in addresses, and of its file.
    pub uid: &'static str,
    title: &'static str,
    description: &'static str,
    variables: Vec<Variable>,
    rows: Vec<Row>,
}

/// Panels under a heading.
#[derive(Debug)]
struct Row {
    title: &'static str,
    panels: Vec<Panel>,
}

/// A variable whose values Prometheus knows.
#[derive(Debug)]
struct Variable {
    name: &'static str,
    label: &'static str,
    /// The series and the label whose values are offered.
    query: &'static str,
    /// Whether several or all values may be chosen.
    several: bool,
}

/// Every dashboard.
pub fn all() -> [Dashboard; 4] {
    [
        fleet::dashboard(),
        service::dashboard(),
        placement::dashboard(),
        control_plane::dashboard(),
    ]
}

/// The directory of the JSON files in the chart.
pub fn directory() -> PathBuf {
    crate::chart::directory().join("files/dashboards")
}

impl Dashboard {
    /// Its panels.
    pub fn panels(&self) -> impl Iterator<Item = &Panel> {
        self.rows.iter().flat_map(|row| &row.panels)
    }

    /// The queries that fill its variables, as Prometheus understands them.
    pub fn variable_series(&self) -> impl Iterator<Item = &'static str> {
        let queries = self.variables.iter().map(|variable| variable.query);
        queries.filter_map(|query| {
            query
                .strip_prefix("label_values(")?
                .rsplit_once(", ")
                .map(|(series, _)| series)
        })
    }

    /// The file's content.
    pub fn text(&self) -> String {
        format!("{:#}\n", self.json())
    }

    /// The JSON as Grafana reads it.
    pub fn json(&self) -> Value {
        json!({
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": ["pdautoscaler"],
            "schemaVersion": 39,
            "editable": true,
            "graphTooltip": 1,
            "refresh": "30s",
            "time": { "from": "now-3h", "to": "now" },
            "timezone": "browser",
            "annotations": { "list": [] },
            "links": [{
                "title": "PDAutoscaler", "type": "dashboards", "tags": ["pdautoscaler"], "asDropdown": true,
                "includeVars": true, "keepTime": true, "targetBlank": false,
                "icon": "external link", "tooltip": "", "url": "",
            }],
            "templating": { "list": self.variables_json() },
            "panels": self.panels_json(),
        })
    }

    fn variables_json(&self) -> Vec<Value> {
        let source = json!({
            "name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus",
            "refresh": 1, "hide": 0, "regex": "", "multi": false, "includeAll": false, "skipUrlSync": false,
            "current": {}, "options": [],
        });
        let variables = self.variables.iter().map(|variable| {
            let mut value = json!({
                "name": variable.name, "label": variable.label, "type": "query",
                "datasource": datasource(),
                "definition": variable.query,
                "query": { "query": variable.query, "refId": variable.name, "qryType": 5 },
                "refresh": 2, "sort": 1, "hide": 0, "regex": "", "skipUrlSync": false, "options": [],
                "multi": variable.several, "includeAll": variable.several, "current": {},
            });
            if variable.several {
                value["allValue"] = ".*".into();
                value["current"] = json!({ "selected": true, "text": ["All"], "value": ["$__all"] });
            }
            value
        });
        std::iter::once(source).chain(variables).collect()
    }

    /// Panels from left to right, row under row.
    fn panels_json(&self) -> Vec<Value> {
        let (mut all, mut y, mut id) = (Vec::new(), 0, 1);
        for row in &self.rows {
            all.push(json!({
                "type": "row", "id": id, "title": row.title, "collapsed": false, "panels": [],
                "gridPos": { "x": 0, "y": y, "w": COLUMNS, "h": 1 },
            }));
            (y, id) = (y + 1, id + 1);
            let (mut x, mut line_height) = (0, 0);
            for panel in &row.panels {
                if x + panel.width > COLUMNS {
                    (x, y, line_height) = (0, y + line_height, 0);
                }
                let place = json!({ "x": x, "y": y, "w": panel.width, "h": panel.height });
                all.push(panel.json(id, &place));
                id += 1;
                x += panel.width;
                line_height = line_height.max(panel.height);
            }
            y += line_height;
        }
        all
    }
}
