//! One panel: what it shows, and how, in Grafana's words.

use serde_json::{Value, json};

use super::datasource;

/// Colours of thresholds and mappings.
pub(super) const GOOD: &str = "green";
/// See [`GOOD`].
pub(super) const CAUTION: &str = "orange";
/// See [`GOOD`].
pub(super) const BAD: &str = "red";
/// Neither good nor bad.
pub(super) const PLAIN: &str = "text";

/// Width of a column of small numbers, pixels: its heading and the mark of sorting fit.
const NARROW_PIXELS: u32 = 100;

/// One query of a panel.
#[derive(Debug)]
pub struct Query {
    /// PromQL, with Grafana's variables.
    pub expression: String,
    legend: &'static str,
}

impl Query {
    /// The PromQL with the variables of the dashboard and the window of rates filled in.
    pub fn filled(&self, variables: &[(&str, &str)], rate_interval: &str) -> String {
        let expression = self.expression.replace("$__rate_interval", rate_interval);
        // The longest first: one name may begin another.
        let mut variables = variables.to_vec();
        variables.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        let fill =
            |text: String, (name, value): (&str, &str)| text.replace(&format!("${name}"), value);
        variables.into_iter().fold(expression, fill)
    }
}

/// A panel of a dashboard.
#[derive(Debug)]
pub struct Panel {
    kind: &'static str,
    /// The heading.
    pub title: &'static str,
    description: &'static str,
    pub(super) width: u32,
    pub(super) height: u32,
    /// The queries.
    pub queries: Vec<Query>,
    defaults: Value,
    overrides: Vec<Value>,
    options: Value,
    transformations: Vec<Value>,
}

impl Panel {
    fn new(kind: &'static str, title: &'static str, description: &'static str) -> Self {
        Self {
            kind,
            title,
            description,
            width: 8,
            height: 8,
            queries: Vec::new(),
            defaults: json!({ "unit": "short", "mappings": [], "custom": {}, "color": { "mode": "palette-classic" } }),
            overrides: Vec::new(),
            options: json!({}),
            transformations: Vec::new(),
        }
    }

    /// Lines over time.
    pub(super) fn lines(title: &'static str, description: &'static str) -> Self {
        let mut panel = Self::new("timeseries", title, description);
        panel.defaults["custom"] = json!({
            "drawStyle": "line", "lineWidth": 1, "fillOpacity": 10, "lineInterpolation": "linear",
            "showPoints": "never", "spanNulls": false, "axisSoftMin": 0,
            "stacking": { "mode": "none", "group": "A" },
        });
        panel.options = json!({
            "legend": { "showLegend": true, "displayMode": "list", "placement": "bottom", "calcs": [] },
            "tooltip": { "mode": "multi", "sort": "desc" },
        });
        panel
    }

    /// Numbers that stay until they change.
    pub(super) fn steps(title: &'static str, description: &'static str) -> Self {
        let mut panel = Self::lines(title, description);
        panel.defaults["custom"]["lineInterpolation"] = "stepAfter".into();
        panel.defaults["custom"]["fillOpacity"] = 0.into();
        panel.defaults["decimals"] = 0.into();
        panel
    }

    /// Bars over time, one on another.
    pub(super) fn bars(title: &'static str, description: &'static str) -> Self {
        let mut panel = Self::lines(title, description).stacked();
        panel.defaults["custom"]["drawStyle"] = "bars".into();
        panel.defaults["custom"]["fillOpacity"] = 80.into();
        panel
    }

    /// One number now.
    pub(super) fn number(title: &'static str, description: &'static str) -> Self {
        let mut panel = Self::new("stat", title, description).sized(4, 4);
        panel.defaults["color"] = json!({ "mode": "thresholds" });
        panel.options = json!({
            "reduceOptions": { "calcs": ["lastNotNull"], "fields": "", "values": false },
            "colorMode": "value", "graphMode": "none", "textMode": "auto", "justifyMode": "auto",
            "orientation": "auto", "wideLayout": true, "showPercentChange": false,
            "percentChangeColorMode": "standard",
        });
        panel.coloured(PLAIN, &[])
    }

    /// The word that a label of an info metric has now.
    pub(super) fn word(title: &'static str, description: &'static str) -> Self {
        let mut panel = Self::number(title, description);
        panel.options["textMode"] = "name".into();
        panel
    }

    /// States over time, a row for each.
    pub(super) fn states(title: &'static str, description: &'static str) -> Self {
        let mut panel = Self::new("state-timeline", title, description).sized(24, 7);
        panel.defaults["custom"] = json!({ "fillOpacity": 70, "lineWidth": 0 });
        panel.defaults["color"] = json!({ "mode": "thresholds" });
        panel.options = json!({
            "showValue": "never", "rowHeight": 0.8, "mergeValues": true, "alignValue": "left",
            "legend": { "showLegend": false, "displayMode": "list", "placement": "bottom", "calcs": [] },
            "tooltip": { "mode": "single", "sort": "none" },
        });
        panel.coloured("blue", &[])
    }

    /// A table of what is now: one row for each combination of the labels, and a column for each
    /// query.
    pub(super) fn table(title: &'static str, description: &'static str) -> Self {
        let mut panel = Self::new("table", title, description).sized(24, 9);
        panel.defaults["custom"] =
            json!({ "align": "auto", "cellOptions": { "type": "auto" }, "inspect": false });
        panel.defaults["color"] = json!({ "mode": "thresholds" });
        panel.options = json!({
            "showHeader": true, "cellHeight": "sm", "sortBy": [],
            "footer": { "show": false, "reducer": ["sum"], "countRows": false, "fields": "" },
        });
        panel.coloured(PLAIN, &[])
    }

