//! Numeric SLA tolerations: the extender, the webhook, and the controllers of
//! pd-scheduler-plugin.

use super::{
    Dashboard, Panel, Row,
    panel::{BAD, CAUTION, GOOD},
};

fn quantile(by: &str, metric: &str) -> String {
    format!("histogram_quantile(0.99, sum by (le, {by}) (rate({metric}_bucket[$__rate_interval])))")
}

fn rate(by: &str, metric: &str) -> String {
    format!("sum by ({by}) (rate({metric}[$__rate_interval]))")
}

/// Days until a certificate ends. The gauge is 0 where somebody else makes the certificate.
fn days_left(metric: &str) -> String {
    format!("min(({metric} > 0) - time()) / 86400")
}

pub(super) fn dashboard() -> Dashboard {
    Dashboard {
        uid: "pd-placement",
        title: "PDAutoscaler / Placement",
        description: "Numeric tolerations: the scheduler extender, the webhook, label mirror, evictions, publishers and feature gates",
        variables: vec![],
        rows: vec![extender(), webhook(), nodes(), evictions(), publisher()],
    }
}

fn extender() -> Row {
    Row {
        title: "Scheduler extender",
        panels: vec![
            Panel::number("Nodes in the cache", "Nodes whose taints the extender knows.")
                .query("", "max(pd_scheduler_plugin_nodes)"),
            Panel::number("Certificate", "Days until the serving certificate ends. It is renewed when two thirds of its time are over.")
                .query("", days_left("pd_scheduler_plugin_certificate_end_timestamp_seconds"))
                .unit("d")
                .decimals(0)
                .coloured(BAD, &[(7.0, CAUTION), (14.0, GOOD)]),
            Panel::lines("Calls", "Calls of kube-scheduler by verb and outcome.")
                .query("{{verb}} {{outcome}}", rate("verb, outcome", "pd_scheduler_plugin_extender_calls_total"))
                .unit("ops"),
            Panel::lines("Time of a call, p99", "From the whole body to the whole answer.")
                .query("{{verb}}", quantile("verb", "pd_scheduler_plugin_extender_call_duration_seconds"))
                .unit("s"),
        ],
    }
}

fn webhook() -> Row {
    Row {
        title: "Webhook",
        panels: vec![
            Panel::number("API server compares numbers", "What the webhook found at its last probe. No: tolerations are rewritten.")
                .query("", "max(pd_webhook_gate)")
                .mapped(&[("0", "no", "blue"), ("1", "yes", GOOD)]),
            Panel::number("Certificate", "Days until the serving certificate ends. It is renewed when two thirds of its time are over.")
                .query("", days_left("pd_webhook_certificate_end_timestamp_seconds"))
                .unit("d")
                .decimals(0)
                .coloured(BAD, &[(7.0, CAUTION), (14.0, GOOD)]),
            Panel::lines("Reviews", "Reviews by webhook and outcome.")
                .query("{{webhook}} {{outcome}}", rate("webhook, outcome", "pd_webhook_reviews_total"))
                .unit("ops"),
            Panel::lines("Time of a review, p99", "From the whole body to the whole answer.")
                .query("{{webhook}}", quantile("webhook", "pd_webhook_review_duration_seconds"))
                .unit("s"),
        ],
    }
}

fn nodes() -> Row {
    Row {
        title: "Labels that mirror taints, and feature gates",
        panels: vec![
            Panel::number("Leaders", "Controllers that act: one for each release.")
                .query("", "sum(pd_scheduler_plugin_leader)")
                .coloured(BAD, &[(1.0, GOOD)]),
            Panel::number("Nodes out of date", "Nodes whose labels do not mirror their taints; more than 0 for minutes is a fault.")
                .query("", "max(pd_scheduler_plugin_nodes_out_of_date)")
                .coloured(GOOD, &[(1.0, CAUTION)]),
            Panel::lines("Writes of labels", "By outcome.")
                .query("{{outcome}}", rate("outcome", "pd_scheduler_plugin_label_writes_total"))
                .unit("ops"),
            Panel::table("Feature gates", "What preflight found of each component that compares taints with tolerations; of pd-webhook, whether it rewrites.")
                .query("", "max by (component, state) (pd_scheduler_plugin_gate) == 1")
                .columns(&[("component", "Component"), ("state", "State")], &["Value"])
                .sized(8, 8),
        ],
    }
}

fn evictions() -> Row {
    Row {
        title: "Evictions",
        panels: vec![
            Panel::number("Pods that wait", "Pods that wait for their eviction.")
                .query("", "max(pd_scheduler_plugin_evictions_pending)"),
            Panel::number("Held", "Whether evictions are due and may not be made, because nodes or pods cannot be watched.")
                .query("", "max(pd_scheduler_plugin_evictions_held)")
                .mapped(&[("0", "no", GOOD), ("1", "yes", BAD)]),
            Panel::number("Unreadable pods", "Pods that are never evicted because their annotation cannot be used.")
                .query("", "max(pd_scheduler_plugin_eviction_unreadable_pods)")
                .coloured(GOOD, &[(1.0, CAUTION)]),
            Panel::number("Cancelled in a day", "Evictions that a change of taints or tolerations cancelled.")
                .query("", "sum(increase(pd_scheduler_plugin_evictions_cancelled_total[1d]))")
                .decimals(0),
            Panel::bars("Evictions", "Orders to evict a pod, by outcome and why it has to go.")
                .query("{{outcome}}: {{because}}", "sum by (outcome, because) (increase(pd_scheduler_plugin_evictions_total[$__rate_interval]))")
                .sized(12, 8),
            Panel::lines("How late evictions are, p99", "Time from the deadline of a pod to its eviction.")
                .query("p99", "histogram_quantile(0.99, sum by (le) (rate(pd_scheduler_plugin_eviction_late_seconds_bucket[$__rate_interval])))")
                .unit("s")
                .sized(12, 8),
        ],
    }
}

fn publisher() -> Row {
    Row {
        title: "Published taint values",
        panels: vec![
            Panel::lines("Queries", "Reliability queries by publisher and outcome.")
                .query("{{publisher}} {{outcome}}", rate("publisher, outcome", "pd_scheduler_plugin_publisher_queries_total"))
                .unit("ops"),
            Panel::steps("Nodes", "Nodes by publisher and what the last evaluation came to.")
                .query("{{publisher}} {{state}}", "max by (publisher, state) (pd_scheduler_plugin_publisher_nodes)"),
            Panel::bars("Changes of taints", "By publisher and outcome.")
                .query("{{publisher}} {{outcome}}", "sum by (publisher, outcome) (increase(pd_scheduler_plugin_publisher_changes_total[$__rate_interval]))"),
        ],
    }
}
