//! A `ScaledObject` of KEDA as one role: target, bounds, behavior, fallback and cron triggers are
//! carried over.
//!
//! KEDA's defaults are not Kubernetes': without a number it scales from 0 to 100. Triggers that
//! follow a metric are dropped, each with a remark, as those of a `HorizontalPodAutoscaler`; a cron
//! trigger that begins and ends once a day is a schedule here. A fallback holds here as a floor:
//! nothing is lowered without metrics.

use std::time::Duration;

use serde_json::Value;

use super::{
    Fate, ImportError, Remark,
    horizontal::parsed,
    name_source,
    role::{Minimum, RoleImport, target_of},
    select::{name_of, namespace_of, of_kind},
};

/// The kind.
pub const KIND: &str = "ScaledObject";

const GROUP: &str = "keda.sh";

/// KEDA's own values where a `ScaledObject` has none.
const MIN_REPLICAS: i64 = 0;
const MAX_REPLICAS: i64 = 100;
const POLLING_SECONDS: i64 = 30;

const DAY_MINUTES: u64 = 24 * 60;

const AT_ZERO: &str = "both roles go to zero together or not at all: minReplicas is 1; for zero state spec.scaleToZero with a wakeSignal, and idleAfter for KEDA's cooldownPeriod";

/// Fields without a counterpart, and why.
const DROPPED: [(&str, &str); 6] = [
    (
        "/spec/pollingInterval",
        "decisions are made at --interval of the controller, 15 s by default",
    ),
    (
        "/spec/cooldownPeriod",
        "it counts for zero alone, as spec.scaleToZero.idleAfter does here",
    ),
    (
        "/spec/initialCooldownPeriod",
        "there is no zero to go to before spec.scaleToZero.idleAfter",
    ),
    (
        "/spec/idleReplicaCount",
        "there is no number for idleness but zero: spec.scaleToZero",
    ),
    (
        "/spec/advanced/restoreToOriginalReplicaCount",
        "replicas stay as they are when a PDAutoscaler is deleted",
    ),
    (
        "/spec/advanced/scalingModifiers",
        "no formula of metrics is needed: replicas follow the latency objective",
    ),
];

/// The role that `object` scales.
pub fn role(object: &Value) -> Result<RoleImport, ImportError> {
    let remedy = "give a ScaledObject of keda.sh/v1alpha1";
    of_kind(object, GROUP, KIND, remedy)?;
    let from = format!("{KIND} `{}`", name_of(object));
    let spec = &object["spec"];
    let target = target_of(&from, "spec.scaleTargetRef", &spec["scaleTargetRef"])?;
    let behavior = &spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"];
    let field = "spec.advanced.horizontalPodAutoscalerConfig.behavior";
    let mut role = RoleImport {
        namespace: namespace_of(object),
        has_hpa: true,
        behavior: parsed(&from, field, behavior)?,
        ..RoleImport::of_target(from, target)
    };
    let bound = |field: &str, default| spec[field].as_i64().unwrap_or(default);
    role.bound(
        (
            "spec.minReplicaCount",
            bound("minReplicaCount", MIN_REPLICAS),
        ),
        (
            "spec.maxReplicaCount",
            bound("maxReplicaCount", MAX_REPLICAS),
        ),
        AT_ZERO,
    )?;
    if spec["maxReplicaCount"].is_null() {
        let remark = "KEDA's own maximum is taken: lower it to what the GPUs allow";
        role.remarks.push(Remark::new(
            Fate::Assumed,
            "spec.maxReplicaCount",
            MAX_REPLICAS,
            remark,
        ));
    }
    for (pointer, remark) in DROPPED {
        if let Some(value) = object.pointer(pointer).filter(|value| !value.is_null()) {
            let field = pointer.trim_start_matches('/').replace('/', ".");
            role.remarks
                .push(Remark::new(Fate::Dropped, field, value, remark));
        }
    }
    fallback(spec, &mut role);
    triggers(spec, &mut role);
    annotations(object, &mut role);
    name_source(&mut role.remarks, &role.from);
    Ok(role)
}

