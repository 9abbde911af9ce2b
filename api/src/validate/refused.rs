//! Fields outside the policy: targets and metrics that cannot be used, and fields that this version
//! would ignore.

use pd_core::Role;

use super::Errors;
use crate::v1alpha1::{
    self as api, PDAutoscalerSpec,
    budget::BUDGET_EMPTY_REMEDY,
    metrics::{
        ENGINE_REMEDY, HEADER_REMEDY, HEADER_VALUE_LENGTH_MAX, HEADERS_MAX, HEADERS_TAKEN,
        LABEL_REMEDY, LABELS_TAKEN, QUERY_LENGTH_MAX, SELECTOR_VALUE_LENGTH_MAX, SELECTORS_MAX,
        SERVER_URL_LENGTH_MAX, SERVER_URL_REMEDY,
    },
    placement::{self, LEAST_REMEDY, PODS_REMEDY},
    reserved,
    target::{NAME_REMEDY, ROLE_REMEDY, TARGET_REMEDY, TOLERATIONS_REMEDY},
};

/// Adds an error for every such field.
pub(super) fn check(spec: &PDAutoscalerSpec, errors: &mut Errors) {
    for role in Role::ALL {
        target(&spec.role(role).target, role, errors);
        let of_pods = !spec.role(role).numeric_tolerations.is_empty();
        if of_pods && spec.role(role).target.api_version != "apps/v1" {
            let path = format!("{role}.numericTolerations");
            errors.push(&path, "set", TOLERATIONS_REMEDY);
        }
    }
    let (prefill, decode) = (&spec.prefill.target, &spec.decode.target);
    let one = (&prefill.kind, &prefill.name) == (&decode.kind, &decode.name);
    let same = prefill.replicas(Role::Prefill).1 == decode.replicas(Role::Decode).1;
    if one && same {
        errors.push("decode.target.name", &decode.name, api::SAME_TARGET_REMEDY);
    }
    let class = spec.controller_class.as_deref().unwrap_or_default();
    if !api::is_controller_class(class) {
        errors.push("controllerClass", class, api::CONTROLLER_CLASS_REMEDY);
    }
    metrics(&spec.metrics, errors);
    placing(spec, errors);
    reserved_fields(spec, errors);
}

fn placing(spec: &PDAutoscalerSpec, errors: &mut Errors) {
    let Some(placing) = &spec.placement else {
        return;
    };
    for role in Role::ALL {
        let target = &spec.role(role).target;
        if target.is_supported() && !placement::is_known(&target.of_side(role)) {
            errors.push(&format!("{role}.target.kind"), &target.kind, PODS_REMEDY);
        }
        let of_role = placing.role(role);
        let path = format!("placement.{role}");
        let least = (format!("{path}.minReplicas"), of_role.min_replicas);
        let pods = (format!("{path}.podsPerReplica"), of_role.pods_per_replica);
        errors.whole(&least.0, least.1, 1, placement::REPLICAS_MAX);
        errors.whole(&pods.0, pods.1, 1, placement::PODS_PER_REPLICA_MAX);
        if least.1 > spec.role(role).min_replicas {
            errors.push(&least.0, least.1, LEAST_REMEDY);
        }
    }
}

fn target(target: &api::TargetReference, side: Role, errors: &mut Errors) {
    if !target.is_supported() {
        let remedy = format!("of apiVersion `{}` {TARGET_REMEDY}", target.api_version);
        errors.push(&format!("{side}.target.kind"), &target.kind, remedy);
    }
    if let Some(role) = target.role.as_ref().filter(|_| !target.has_roles()) {
        errors.push(&format!("{side}.target.role"), role, ROLE_REMEDY);
    }
    if !is_object_name(&target.name) {
        errors.push(&format!("{side}.target.name"), &target.name, NAME_REMEDY);
    }
}

/// Whether `name` can be the name of a Kubernetes object.
pub(super) fn is_object_name(name: &str) -> bool {
    name.len() <= 253 && pd_tolerations::format::is_object_name(name)
}

