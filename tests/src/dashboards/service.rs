//! One PDAutoscaler: whether it keeps its objective, what it has and needs, and why.

use super::{
    Dashboard, Panel, Row, Variable,
    panel::{BAD, CAUTION, GOOD, PLAIN},
};

/// Series of the chosen service.
fn of(metric: &str) -> String {
    with(metric, "")
}

/// Series of the chosen service with further matchers, which begin with a comma.
fn with(metric: &str, matchers: &str) -> String {
    format!("{metric}{{namespace=\"$namespace\", name=\"$name\"{matchers}}}")
}

fn of_role(metric: &str, role: &str) -> String {
    with(metric, &format!(", role=\"{role}\""))
}

fn of_objective(metric: &str, objective: &str) -> String {
    with(metric, &format!(", objective=\"{objective}\""))
}

pub(super) fn dashboard() -> Dashboard {
    Dashboard {
        uid: "pd-service",
        title: "PDAutoscaler / Service",
        description: "One PDAutoscaler: its objective, its replicas, and the reasons of its decisions",
        variables: vec![
            Variable {
                name: "namespace",
                label: "Namespace",
                query: "label_values(pd_autoscaler_ready, namespace)",
                several: false,
            },
            Variable {
                name: "name",
                label: "PDAutoscaler",
                query: "label_values(pd_autoscaler_ready{namespace=\"$namespace\"}, name)",
                several: false,
            },
        ],
        rows: vec![now(), objective(), replicas(), load(), reasons()],
    }
}

fn now() -> Row {
    let one = |metric: &str| format!("max({})", of(metric));
    let gpus = format!(
        "sum({} * on (namespace, name, role) {})",
        of("pd_autoscaler_current_replicas"),
        of("pd_autoscaler_gpus_per_replica")
    );
    let sum_of = |role| format!("sum({})", of_role("pd_autoscaler_current_replicas", role));
    Row {
        title: "Now",
        panels: vec![
            Panel::number("Ready", "Whether decisions are made and, in mode Auto, applied.")
                .sized(3, 4)
                .query("", one("pd_autoscaler_ready"))
                .mapped(&[("0", "no", BAD), ("1", "yes", GOOD)])
                .filled(),
            Panel::number("Attainment", "Share of the requests within their limits over the window, of the worse objective.")
                .sized(3, 4)
                .query("", format!("min({})", of("pd_autoscaler_attainment_ratio")))
                .unit("percentunit")
                .decimals(2),
            Panel::number("Error budget left", "1 is all of it, below 0 it is overspent; of the worse role.")
                .sized(3, 4)
                .query("", format!("min({})", of("pd_autoscaler_error_budget_left_ratio")))
                .unit("percentunit")
                .decimals(0)
                .coloured(BAD, &[(0.0, CAUTION), (0.25, GOOD)]),
            Panel::number("Prefill and decode", "Replicas that are requested of both targets.")
                .query("P", sum_of("prefill"))
                .query("D", sum_of("decode")),
            Panel::word("Last decision", "The reason that decided.")
                .query("{{reason}}", format!("max by (reason) ({})", of("pd_autoscaler_decision_info"))),
            Panel::word("Bottleneck", "Where requests lose time. None: the objective holds, or nothing is known.")
                .query("{{bottleneck}}", format!("max by (bottleneck) ({})", of("pd_autoscaler_bottleneck_info"))),
            Panel::number("GPUs requested", "GPUs of the replicas that are requested of both targets.")
                .sized(3, 4)
                .query("", gpus),
        ],
    }
}

fn objective() -> Row {
    let latency = |title, objective| {
        Panel::lines(
            title,
            "Measured, at the percentile of the objective, and its limit.",
        )
        .query(
            "measured",
            format!(
                "max({})",
                of_objective("pd_autoscaler_latency_seconds", objective)
            ),
        )
        .query(
            "limit",
            format!(
                "max({})",
                of_objective("pd_autoscaler_objective_limit_seconds", objective)
            ),
        )
        .unit("s")
        .limit("limit")
        .sized(6, 8)
    };
    Row {
        title: "Objective",
        panels: vec![
            latency("Time to first token", "ttft"),
            latency("Time per output token", "tpot"),
            Panel::lines("Attainment", "Share of the requests within each limit over the attainment window, and the share that must be.")
                .query("{{objective}}", format!("max by (objective) ({})", of("pd_autoscaler_attainment_ratio")))
                .query("objective", format!("max({})", of("pd_autoscaler_objective_attainment_ratio")))
                .unit("percentunit")
                .limit("objective")
                .sized(6, 8),
            Panel::lines("Error budget left", "1 is all of it, below 0 it is overspent. With less of it, sizing takes less risk.")
                .query("{{role}}", format!("max by (role) ({})", of("pd_autoscaler_error_budget_left_ratio")))
                .unit("percentunit")
                .sized(6, 8),
        ],
    }
}