fn fallback(spec: &Value, role: &mut RoleImport) {
    let fallback = &spec["fallback"];
    let Some(replicas) = fallback["replicas"].as_i64() else {
        return;
    };
    let failures = fallback["failureThreshold"].as_i64().unwrap_or(1).max(1);
    let polling = spec["pollingInterval"]
        .as_i64()
        .unwrap_or(POLLING_SECONDS)
        .max(1);
    let seconds = u64::try_from(failures.saturating_mul(polling)).unwrap_or(1);
    let most = i64::from(role.max_replicas.unwrap_or(i32::MAX));
    let within = replicas.clamp(i64::from(role.min_replicas), most);
    role.fallback = Some((
        i32::try_from(within).unwrap_or(1),
        Duration::from_secs(seconds),
    ));
    let behavior = fallback["behavior"].as_str().unwrap_or("static");
    if within != replicas {
        let remark = format!("it must lie within the bounds of the role: {within} is taken");
        role.remarks.push(Remark::new(
            Fate::Changed,
            "spec.fallback.replicas",
            replicas,
            remark,
        ));
    }
    if behavior != "currentReplicasIfHigher" {
        let remark = "here replicas are raised to the fallback and never lowered to it";
        role.remarks.push(Remark::new(
            Fate::Changed,
            "spec.fallback.behavior",
            behavior,
            remark,
        ));
    }
}

fn triggers(spec: &Value, role: &mut RoleImport) {
    for (index, trigger) in spec["triggers"]
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
    {
        let field = format!("spec.triggers[{index}]");
        let kind = trigger["type"].as_str().unwrap_or_default();
        let of = &trigger["metadata"];
        let remark = match kind {
            "cron" => match schedule(of) {
                Ok(minimum) => {
                    role.schedules.push(minimum);
                    continue;
                }
                Err(why) => why,
            },
            "prometheus" => {
                "replicas follow the latency objective here, by the engine's own metrics; the server is the controller's, or spec.metrics.source"
            }
            _ => "replicas follow the latency objective here, by the engine's own metrics",
        };
        role.remarks
            .push(Remark::new(Fate::Dropped, field, shown(kind, of), remark));
    }
}

/// A trigger in a few words.
fn shown(kind: &str, of: &Value) -> String {
    let text = |key: &str| of[key].as_str().map(str::to_owned);
    let words = match kind {
        "cron" => [
            text("timezone"),
            text("start"),
            text("end"),
            text("desiredReplicas"),
        ],
        _ => [
            text("serverAddress"),
            text("query"),
            text("threshold"),
            text("value"),
        ],
    };
    let words: Vec<String> = std::iter::once(kind.to_owned())
        .chain(words.into_iter().flatten())
        .collect();
    words.join(" ")
}

/// The minimum of a cron trigger whose end follows its start within a day, at set times.
fn schedule(of: &Value) -> Result<Minimum, &'static str> {
    let fields = |key: &str| -> Vec<&str> {
        let text = of[key].as_str().unwrap_or_default();
        text.split_whitespace().collect()
    };
    let (start, end) = (fields("start"), fields("end"));
    let ([start_minute, start_hour, days @ ..], [end_minute, end_hour, end_days @ ..]) =
        (start.as_slice(), end.as_slice())
    else {
        return Err("it has no start and end of five fields: state spec.schedules");
    };
    if days != end_days || days.len() != 3 {
        return Err(
            "it ends on other days than it starts, which has no counterpart: state spec.schedules with a duration",
        );
    }
    let at = |hour: &str, minute: &str| -> Option<u64> {
        let (hour, minute) = (hour.parse::<u64>().ok()?, minute.parse::<u64>().ok()?);
        (hour < 24 && minute < 60).then_some(hour * 60 + minute)
    };
    let (Some(from), Some(to)) = (at(start_hour, start_minute), at(end_hour, end_minute)) else {
        return Err(
            "it has several starts a day: state spec.schedules with a duration, one for each",
        );
    };
    let minutes = match (to + DAY_MINUTES - from) % DAY_MINUTES {
        0 => DAY_MINUTES,
        minutes => minutes,
    };
    // KEDA writes numbers as texts.
    let replicas = of["desiredReplicas"]
        .as_str()
        .and_then(|text| text.parse().ok());
    let replicas = replicas.filter(|replicas| *replicas >= 1);
    let Some(replicas) = replicas else {
        return Err("desiredReplicas is no number of 1 or more: state spec.schedules");
    };
    Ok(Minimum {
        cron: start.join(" "),
        time_zone: of["timezone"].as_str().unwrap_or("Etc/UTC").to_owned(),
        duration: Duration::from_secs(minutes * 60),
        replicas,
    })
}

