//! `kubectl pd status NAME`: everything about one object on a screen.
//!
//! Roles and conditions are tables, the rest are lines of a name and a value. A part that is not
//! known is left out, except where its absence is the news. Pure.

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use pd_api::{
    age::age,
    v1alpha1::{PDAutoscaler, PDAutoscalerStatus, RoleSpec, RoleStatus},
    wording::{limit, target},
};
use pd_core::Role;

use crate::table::{NONE, or_none, table};

/// Columns of the names of lines.
const NAME_WIDTH: usize = 14;

/// Everything about `object`; `blockers` is how many things keep it from scaling.
pub fn detail(object: &PDAutoscaler, blockers: usize, now: Timestamp) -> String {
    let status = object.status.clone().unwrap_or_default();
    let mut text = String::new();
    for (name, value) in identity(object, now) {
        text.push_str(&line(name, &value));
    }
    text.extend(["\n", roles(object, &status).as_str()]);
    let measured = measured(object, &status, now);
    if !measured.is_empty() {
        text.push('\n');
    }
    for (name, value) in measured {
        text.push_str(&line(name, &value));
    }
    if !status.conditions.is_empty() {
        text.extend(["\n", conditions(&status, now).as_str()]);
    }
    text.extend(["\n", hint(object, blockers).as_str()]);
    text
}

fn line(name: &str, value: &str) -> String {
    format!("{:NAME_WIDTH$}{value}\n", format!("{name}:"))
}

fn identity(object: &PDAutoscaler, now: Timestamp) -> Vec<(&'static str, String)> {
    let mut lines = vec![
        ("Name", object.name_any()),
        ("Namespace", object.namespace().unwrap_or_default()),
        ("Mode", object.spec.mode.as_str().to_owned()),
    ];
    if let Some(class) = &object.spec.controller_class {
        lines.push(("Class", class.clone()));
    }
    let created = object.creation_timestamp();
    lines.push(("Age", or_none(created.map(|created| age(&created, now)))));
    lines
}

fn roles(object: &PDAutoscaler, status: &PDAutoscalerStatus) -> String {
    let header = [
        "Role",
        "Target",
        "Current",
        "Desired",
        "Ready",
        "Starting",
        "Terminating",
        "Min",
        "Max",
        "GPUs",
        "Lead-Time",
        "Capacity",
    ];
    let rows = Role::ALL.map(|role| {
        let known = match role {
            Role::Prefill => status.prefill.as_ref(),
            Role::Decode => status.decode.as_ref(),
        };
        row(role, object.spec.role(role), known)
    });
    table(&header, &rows)
}

fn row(role: Role, spec: &RoleSpec, status: Option<&RoleStatus>) -> Vec<String> {
    let count = |of: fn(&RoleStatus) -> u32| or_none(status.map(of));
    let lead = status.and_then(|status| status.lead_time);
    vec![
        role.as_str().to_owned(),
        target(&spec.target),
        count(|status| status.current_replicas),
        or_none(status.and_then(|status| status.desired_replicas)),
        count(|status| status.ready_replicas),
        count(|status| status.starting_replicas),
        count(|status| status.terminating_replicas),
        spec.min_replicas.to_string(),
        spec.max_replicas.to_string(),
        or_none(status.and_then(|status| status.gpus_per_replica)),
        or_none(lead.map(|lead| format!("{}s/{}s", lead.p50_seconds, lead.p90_seconds))),
        or_none(status.and_then(|status| status.capacity_source.clone())),
    ]
}

fn measured(
    object: &PDAutoscaler,
    status: &PDAutoscalerStatus,
    now: Timestamp,
) -> Vec<(&'static str, String)> {
    let objective = &object.spec.objective;
    let latency = status.latency.clone().unwrap_or_default();
    let mut lines = vec![
        ("TTFT", limit(&objective.ttft, latency.ttft_milliseconds)),
        ("TPOT", limit(&objective.tpot, latency.tpot_milliseconds)),
    ];
    lines.extend(attainment(object, status).map(|text| ("Attainment", text)));
    if let Some(ratio) = &status.ratio {
        let mut text = or_none(ratio.current.as_ref());
        if let Some(band) = &ratio.band {
            let place = if ratio.in_band == Some(false) {
                "outside"
            } else {
                "inside"
            };
            text.extend([", ", place, " the band ", band.as_str()]);
        }
        lines.push(("Ratio", text));
    }
    if let Some(gpus) = &status.gpus {
        let budget = gpus
            .budget
            .map_or_else(String::new, |budget| format!(", budget {budget}"));
        let desired = or_none(gpus.desired);
        lines.push((
            "GPUs",
            format!("{} now, {desired} desired{budget}", gpus.current),
        ));
    }
    let words = [
        ("Bottleneck", &status.bottleneck),
        ("Engine", &status.engine),
        ("Gateway", &status.gateway),
    ];
    lines.extend(
        words
            .into_iter()
            .filter_map(|(name, word)| Some((name, word.clone()?))),
    );
    if let Some(decision) = &status.last_decision {
        let text = format!("{} ago: {}", age(&decision.time, now), decision.message);
        lines.push(("Decision", text));
    }
    lines
}

fn attainment(object: &PDAutoscaler, status: &PDAutoscalerStatus) -> Option<String> {
    let measured = status.attainment.as_ref()?;
    let goal = &object.spec.objective.attainment;
    let percent = |text: &Option<String>| {
        text.as_ref()
            .map_or_else(|| NONE.to_owned(), |text| format!("{text} %"))
    };
    let left = measured
        .error_budget_left_percent
        .map_or_else(String::new, |left| {
            format!(", {left} % of the error budget is left")
        });
    Some(format!(
        "TTFT {}, TPOT {} of requests over {}, objective {} %{left}",
        percent(&measured.ttft_percent),
        percent(&measured.tpot_percent),
        goal.window,
        goal.percent
    ))
}

fn conditions(status: &PDAutoscalerStatus, now: Timestamp) -> String {
    let rows: Vec<Vec<String>> = status
        .conditions
        .iter()
        .map(|condition| {
            vec![
                condition.type_.clone(),
                condition.status.clone(),
                condition.reason.clone(),
                age(&condition.last_transition_time, now),
                condition.message.clone(),
            ]
        })
        .collect();
    table(
        &["Condition", "Status", "Reason", "Since", "Message"],
        &rows,
    )
}

fn hint(object: &PDAutoscaler, blockers: usize) -> String {
    let name = object.name_any();
    match blockers {
        0 => format!("Nothing keeps it from scaling. Why as many: kubectl pd explain {name}\n"),
        1 => format!("One thing keeps it from scaling: kubectl pd why-not {name}\n"),
        many => format!("{many} things keep it from scaling: kubectl pd why-not {name}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::samples::{NOW, object};

    #[test]
    fn measurements_stand_beside_their_limits() {
        let text = detail(&object("limited"), 2, NOW);
        assert!(
            text.contains("TTFT:         1840 ms at p95, limit 600ms"),
            "{text}"
        );
        assert!(text.contains("2 things keep it from scaling"), "{text}");
    }

    #[test]
    fn an_object_that_nobody_has_seen_shows_what_its_owner_wrote() {
        let mut fresh = object("steady");
        fresh.status = None;
        let text = detail(&fresh, 1, NOW);
        assert!(text.contains("not measured at p95, limit 600ms"), "{text}");
        assert!(text.contains("Deployment/llama-prefill"), "{text}");
        assert!(!text.contains("CONDITION"), "{text}");
    }
}
