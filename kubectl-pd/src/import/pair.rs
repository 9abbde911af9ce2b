//! Two roles and an objective as one PDAutoscaler in mode Recommend.
//!
//! The result is checked by the API's own validation before it is shown, so that what is imported
//! can be applied.

use std::time::Duration;

use kube::api::ObjectMeta;
use pd_api::{
    pause::{PAUSED_SCALE_DOWN, PAUSED_SCALE_UP},
    v1alpha1::{
        AttainmentSpec, DurationText, FallbackSpec, LatencyTargetSpec, MetricsSpec,
        MissingMetricsBehavior, MissingMetricsSpec, Mode, ObjectiveSpec, PDAutoscaler,
        PDAutoscalerSpec, RatioSpec, RoleSpec, ScheduleSpec, ScheduledBoundsSpec,
    },
};
use pd_core::{PerRole, Role};

use super::{
    Fate, ImportError, Imported, Remark,
    behavior::behavior,
    field_error,
    role::{Minimum, RoleImport},
};

/// Percentile of a latency limit where the source has none: the API's own default.
const PERCENTILE: i32 = 95;

/// Longest wait for metrics before a fallback, as the API has it.
const FALLBACK_AFTER_MAX: Duration = Duration::from_hours(24);

/// Remedy where nothing limits the replicas of a role.
pub const MAX_REPLICAS_REMEDY: &str = "give --max-replicas, the most replicas of a role, such as --max-replicas=16 or prefill and decode as --max-replicas=16:32";

/// The demands of a caller beside the sources.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The object's name; by default what the names of both workloads have in common.
    pub name: Option<String>,
    /// The object's namespace, where no source says one.
    pub namespace: Option<String>,
    /// Limit of TTFT.
    pub ttft: Option<DurationText>,
    /// Limit of TPOT.
    pub tpot: Option<DurationText>,
    /// Most replicas of each role; counts before that of a source.
    pub max_replicas: Option<PerRole<i32>>,
}

/// The PDAutoscaler of both roles.
pub fn combine(mut roles: PerRole<RoleImport>, wanted: &Wanted) -> Result<Imported, ImportError> {
    for (role, max) in wanted.max_replicas.iter().flat_map(PerRole::iter) {
        roles[role].limit(role, *max)?;
    }
    let roles = &roles;
    let from = sources(roles);
    let objective = ObjectiveSpec {
        ttft: limit(wanted.ttft.as_ref(), "--ttft", "500ms", &from)?,
        tpot: limit(wanted.tpot.as_ref(), "--tpot", "50ms", &from)?,
        attainment: AttainmentSpec::default(),
    };
    let mut remarks: Vec<Remark> = Vec::new();
    for (_, role) in roles.iter() {
        remarks.extend(role.remarks.iter().cloned());
    }
    let mut spec = PDAutoscalerSpec {
        mode: Mode::Recommend,
        controller_class: None,
        prefill: role_spec(roles, Role::Prefill, &mut remarks)?,
        decode: role_spec(roles, Role::Decode, &mut remarks)?,
        objective,
        ratio: RatioSpec::default(),
        metrics: MetricsSpec::default(),
        capacity: None,
        budget: None,
        behavior: pd_api::v1alpha1::BehaviorSpec::default(),
        schedules: Vec::new(),
        scale_to_zero: None,
        placement: None,
        on_missing_metrics: MissingMetricsSpec::default(),
    };
    if roles.iter().any(|(_, role)| role.has_hpa) {
        spec.behavior = behavior(roles, &mut remarks)?;
    }
    spec.schedules = schedules(roles, &mut remarks);
    spec.on_missing_metrics = fallback(roles, &mut remarks);
    let metadata = ObjectMeta {
        name: Some(name(roles, wanted)?),
        namespace: namespace(roles, wanted)?,
        annotations: annotations(roles, &mut remarks),
        ..ObjectMeta::default()
    };
    checked(Imported {
        from,
        object: PDAutoscaler {
            metadata,
            spec,
            status: None,
        },
        remarks,
    })
}

/// The result, if the API server would take it.
pub fn checked(imported: Imported) -> Result<Imported, ImportError> {
    match imported.object.spec.policy() {
        Ok(_) => Ok(imported),
        Err(errors) => Err(ImportError::Refused(errors)),
    }
}

