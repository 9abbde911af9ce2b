//! Schedules: patterns and time zones that can be read, and bounds that do not cross.

use pd_core::{
    PerRole, Role,
    schedule::{Cron, CronError, SCHEDULES_MAX, Schedule, ScheduledBounds, TimeZone},
};

use super::Errors;
use crate::v1alpha1::{
    self as api, PDAutoscalerSpec,
    duration::SCHEDULE_DURATION,
    schedule::{CRON_REMEDY, CROSSING_REMEDY, NO_BOUNDS_REMEDY, TIME_ZONE_REMEDY},
    target::{BOUNDS_REMEDY, REPLICAS_MAX},
};

/// The schedules that can be read.
pub(super) fn schedules(spec: &PDAutoscalerSpec, errors: &mut Errors) -> Vec<Schedule> {
    let specs = &spec.schedules;
    if specs.len() > SCHEDULES_MAX {
        let count = format!("{} schedules", specs.len());
        errors.push(
            "schedules",
            count,
            format!("must be at most {SCHEDULES_MAX}"),
        );
    }
    let schedules = specs.iter().enumerate().filter_map(|(index, schedule)| {
        let path = format!("schedules[{index}]");
        if Role::ALL.map(|role| schedule.bounds(role)) == [api::ScheduledBoundsSpec::default(); 2] {
            errors.push(&path, "empty", format!("sets nothing: {NO_BOUNDS_REMEDY}"));
        }
        let duration = errors.duration(
            &format!("{path}.duration"),
            &schedule.duration,
            &SCHEDULE_DURATION,
        );
        let replicas = PerRole::from_fn(|role| {
            bounds(&path, schedule.bounds(role), role, spec.role(role), errors)
        });
        let cron = cron(&path, &schedule.cron, errors);
        let time_zone = time_zone(&path, &schedule.time_zone, errors);
        Some(Schedule {
            cron: cron?,
            time_zone: time_zone?,
            duration,
            replicas,
        })
    });
    schedules.collect()
}

fn cron(path: &str, text: &str, errors: &mut Errors) -> Option<Cron> {
    let cron = text.parse::<Cron>().map_err(|error| {
        let remedy = match error {
            CronError::Backwards { .. } | CronError::Never => error.to_string(),
            _ => format!("{CRON_REMEDY}; it {error}"),
        };
        errors.push(&format!("{path}.cron"), text, remedy);
    });
    cron.ok()
}

fn time_zone(path: &str, text: &str, errors: &mut Errors) -> Option<TimeZone> {
    let zone = text.parse::<TimeZone>().map_err(|_| {
        errors.push(&format!("{path}.timeZone"), text, TIME_ZONE_REMEDY);
    });
    zone.ok()
}

fn bounds(
    path: &str,
    spec: api::ScheduledBoundsSpec,
    role: Role,
    own: &api::RoleSpec,
    errors: &mut Errors,
) -> ScheduledBounds {
    let path = format!("{path}.{role}");
    let own_crossed = own.min_replicas > own.max_replicas;
    let crossing = || {
        let (least, most) = (own.min_replicas, own.max_replicas);
        format!("{CROSSING_REMEDY} ({least} to {most})")
    };
    match (spec.min_replicas, spec.max_replicas) {
        (Some(least), Some(most)) if least > most => {
            let remedy = format!("is above maxReplicas `{most}`; {BOUNDS_REMEDY}");
            errors.push(&format!("{path}.minReplicas"), least, remedy);
        }
        (Some(least), None) if least > own.max_replicas && !own_crossed => {
            errors.push(&format!("{path}.minReplicas"), least, crossing());
        }
        (None, Some(most)) if most < own.min_replicas && !own_crossed => {
            errors.push(&format!("{path}.maxReplicas"), most, crossing());
        }
        _ => {}
    }
    let mut replicas = |field: &str, value: Option<i32>| {
        value.map(|value| errors.whole(&format!("{path}.{field}"), value, 1, REPLICAS_MAX))
    };
    ScheduledBounds {
        min_replicas: replicas("minReplicas", spec.min_replicas),
        max_replicas: replicas("maxReplicas", spec.max_replicas),
    }
}