fn metrics(metrics: &api::MetricsSpec, errors: &mut Errors) {
    if !metrics.engine.is_supported() {
        errors.push("metrics.engine", metrics.engine.as_str(), ENGINE_REMEDY);
    }
    if let Some(source) = &metrics.source {
        check_source(source, errors);
    }
    let labels = &metrics.selectors.0;
    if labels.len() > SELECTORS_MAX {
        let count = format!("{} labels", labels.len());
        errors.push(
            "metrics.selectors",
            count,
            format!("must be at most {SELECTORS_MAX}"),
        );
    }
    for (label, value) in labels {
        let path = format!("metrics.selectors.{label}");
        if !is_label_name(label) || LABELS_TAKEN.contains(&label.as_str()) {
            errors.push(&path, value, LABEL_REMEDY);
        }
        if value.is_empty() || value.chars().count() > SELECTOR_VALUE_LENGTH_MAX {
            let remedy = format!("must have 1 to {SELECTOR_VALUE_LENGTH_MAX} characters");
            errors.push(&path, value, remedy);
        }
    }
    let overrides = metrics.overrides.clone().unwrap_or_default();
    let queries = [
        ("ttft", overrides.ttft),
        ("tpot", overrides.tpot),
        ("arrivalRate", overrides.arrival_rate),
    ];
    for (name, query) in queries {
        let Some(query) = query else { continue };
        if query.trim().is_empty() || query.chars().count() > QUERY_LENGTH_MAX {
            let remedy = format!("must be PromQL of 1 to {QUERY_LENGTH_MAX} characters, or absent");
            errors.push(&format!("metrics.overrides.{name}"), query, remedy);
        }
    }
}

/// Whether `label` can be the name of a Prometheus label.
fn is_label_name(label: &str) -> bool {
    !label.starts_with(|c: char| c.is_ascii_digit())
        && !label.is_empty()
        && label
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn check_source(source: &api::MetricsSource, errors: &mut Errors) {
    if !is_server_url(&source.server_url) {
        let path = "metrics.source.serverUrl";
        errors.push(path, &source.server_url, SERVER_URL_REMEDY);
    }
    for (field, secret) in [("auth", &source.auth), ("tls", &source.tls)] {
        if let Some(secret) = secret
            && !is_object_name(&secret.secret_ref.name)
        {
            let path = format!("metrics.source.{field}.secretRef.name");
            errors.push(&path, &secret.secret_ref.name, NAME_REMEDY);
        }
    }
    let headers = &source.headers.0;
    if headers.len() > HEADERS_MAX {
        let count = format!("{} headers", headers.len());
        let remedy = format!("must be at most {HEADERS_MAX}");
        errors.push("metrics.source.headers", count, remedy);
    }
    for (name, value) in headers {
        let path = format!("metrics.source.headers.{name}");
        if !is_header_name(name) {
            errors.push(&path, value, HEADER_REMEDY);
        }
        let is_visible = value.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if !is_visible || value.len() > HEADER_VALUE_LENGTH_MAX {
            let remedy = format!("must have at most {HEADER_VALUE_LENGTH_MAX} ASCII characters");
            errors.push(&path, value, remedy);
        }
    }
}

/// Whether `name` is that of a header that a query may have.
fn is_header_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !HEADERS_TAKEN.contains(&name.to_ascii_lowercase().as_str())
}

/// Whether `url` is an HTTP address without user, query and fragment.
fn is_server_url(url: &str) -> bool {
    let rest = url
        .strip_prefix("http://")
        .or_else(|| url.strip_prefix("https://"));
    url.chars().count() <= SERVER_URL_LENGTH_MAX
        && rest.is_some_and(|rest| {
            !rest.is_empty() && !rest.starts_with('/') && !rest.contains(['@', '?', '#', ' '])
        })
}

/// Fields that later versions will use.
fn reserved_fields(spec: &PDAutoscalerSpec, errors: &mut Errors) {
    let budget = spec.budget.as_ref();
    let mut refuse = |path: &str, present: bool, remedy: &str| {
        if present {
            let text = format!("is not supported by this version; {remedy}");
            errors.push(path, "set", text);
        }
    };
    let has_ref = budget.is_some_and(|b| b.reference.is_some());
    refuse("budget.ref", has_ref, reserved::BUDGET_REF);
    let has_priority = budget.is_some_and(|b| b.priority.is_some());
    refuse("budget.priority", has_priority, reserved::BUDGET_PRIORITY);
    if budget.is_some_and(|b| b.gpus.is_none() && b.reference.is_none()) {
        errors.push(
            "budget",
            "empty",
            format!("has no limit: {BUDGET_EMPTY_REMEDY}"),
        );
    }
}