fn sources(roles: &PerRole<RoleImport>) -> String {
    if roles.prefill.from == roles.decode.from {
        return roles.prefill.from.clone();
    }
    format!(
        "{} (prefill) and {} (decode)",
        roles.prefill.from, roles.decode.from
    )
}

fn limit(
    given: Option<&DurationText>,
    flag: &'static str,
    example: &'static str,
    from: &str,
) -> Result<LatencyTargetSpec, ImportError> {
    let target = given.cloned().ok_or_else(|| ImportError::Objective {
        flag,
        source_name: from.to_owned(),
        example,
    })?;
    Ok(LatencyTargetSpec {
        target,
        percentile: PERCENTILE,
    })
}

fn role_spec(
    roles: &PerRole<RoleImport>,
    role: Role,
    remarks: &mut Vec<Remark>,
) -> Result<RoleSpec, ImportError> {
    let (own, other) = (&roles[role], &roles[role.other()]);
    let max_replicas = match (own.max_replicas, other.max_replicas) {
        (Some(max), _) => max,
        (None, Some(max)) => {
            let remark = format!(
                "no source says it: that of {} is taken; set what the GPUs allow",
                role.other()
            );
            remarks.push(Remark::new(
                Fate::Assumed,
                format!("spec.{role}.maxReplicas"),
                max,
                remark,
            ));
            max.max(own.min_replicas)
        }
        (None, None) => {
            return Err(field_error(
                &own.from,
                "maxReplicas",
                "unset",
                MAX_REPLICAS_REMEDY,
            ));
        }
    };
    Ok(RoleSpec {
        target: own.target.clone(),
        min_replicas: own.min_replicas,
        max_replicas,
        gpus_per_replica: own.gpus_per_replica,
        numeric_tolerations: Vec::new(),
    })
}

/// The name that is given, or what the workloads' names have in common.
fn name(roles: &PerRole<RoleImport>, wanted: &Wanted) -> Result<String, ImportError> {
    if let Some(name) = &wanted.name {
        return Ok(name.clone());
    }
    let (one, other) = (&roles.prefill.target.name, &roles.decode.target.name);
    common(one, other).ok_or_else(|| ImportError::Role {
        role: Role::Prefill,
        remedy: format!("the names `{one}` and `{other}` have nothing in common to call the PDAutoscaler by: give --name"),
    })
}

/// The whole words that two names begin with, or else end with.
fn common(one: &str, other: &str) -> Option<String> {
    if one == other {
        return Some(one.to_owned());
    }
    let words = |text: &str| -> Vec<String> { text.split(['-', '.']).map(str::to_owned).collect() };
    let (one, other) = (words(one), words(other));
    let same = |pair: &(&String, &String)| pair.0 == pair.1;
    let start: Vec<&str> = one
        .iter()
        .zip(&other)
        .take_while(same)
        .map(|(word, _)| word.as_str())
        .collect();
    let mut end: Vec<&str> = one
        .iter()
        .rev()
        .zip(other.iter().rev())
        .take_while(same)
        .map(|(word, _)| word.as_str())
        .collect();
    end.reverse();
    let longest = if start.len() >= end.len() { start } else { end };
    (!longest.is_empty()).then(|| longest.join("-"))
}

fn namespace(roles: &PerRole<RoleImport>, wanted: &Wanted) -> Result<Option<String>, ImportError> {
    match (&roles.prefill.namespace, &roles.decode.namespace) {
        (Some(one), Some(other)) if one != other => Err(field_error(
            &roles.decode.from,
            "metadata.namespace",
            other,
            &format!(
                "both workloads of a PDAutoscaler are in one namespace, and that of prefill is `{one}`"
            ),
        )),
        (Some(one), _) | (None, Some(one)) => Ok(Some(one.clone())),
        (None, None) => Ok(wanted.namespace.clone()),
    }
}

/// Whether a direction of a role is paused.
type IsPaused = fn(&RoleImport) -> bool;