/// Pauses of a direction have a counterpart; of both, the mode Recommend has that effect already.
fn annotations(object: &Value, role: &mut RoleImport) {
    let annotations = &object["metadata"]["annotations"];
    let of = |key: &str| annotations[format!("autoscaling.keda.sh/{key}").as_str()].as_str();
    let is_on = |key: &str| of(key).is_some_and(|value| value != "false");
    role.paused = (is_on("paused-scale-out"), is_on("paused-scale-in"));
    for key in ["paused", "paused-replicas", "force-activation"] {
        if let Some(value) = of(key) {
            let field = format!("metadata.annotations[autoscaling.keda.sh/{key}]");
            let remark = "the mode Recommend applies nothing; once in Auto, kubectl pd pause holds the replicas";
            role.remarks
                .push(Remark::new(Fate::Dropped, field, value, remark));
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn scaled_object() -> Value {
        json!({
            "apiVersion": "keda.sh/v1alpha1", "kind": KIND,
            "metadata": { "name": "llama-decode" },
            "spec": { "scaleTargetRef": { "name": "llama-decode" }, "minReplicaCount": 1, "maxReplicaCount": 8,
                "triggers": [] },
        })
    }

    fn remarks_of(object: &Value) -> Vec<(String, String)> {
        let role = role(object).unwrap();
        role.remarks
            .into_iter()
            .map(|one| (one.field, one.value))
            .collect()
    }

    #[test]
    fn what_keda_leaves_out_is_a_deployment_from_0_to_100() {
        let mut object = scaled_object();
        object["spec"] = json!({ "scaleTargetRef": { "name": "d" } });
        let role = role(&object).unwrap();
        assert_eq!(
            (role.target.kind.as_str(), role.target.api_version.as_str()),
            ("Deployment", "apps/v1")
        );
        assert_eq!((role.min_replicas, role.max_replicas), (1, Some(100)));
        assert_eq!(role.remarks.len(), 2, "{:?}", role.remarks);
    }

    #[rstest]
    #[case::a_working_day("0 8 * * 1-5", "0 18 * * 1-5", Some(10 * 60))]
    #[case::over_midnight("30 22 * * *", "15 6 * * *", Some(7 * 60 + 45))]
    #[case::all_day("0 0 * * *", "0 0 * * *", Some(24 * 60))]
    #[case::other_days("0 8 * * 1", "0 18 * * 5", None)]
    #[case::several_times("0,30 8 * * *", "0 18 * * *", None)]
    #[case::no_hour("0 24 * * *", "0 18 * * *", None)]
    #[case::four_fields("0 8 * *", "0 18 * *", None)]
    #[case::nothing("", "", None)]
    fn a_cron_trigger_is_a_schedule_if_it_has_one_span_a_day(
        #[case] start: &str,
        #[case] end: &str,
        #[case] minutes: Option<u64>,
    ) {
        let mut object = scaled_object();
        object["spec"]["triggers"] = json!([{ "type": "cron", "metadata": {
            "timezone": "Europe/Berlin", "start": start, "end": end, "desiredReplicas": "6" } }]);
        let role = role(&object).unwrap();
        let got = role
            .schedules
            .first()
            .map(|one| one.duration.as_secs() / 60);
        assert_eq!(got, minutes);
        assert_eq!(
            role.remarks.len(),
            usize::from(minutes.is_none()),
            "{:?}",
            role.remarks
        );
        if let Some(schedule) = role.schedules.first() {
            assert_eq!((schedule.cron.as_str(), schedule.replicas), (start, 6));
        }
    }

    #[test]
    fn a_fallback_is_a_floor_after_its_failures() {
        let mut object = scaled_object();
        object["spec"]["fallback"] = json!({ "failureThreshold": 4, "replicas": 20 });
        object["spec"]["pollingInterval"] = json!(15);
        let role = role(&object).unwrap();
        assert_eq!(role.fallback, Some((8, Duration::from_mins(1))));
        let fields: Vec<&str> = role
            .remarks
            .iter()
            .map(|one| one.field.split(' ').next().unwrap())
            .collect();
        assert_eq!(
            fields,
            [
                "spec.pollingInterval",
                "spec.fallback.replicas",
                "spec.fallback.behavior"
            ]
        );
    }

    #[test]
    fn triggers_on_metrics_are_named_with_query_and_threshold() {
        let mut object = scaled_object();
        object["spec"]["triggers"] = json!([{ "type": "prometheus", "metadata": {
            "serverAddress": "http://p:9090", "query": "sum(x)", "threshold": "5" } }]);
        let want = (
            "spec.triggers[0] of ScaledObject `llama-decode`".to_owned(),
            "prometheus http://p:9090 sum(x) 5".to_owned(),
        );
        assert_eq!(remarks_of(&object), [want]);
    }

    #[test]
    fn pauses_of_a_direction_are_carried_over() {
        let mut object = scaled_object();
        object["metadata"]["annotations"] =
            json!({ "autoscaling.keda.sh/paused-scale-in": "true" });
        let role = role(&object).unwrap();
        assert_eq!(role.paused, (false, true));
        assert_eq!(role.remarks, []);
    }
}
