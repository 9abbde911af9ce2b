//! Our own programs: which run, what they cost, and whether the controller does its work.

use serde_json::json;

use super::{
    Dashboard, Panel, Row,
    panel::{BAD, GOOD},
};

/// A metric of every process, of our programs alone.
fn ours(expression: &str) -> String {
    format!("{expression} * on (job, instance) group_left (binary) pd_build_info")
}

/// A quantile of a histogram.
fn quantile(quantile: f64, by: &str, metric: &str) -> String {
    let by = if by.is_empty() {
        "le".to_owned()
    } else {
        format!("le, {by}")
    };
    format!(
        "histogram_quantile({quantile}, sum by ({by}) (rate({metric}_bucket[$__rate_interval])))"
    )
}

fn rate(by: &str, metric: &str) -> String {
    format!("sum by ({by}) (rate({metric}[$__rate_interval]))")
}

pub(super) fn dashboard() -> Dashboard {
    Dashboard {
        uid: "pd-control-plane",
        title: "PDAutoscaler / Control plane",
        description: "The programs of PDAutoscaler: what runs, what it costs, and whether the controller does its work",
        variables: vec![],
        rows: vec![programs(), decisions(), around()],
    }
}

fn programs() -> Row {
    let age = format!("(time() - {})", "process_start_time_seconds");
    Row {
        title: "Programs",
        panels: vec![
            Panel::table("Programs", "Every process of ours that Prometheus scrapes.")
                .query(
                    "",
                    "max by (binary, version, job, instance) (pd_build_info)",
                )
                .query("", format!("max by (job, instance) ({})", ours(&age)))
                .query(
                    "",
                    format!(
                        "max by (job, instance) ({})",
                        ours("process_resident_memory_bytes")
                    ),
                )
                .columns(
                    &[
                        ("binary", "Program"),
                        ("version", "Version"),
                        ("job", "Job"),
                        ("instance", "Address"),
                        ("Value #B", "Runs for"),
                        ("Value #C", "Memory"),
                    ],
                    &["Value #A"],
                )
                .column("Runs for", &[("unit", json!("s"))])
                .column("Memory", &[("unit", json!("bytes"))])
                .sized(24, 7),
            Panel::lines("CPU", "Cores in use.")
                .query(
                    "{{binary}} {{instance}}",
                    ours("rate(process_cpu_seconds_total[$__rate_interval])"),
                )
                .unit("none")
                .sized(12, 8),
            Panel::lines("Memory", "Resident memory.")
                .query(
                    "{{binary}} {{instance}}",
                    ours("process_resident_memory_bytes"),
                )
                .unit("bytes")
                .sized(12, 8),
        ],
    }
}

fn decisions() -> Row {
    let lateness = "pd_autoscaler_reconcile_lateness_seconds";
    let duration = "pd_autoscaler_reconcile_duration_seconds";
    Row {
        title: "Controller: decisions",
        panels: vec![
            Panel::number(
                "Leaders",
                "Controllers that may write: one for each release.",
            )
            .query("", "sum(pd_autoscaler_leader)")
            .coloured(BAD, &[(1.0, GOOD)]),
            Panel::number("PDAutoscalers", "Objects that are decided about.")
                .query("", "count(pd_autoscaler_ready)"),
            Panel::number(
                "Audit findings",
                "Plans that broke an invariant and were not applied, in a day: bugs.",
            )
            .query("", "sum(increase(pd_autoscaler_audit_findings_total[1d]))")
            .decimals(0)
            .coloured(GOOD, &[(1.0, BAD)]),
            Panel::number("Panics", "Reconciles that a bug ended, in a day.")
                .query(
                    "",
                    "sum(increase(pd_autoscaler_reconcile_panics_total[1d]))",
                )
                .decimals(0)
                .coloured(GOOD, &[(1.0, BAD)]),
            Panel::number(
                "Write conflicts",
                "Replica writes not made because somebody else had changed the target, in a day.",
            )
            .query("", "sum(increase(pd_autoscaler_apply_conflicts_total[1d]))")
            .decimals(0),
            Panel::number(
                "Decision lateness, p99",
                "How long after its time a decision begins.",
            )
            .query("", quantile(0.99, "", lateness))
            .unit("s")
            .coloured(GOOD, &[(5.0, BAD)]),
            Panel::lines(
                "Reconciles by reason",
                "By the reason of the Ready condition that they came to.",
            )
            .query(
                "{{reason}}",
                rate("reason", "pd_autoscaler_reconciles_total"),
            )
            .unit("ops")
            .stacked(),
            Panel::lines("Time of a reconcile", "Reading, deciding, writing.")
                .query("p50", quantile(0.5, "", duration))
                .query("p99", quantile(0.99, "", duration))
                .unit("s"),
            Panel::lines(
                "Lateness of reconciles",
                "How long after its time a reconcile begins.",
            )
            .query("p50", quantile(0.5, "", lateness))
            .query("p99", quantile(0.99, "", lateness))
            .unit("s"),
        ],
    }
}

fn around() -> Row {
    let query = "pd_autoscaler_prometheus_query_duration_seconds";
    Row {
        title: "Controller: Prometheus and the API server",
        panels: vec![
            Panel::lines("Prometheus queries", "Queries of all objects.")
                .query(
                    "queries/s",
                    format!("sum(rate({query}_count[$__rate_interval]))"),
                )
                .unit("ops")
                .sized(6, 8),
            Panel::lines("Time of a query", "As the controller sees it.")
                .query("p50", quantile(0.5, "", query))
                .query("p99", quantile(0.99, "", query))
                .unit("s")
                .sized(6, 8),
            Panel::lines("Queries without a usable answer", "By what was wrong.")
                .query(
                    "{{category}}",
                    rate("category", "pd_autoscaler_prometheus_query_errors_total"),
                )
                .unit("ops")
                .sized(6, 8),
            Panel::lines(
                "Requests that the API server did not serve",
                "By what they were for.",
            )
            .query(
                "{{category}}",
                rate("category", "pd_autoscaler_api_errors_total"),
            )
            .unit("ops")
            .sized(6, 8),
        ],
    }
}