fn annotations(
    roles: &PerRole<RoleImport>,
    remarks: &mut Vec<Remark>,
) -> Option<std::collections::BTreeMap<String, String>> {
    let mut annotations = std::collections::BTreeMap::new();
    let directions: [(&str, IsPaused); 2] = [
        (PAUSED_SCALE_UP, |role| role.paused.0),
        (PAUSED_SCALE_DOWN, |role| role.paused.1),
    ];
    for (annotation, is_paused) in directions {
        let (prefill, decode) = (is_paused(&roles.prefill), is_paused(&roles.decode));
        if prefill || decode {
            annotations.insert(annotation.to_owned(), "true".to_owned());
        }
        if prefill != decode {
            let role = if prefill { Role::Prefill } else { Role::Decode };
            let remark = format!("paused for {role} alone, and for both roles here");
            remarks.push(Remark::new(Fate::Changed, annotation, true, remark));
        }
    }
    (!annotations.is_empty()).then_some(annotations)
}

fn schedules(roles: &PerRole<RoleImport>, remarks: &mut Vec<Remark>) -> Vec<ScheduleSpec> {
    let mut schedules: Vec<ScheduleSpec> = Vec::new();
    for (role, source) in roles.iter() {
        for minimum in &source.schedules {
            let most = source.max_replicas.unwrap_or(i32::MAX);
            let replicas = minimum.replicas.min(most);
            if replicas < minimum.replicas {
                let remark = format!("above maxReplicas: {most} is taken");
                let field = format!("desiredReplicas of {}", source.from);
                remarks.push(Remark::new(Fate::Changed, field, minimum.replicas, remark));
            }
            place(&mut schedules, role, minimum, replicas);
        }
    }
    schedules
}

/// Puts a minimum into the schedule of the same times, or a new one.
fn place(schedules: &mut Vec<ScheduleSpec>, role: Role, minimum: &Minimum, replicas: i32) {
    let duration = DurationText::from(minimum.duration);
    let is_same = |one: &ScheduleSpec| {
        let times = (&one.cron, &one.time_zone, &one.duration);
        times == (&minimum.cron, &minimum.time_zone, &duration)
            && one.bounds(role) == ScheduledBoundsSpec::default()
    };
    let at = schedules
        .iter()
        .position(is_same)
        .unwrap_or(schedules.len());
    if at == schedules.len() {
        schedules.push(ScheduleSpec {
            cron: minimum.cron.clone(),
            time_zone: minimum.time_zone.clone(),
            duration,
            prefill: None,
            decode: None,
        });
    }
    let bounds = Some(ScheduledBoundsSpec {
        min_replicas: Some(replicas),
        max_replicas: None,
    });
    let schedule = schedules.get_mut(at);
    match (schedule, role) {
        (Some(schedule), Role::Prefill) => schedule.prefill = bounds,
        (Some(schedule), Role::Decode) => schedule.decode = bounds,
        (None, _) => {}
    }
}

fn fallback(roles: &PerRole<RoleImport>, remarks: &mut Vec<Remark>) -> MissingMetricsSpec {
    match (roles.prefill.fallback, roles.decode.fallback) {
        (Some((prefill, one)), Some((decode, other))) => MissingMetricsSpec {
            behavior: MissingMetricsBehavior::Fallback,
            fallback: Some(FallbackSpec {
                prefill,
                decode,
                after: one.max(other).min(FALLBACK_AFTER_MAX).into(),
            }),
        },
        (None, None) => MissingMetricsSpec::default(),
        (Some((replicas, _)), None) | (None, Some((replicas, _))) => {
            let remark = "one role alone has a fallback, and both need one here: replicas are held without metrics; state spec.onMissingMetrics.fallback";
            remarks.push(Remark::new(
                Fate::Dropped,
                "spec.fallback.replicas",
                replicas,
                remark,
            ));
            MissingMetricsSpec::default()
        }
    }
}

/// A limit of so many milliseconds, to the microsecond; nothing for one below a microsecond, which
/// has no meaning.
pub fn milliseconds(limit: f64) -> Option<DurationText> {
    let span = Duration::try_from_secs_f64(limit * 1e-3).ok()?;
    let micros = u64::try_from(span.as_micros()).ok()?;
    (micros > 0).then(|| Duration::from_micros(micros).into())
}

#[cfg(test)]
mod tests;