    /// A query, and the text of its legend.
    pub(super) fn query(mut self, legend: &'static str, expression: impl Into<String>) -> Self {
        self.queries.push(Query {
            expression: expression.into(),
            legend,
        });
        self
    }

    /// Width in columns and height in units of the grid.
    pub(super) fn sized(mut self, width: u32, height: u32) -> Self {
        (self.width, self.height) = (width, height);
        self
    }

    /// The unit, in Grafana's words.
    pub(super) fn unit(mut self, unit: &str) -> Self {
        self.defaults["unit"] = unit.into();
        self
    }

    /// Digits behind the point.
    pub(super) fn decimals(mut self, decimals: u32) -> Self {
        self.defaults["decimals"] = decimals.into();
        self
    }

    /// One on another.
    pub(super) fn stacked(mut self) -> Self {
        self.defaults["custom"]["stacking"]["mode"] = "normal".into();
        self.defaults["custom"]["fillOpacity"] = 40.into();
        self
    }

    /// Filled with the colour of its value.
    pub(super) fn filled(mut self) -> Self {
        self.options["colorMode"] = "background".into();
        self
    }

    /// The colour from the bottom, and those from each value on.
    pub(super) fn coloured(mut self, bottom: &str, steps: &[(f64, &str)]) -> Self {
        let first = json!({ "color": bottom, "value": null });
        let steps = steps
            .iter()
            .map(|(value, color)| json!({ "color": color, "value": value }));
        let steps: Vec<Value> = std::iter::once(first).chain(steps).collect();
        self.defaults["thresholds"] = json!({ "mode": "absolute", "steps": steps });
        self
    }

    /// Words and colours for values.
    pub(super) fn mapped(mut self, words: &[(&str, &str, &str)]) -> Self {
        let options: serde_json::Map<String, Value> = words
            .iter()
            .enumerate()
            .map(|(index, (value, text, color))| {
                let shown = json!({ "text": text, "color": color, "index": index });
                ((*value).to_owned(), shown)
            })
            .collect();
        self.defaults["mappings"] = json!([{ "type": "value", "options": options }]);
        self
    }

    /// Draws the series named `legend` as a limit: red and dashed.
    pub(super) fn limit(self, legend: &str) -> Self {
        self.drawn(legend, BAD, true)
    }

    /// Draws the series named `legend` in a colour, dashed or not.
    pub(super) fn drawn(mut self, legend: &str, color: &str, dashed: bool) -> Self {
        let mut properties =
            vec![json!({ "id": "color", "value": { "mode": "fixed", "fixedColor": color } })];
        if dashed {
            let style = json!({ "fill": "dash", "dash": [8, 6] });
            properties.push(json!({ "id": "custom.lineStyle", "value": style }));
            properties.push(json!({ "id": "custom.fillOpacity", "value": 0 }));
        }
        let matcher = json!({ "id": "byName", "options": legend });
        self.overrides
            .push(json!({ "matcher": matcher, "properties": properties }));
        self
    }

    /// Changes one column of a table.
    pub(super) fn column(mut self, name: &str, properties: &[(&str, Value)]) -> Self {
        let matcher = json!({ "id": "byName", "options": name });
        let properties: Vec<Value> = properties
            .iter()
            .map(|(id, value)| json!({ "id": id, "value": value }))
            .collect();
        self.overrides
            .push(json!({ "matcher": matcher, "properties": properties }));
        self
    }

    /// Makes columns of small numbers narrow, so that the others are seen.
    pub(super) fn narrow(self, names: &[&str]) -> Self {
        let width = [("custom.width", json!(NARROW_PIXELS))];
        names
            .iter()
            .fold(self, |panel, name| panel.column(name, &width))
    }

    /// Joins the queries of a table by their labels; names the columns, in their order. The column
    /// of a query's value is `Value #A`, `Value #B` and so on.
    pub(super) fn columns(mut self, names: &[(&str, &str)], left_out: &[&str]) -> Self {
        let left_out = left_out.iter().chain(&["Time"]);
        let left_out: serde_json::Map<String, Value> = left_out
            .map(|name| ((*name).to_owned(), true.into()))
            .collect();
        let renamed: serde_json::Map<String, Value> = names
            .iter()
            .map(|(from, to)| ((*from).to_owned(), (*to).into()))
            .collect();
        let order: serde_json::Map<String, Value> = names
            .iter()
            .enumerate()
            .map(|(index, (from, _))| ((*from).to_owned(), index.into()))
            .collect();
        self.transformations = vec![
            json!({ "id": "merge", "options": {} }),
            json!({ "id": "organize", "options":
                { "excludeByName": left_out, "indexByName": order, "renameByName": renamed } }),
        ];
        self
    }

    pub(super) fn json(&self, id: u32, place: &Value) -> Value {
        let is_table = self.kind == "table";
        let is_now = is_table || self.kind == "stat";
        let targets: Vec<Value> = ('A'..)
            .zip(&self.queries)
            .map(|(reference, query)| {
                json!({
                    "refId": reference.to_string(),
                    "datasource": datasource(),
                    "editorMode": "code",
                    "expr": query.expression,
                    "legendFormat": query.legend,
                    "instant": is_now,
                    "range": !is_now,
                    "format": if is_table { "table" } else { "time_series" },
                })
            })
            .collect();
        let mut panel = json!({
            "id": id,
            "type": self.kind,
            "title": self.title,
            "description": self.description,
            "gridPos": place,
            "datasource": datasource(),
            "targets": targets,
            "fieldConfig": { "defaults": self.defaults, "overrides": self.overrides },
            "options": self.options,
        });
        if !self.transformations.is_empty() {
            panel["transformations"] = self.transformations.clone().into();
        }
        panel
    }
}