fn replicas() -> Row {
    let role = |title, role| {
        let max = |metric: &str| format!("max({})", of_role(metric, role));
        Panel::steps(title, "Needed: for the objective, before any limit. Desired: the last decision. Requested: spec.replicas. Ready: they serve. Bounds: with schedules.")
            .query("needed", max("pd_autoscaler_needed_replicas"))
            .query("desired", max("pd_autoscaler_desired_replicas"))
            .query("requested", max("pd_autoscaler_current_replicas"))
            .query("ready", max("pd_autoscaler_ready_replicas"))
            .query("stuck", max("pd_autoscaler_stuck_replicas"))
            .query("minimum", max("pd_autoscaler_min_replicas"))
            .query("maximum", max("pd_autoscaler_max_replicas"))
            .drawn("needed", "purple", false)
            .drawn("desired", "blue", false)
            .drawn("requested", CAUTION, false)
            .drawn("ready", GOOD, false)
            .drawn("stuck", BAD, false)
            .drawn("minimum", PLAIN, true)
            .drawn("maximum", PLAIN, true)
            .sized(9, 9)
    };
    let current = format!(
        "max({}) / max({})",
        of_role("pd_autoscaler_current_replicas", "prefill"),
        of_role("pd_autoscaler_current_replicas", "decode")
    );
    Row {
        title: "Replicas",
        panels: vec![
            role("Prefill replicas", "prefill"),
            role("Decode replicas", "decode"),
            Panel::lines("Ratio", "Prefill replicas per decode replica: requested, as the traffic needs it, and the band if the object has one.")
                .query("requested", current)
                .query("needed by the traffic", format!("max({})", of("pd_autoscaler_ratio_needed")))
                .query("least", format!("max({})", of("pd_autoscaler_ratio_band_min")))
                .query("most", format!("max({})", of("pd_autoscaler_ratio_band_max")))
                .unit("none")
                .decimals(2)
                .limit("least")
                .limit("most")
                .sized(6, 9),
        ],
    }
}

fn load() -> Row {
    let by_role = |metric: &str| format!("max by (role) ({})", of(metric));
    Row {
        title: "Load, forecast and capacity",
        panels: vec![
            Panel::lines("Requests", "Requests that arrive.")
                .query("arrive", format!("max({})", of("pd_autoscaler_arrival_rate_requests_per_second")))
                .unit("reqps"),
            Panel::lines("Prefill work expected", "Replicas that prompts will keep busy when replicas requested now serve.")
                .query("busy replicas", format!("max({})", of("pd_autoscaler_forecast_prefill_busy_replicas")))
                .unit("none"),
            Panel::lines("Decode work expected", "Output tokens per second when replicas requested now serve.")
                .query("tokens/s", format!("max({})", of("pd_autoscaler_forecast_decode_tokens_per_second"))),
            Panel::lines("Lead time", "From the request for a replica to its serving, 90th percentile.")
                .query("{{role}}", by_role("pd_autoscaler_lead_time_seconds"))
                .unit("s"),
            Panel::lines("Capacity factor", "Measured times of a replica as a multiple of its profile or of what was learnt. Above 1 it is slower.")
                .query("{{role}}", by_role("pd_autoscaler_capacity_factor"))
                .unit("none"),
            Panel::lines("Capacity error", "Relative error of a replica's times, one standard deviation. Sizing leaves room for it.")
                .query("{{role}}", by_role("pd_autoscaler_capacity_error_ratio"))
                .unit("percentunit"),
        ],
    }
}

fn reasons() -> Row {
    let scalings = format!(
        "sum by (role, direction, reason) (increase({}[$__rate_interval]))",
        of("pd_autoscaler_scalings_total")
    );
    Row {
        title: "Reasons",
        panels: vec![
            Panel::states(
                "Reason of the decision",
                "The reason that decided, over time.",
            )
            .query(
                "{{reason}}",
                format!("max by (reason) ({})", of("pd_autoscaler_decision_info")),
            )
            .sized(12, 8),
            Panel::states("Bottleneck", "Where requests lose time, over time.")
                .query(
                    "{{bottleneck}}",
                    format!(
                        "max by (bottleneck) ({})",
                        of("pd_autoscaler_bottleneck_info")
                    ),
                )
                .sized(12, 8),
            conditions(),
            conditions_now(),
            Panel::bars(
                "Changes of replicas",
                "Writes of replicas by role, direction and reason.",
            )
            .query("{{role}} {{direction}}: {{reason}}", scalings)
            .sized(24, 7),
        ],
    }
}

/// Conditions over time.
fn conditions() -> Panel {
    let condition = |status: &str| {
        let matcher = format!(", status=\"{status}\"");
        format!(
            "max by (condition) ({})",
            with("pd_autoscaler_condition_info", &matcher)
        )
    };
    let over_time = format!(
        "{} or {} * 0 or {} * -1",
        condition("True"),
        condition("False"),
        condition("Unknown")
    );
    Panel::states(
        "Conditions",
        "True, False or Unknown, over time. The reasons are in the table.",
    )
    .query("{{condition}}", over_time)
    .mapped(&[
        ("1", "True", GOOD),
        ("0", "False", "blue"),
        ("-1", "Unknown", CAUTION),
    ])
    .sized(12, 10)
}

/// Conditions with their reasons.
fn conditions_now() -> Panel {
    Panel::table(
        "Conditions now",
        "As `kubectl describe` shows them, without their messages.",
    )
    .query(
        "",
        format!(
            "max by (condition, status, reason) ({})",
            of("pd_autoscaler_condition_info")
        ),
    )
    .columns(
        &[
            ("condition", "Condition"),
            ("status", "Status"),
            ("reason", "Reason"),
        ],
        &["Value"],
    )
    .sized(12, 10)
}
