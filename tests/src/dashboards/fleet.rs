//! All services at once: who misses an objective, what the GPUs are for, what is not as it should
//! be.

use serde_json::json;

use super::{
    Dashboard, Panel, Row, Variable,
    panel::{BAD, CAUTION, GOOD},
};

/// Series of the chosen namespaces.
fn of(metric: &str) -> String {
    format!("{metric}{{namespace=~\"$namespace\"}}")
}

/// Replicas times the GPUs of each.
fn gpus(metric: &str) -> String {
    format!(
        "{} * on (namespace, name, role) {}",
        of(metric),
        of("pd_autoscaler_gpus_per_replica")
    )
}

/// The worse of both objectives of each service.
fn worst(metric: &str) -> String {
    format!("min by (namespace, name) ({})", of(metric))
}

pub(super) fn dashboard() -> Dashboard {
    Dashboard {
        uid: "pd-fleet",
        title: "PDAutoscaler / Fleet",
        description: "All services: objectives, GPUs, and what is not as it should be",
        variables: vec![Variable {
            name: "namespace",
            label: "Namespace",
            query: "label_values(pd_autoscaler_ready, namespace)",
            several: true,
        }],
        rows: vec![now(), services(), gpus_row(), changes()],
    }
}

fn now() -> Row {
    let missed = format!(
        "sum({} < bool on (namespace, name) {})",
        worst("pd_autoscaler_attainment_ratio"),
        of("pd_autoscaler_objective_attainment_ratio")
    );
    Row {
        title: "Now",
        panels: vec![
            Panel::number("PDAutoscalers", "Objects that the controller handles.")
                .query("", format!("count({})", of("pd_autoscaler_ready"))),
            Panel::number("Not ready", "Objects whose Ready condition is not True: nothing is decided, or not applied.")
                .query("", format!("sum(1 - {})", of("pd_autoscaler_ready")))
                .coloured(GOOD, &[(1.0, BAD)]),
            Panel::number("Objectives missed", "Services of which fewer requests kept their limits over the window than the objective says.")
                .query("", missed)
                .coloured(GOOD, &[(1.0, BAD)]),
            Panel::number("Requests", "Requests that arrive, of all services.")
                .query("", format!("sum({})", of("pd_autoscaler_arrival_rate_requests_per_second")))
                .unit("reqps"),
            Panel::number("GPUs requested", "GPUs of the replicas that are requested of all targets.")
                .query("", format!("sum({})", gpus("pd_autoscaler_current_replicas"))),
            Panel::number("GPUs needed", "GPUs of the replicas that the objectives need, before any limit.")
                .query("", format!("sum({})", gpus("pd_autoscaler_needed_replicas"))),
        ],
    }
}

fn services() -> Row {
    let lowest = |metric: &str| format!("bottomk(10, {})", worst(metric));
    Row {
        title: "Services",
        panels: vec![
            table(),
            Panel::lines(
                "Attainment, the ten lowest",
                "Share of the requests within their limits, of the worse objective.",
            )
            .query(
                "{{namespace}}/{{name}}",
                lowest("pd_autoscaler_attainment_ratio"),
            )
            .unit("percentunit")
            .sized(12, 8),
            Panel::lines(
                "Error budget left, the ten lowest",
                "1 is all of it, below 0 it is overspent.",
            )
            .query(
                "{{namespace}}/{{name}}",
                lowest("pd_autoscaler_error_budget_left_ratio"),
            )
            .unit("percentunit")
            .sized(12, 8),
        ],
    }
}

/// A row for each service.
fn table() -> Panel {
    let role = |metric: &str, role: &str| {
        format!("sum by (namespace, name) ({metric}{{namespace=~\"$namespace\", role=\"{role}\"}})")
    };
    let word =
        |metric: &str, label: &str| format!("max by (namespace, name, {label}) ({})", of(metric));
    let share = [("unit", json!("percentunit")), ("decimals", json!(2))];
    let link = json!([{
        "title": "Show the service",
        "url": "/d/pd-service?var-datasource=${datasource}&var-namespace=${__data.fields.Namespace}&var-name=${__data.fields.Service}",
    }]);
    let budget_colours = json!({ "mode": "absolute", "steps": [
        { "color": BAD, "value": null }, { "color": CAUTION, "value": 0 }, { "color": GOOD, "value": 0.25 },
    ] });
    Panel::table(
        "Services",
        "One row for each service. A click on its name shows it.",
    )
    .query("", worst("pd_autoscaler_attainment_ratio"))
    .query("", worst("pd_autoscaler_error_budget_left_ratio"))
    .query("", role("pd_autoscaler_needed_replicas", "prefill"))
    .query("", role("pd_autoscaler_desired_replicas", "prefill"))
    .query("", role("pd_autoscaler_ready_replicas", "prefill"))
    .query("", role("pd_autoscaler_needed_replicas", "decode"))
    .query("", role("pd_autoscaler_desired_replicas", "decode"))
    .query("", role("pd_autoscaler_ready_replicas", "decode"))
    .query("", word("pd_autoscaler_bottleneck_info", "bottleneck"))
    .query("", word("pd_autoscaler_decision_info", "reason"))
    .columns(
        &[
            ("namespace", "Namespace"),
            ("name", "Service"),
            ("Value #A", "Attainment"),
            ("Value #B", "Error budget left"),
            ("Value #C", "P needed"),
            ("Value #D", "P desired"),
            ("Value #E", "P ready"),
            ("Value #F", "D needed"),
            ("Value #G", "D desired"),
            ("Value #H", "D ready"),
            ("bottleneck", "Bottleneck"),
            ("reason", "Reason"),
        ],
        &["Value #I", "Value #J"],
    )
    .column("Service", &[("links", link)])
    .narrow(&[
        "P needed",
        "P desired",
        "P ready",
        "D needed",
        "D desired",
        "D ready",
    ])
    .column("Attainment", &share)
    .column("Error budget left", &share)
    .column(
        "Error budget left",
        &[
            ("thresholds", budget_colours),
            ("custom.cellOptions", json!({ "type": "color-text" })),
        ],
    )
}

fn gpus_row() -> Row {
    let sum = |by: &str, what: &str| format!("sum by ({by}) ({what})");
    let beyond = format!(
        "sum by (role) (({} - {}) * on (namespace, name, role) {})",
        of("pd_autoscaler_current_replicas"),
        of("pd_autoscaler_needed_replicas"),
        of("pd_autoscaler_gpus_per_replica")
    );
    let waiting = format!(
        "sum by (namespace, name, role) ({} - {})",
        of("pd_autoscaler_current_replicas"),
        of("pd_autoscaler_ready_replicas")
    );
    Row {
        title: "GPUs and replicas",
        panels: vec![
            Panel::steps("GPUs requested by namespace", "GPUs of the replicas that are requested.")
                .query("{{namespace}}", sum("namespace", &gpus("pd_autoscaler_current_replicas")))
                .stacked(),
            Panel::steps("GPUs requested by role", "GPUs of the replicas that are requested.")
                .query("{{role}}", sum("role", &gpus("pd_autoscaler_current_replicas")))
                .stacked()
                .drawn("prefill", "blue", false)
                .drawn("decode", "orange", false),
            Panel::steps("GPUs beyond the need", "GPUs that are requested and that the objectives do not need now: minimum, ratio, windows. Below 0, GPUs are missing.")
                .query("{{role}}", beyond)
                .drawn("prefill", "blue", false)
                .drawn("decode", "orange", false),
            Panel::steps("Replicas that do not serve yet", "Requested replicas without a ready pod: they start, wait for nodes, or are stuck.")
                .query("{{namespace}}/{{name}} {{role}}", waiting)
                .sized(12, 8),
            Panel::steps("Stuck replicas", "Replicas that will not serve without help: no node, no quota, no image, or a crash.")
                .query("{{namespace}}/{{name}} {{role}}", format!("sum by (namespace, name, role) ({})", of("pd_autoscaler_stuck_replicas")))
                .sized(12, 8),
        ],
    }
}

fn changes() -> Row {
    let scalings = "sum by (direction, reason) (increase(pd_autoscaler_scalings_total{namespace=~\"$namespace\"}[$__rate_interval]))";
    let conditions = "count by (condition, status, reason) (pd_autoscaler_condition_info{namespace=~\"$namespace\"})";
    Row {
        title: "Changes and conditions",
        panels: vec![
            Panel::bars(
                "Changes of replicas",
                "Writes of replicas by direction and reason.",
            )
            .query("{{direction}}: {{reason}}", scalings)
            .sized(12, 9),
            Panel::table(
                "Conditions",
                "How many objects have each status and reason of each condition.",
            )
            .query("", conditions)
            .columns(
                &[
                    ("condition", "Condition"),
                    ("status", "Status"),
                    ("reason", "Reason"),
                    ("Value", "Objects"),
                ],
                &[],
            )
            .sized(12, 9),
        ],
    }
}
