//! Replica bounds at set times: when, in which time zone, for how long, and which.
//!
//! The CEL rules know the grammar of cron and the form of a time zone's name. They cannot know
//! that a zone exists and that some year has the day: the controller reports that in the condition
//! Ready, in the same words.

use pd_core::{
    Role,
    schedule::{CRON_LENGTH_MAX, SCHEDULES_MAX},
};
use serde::{Deserialize, Serialize};

#[cfg(feature = "kube")]
use super::rules::{duration_within, matching, rule, rule_naming_value};
use super::{
    duration::{DurationText, SCHEDULE_DURATION},
    target::{BOUNDS_REMEDY, REPLICAS_MAX},
};
use crate::derives::KubeSchema;

/// Most schedules, as the schema wants it.
pub(super) const MAX: usize = SCHEDULES_MAX;
/// Most characters of a time zone's name.
pub const TIME_ZONE_LENGTH_MAX: usize = 64;
/// Remedy for a pattern that the CEL rule refuses.
pub(crate) const CRON_REMEDY: &str =
    "must be five fields: minute, hour, day of month, month and day of week, such as 0 8 * * 1-5";
/// Names that can be time zones, as RE2.
const TIME_ZONE_REGEX: &str = "^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}$";
/// Remedy for a time zone.
pub(crate) const TIME_ZONE_REMEDY: &str =
    "must be a time zone of the IANA database, such as Europe/Berlin or Etc/UTC";
/// Remedy for a schedule that sets nothing.
pub(crate) const NO_BOUNDS_REMEDY: &str = "a schedule needs minReplicas or maxReplicas of prefill or decode; set one or remove the schedule";
/// Remedy when a schedule's only bound crosses the role's own.
pub(crate) const CROSSING_REMEDY: &str =
    "crosses the other bound of the role; set both in the schedule";

/// Replica bounds that hold for a while, again and again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rule(
    &format!("{} || {}", sets_bounds("prefill"), sets_bounds("decode")),
    NO_BOUNDS_REMEDY,
))]
pub struct ScheduleSpec {
    /// When the bounds begin to hold: minute (0-59), hour (0-23), day of month (1-31), month (1-12
    /// or JAN-DEC) and day of week (0-7 or SUN-SAT), with *, lists, ranges and steps, as in a
    /// CronJob. Where clocks jump forward, a time that does not exist counts as the first moment
    /// after; where they jump back, a time that exists twice counts once. At most 128 characters.
    #[schemars(length(min = 9, max = CRON_LENGTH_MAX))]
    #[x_kube(validation = matching("cron", &cron_regex(), CRON_REMEDY))]
    pub cron: String,
    /// Time zone of cron, a name of the IANA database such as Europe/Berlin. Default Etc/UTC.
    #[serde(default = "utc")]
    #[schemars(length(min = 1, max = TIME_ZONE_LENGTH_MAX))]
    #[x_kube(validation = matching("timeZone", TIME_ZONE_REGEX, TIME_ZONE_REMEDY))]
    pub time_zone: String,
    /// How long the bounds hold, a duration from 1m to 168h of elapsed time.
    #[x_kube(validation = duration_within("duration", &SCHEDULE_DURATION))]
    pub duration: DurationText,
    /// Bounds of the prefill role meanwhile. Default: its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefill: Option<ScheduledBoundsSpec>,
    /// Bounds of the decode role meanwhile. Default: its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decode: Option<ScheduledBoundsSpec>,
}

impl ScheduleSpec {
    /// The bounds of one role; empty when it keeps its own.
    pub fn bounds(&self, role: Role) -> ScheduledBoundsSpec {
        let bounds = match role {
            Role::Prefill => self.prefill,
            Role::Decode => self.decode,
        };
        bounds.unwrap_or_default()
    }
}

/// Bounds that take the place of the role's own. Of several schedules that hold at the same time,
/// the largest minReplicas and the least maxReplicas count; where these cross, maxReplicas gives
/// way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rule_naming_value(
    "!has(self.minReplicas) || !has(self.maxReplicas) || self.minReplicas <= self.maxReplicas",
    &format!(
        "'minReplicas `%d` is above maxReplicas `%d`; {BOUNDS_REMEDY}'\
         .format([self.minReplicas, self.maxReplicas])"
    ),
))]
pub struct ScheduledBoundsSpec {
    /// Fewest replicas, 1 to 10000. It holds from the role's lead time before the start, so that
    /// replicas serve when the schedule starts. Default: that of the role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = REPLICAS_MAX))]
    pub min_replicas: Option<i32>,
    /// Most replicas, minReplicas to 10000. Default: that of the role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = REPLICAS_MAX))]
    pub max_replicas: Option<i32>,
}

/// CEL that says whether a schedule sets a bound of `role`.
fn sets_bounds(role: &str) -> String {
    format!("(has(self.{role}) && (has(self.{role}.minReplicas) || has(self.{role}.maxReplicas)))")
}

/// A rule of the spec that keeps the only bound a schedule sets for `role` inside the role's own,
/// unless these cross: that has its own message.
#[cfg(feature = "kube")]
pub(super) fn bounds_do_not_cross(role: Role) -> kube::core::Rule {
    let crosses = format!(
        "(has(s.{role}) && ((has(s.{role}.minReplicas) && !has(s.{role}.maxReplicas) && \
         s.{role}.minReplicas > self.{role}.maxReplicas) || (has(s.{role}.maxReplicas) && \
         !has(s.{role}.minReplicas) && s.{role}.maxReplicas < self.{role}.minReplicas)))"
    );
    // To name the schedule the message would have to search the list, which the API server prices
    // above its limit for a whole CRD.
    rule_naming_value(
        &format!(
            "!has(self.schedules) || self.{role}.minReplicas > self.{role}.maxReplicas || \
             self.schedules.all(s, !{crosses})"
        ),
        &format!(
            "'schedules: the only bound of {role} {CROSSING_REMEDY} (%d to %d)'\
             .format([self.{role}.minReplicas, self.{role}.maxReplicas])"
        ),
    )
}

/// Patterns of cron, as RE2: what the core reads, and besides it ranges that end before they start,
/// days that no year has, and any three letters for a name.
fn cron_regex() -> String {
    let field = |value: &str| {
        let step = "(/[1-9][0-9]?)?";
        let part = format!("([*]{step}|{value}(-{value}{step})?)");
        format!("{part}(,{part})*")
    };
    let fields = [
        field("[0-5]?[0-9]"),
        field("([01]?[0-9]|2[0-3])"),
        field("(0?[1-9]|[12][0-9]|3[01])"),
        field("(0?[1-9]|1[0-2]|[A-Za-z]{3})"),
        field("(0?[0-7]|[A-Za-z]{3})"),
    ];
    format!("^{}$", fields.join(" +"))
}

fn utc() -> String {
    "Etc/UTC".to_owned()
}

#[cfg(test)]
mod tests {
    use pd_core::schedule::{Cron, CronError};
    use proptest::{prelude::*, string::string_regex};

    use super::*;

    proptest! {
        #[test]
        fn patterns_that_the_crd_accepts_are_read(
            // Two parts of a field and two blanks stand for any number of them.
            cron in string_regex(
                &cron_regex().trim_matches(['^', '$']).replace(")*", "){0,1}").replace(" +", " {1,2}")
            ).unwrap(),
        ) {
            prop_assume!(cron.len() <= CRON_LENGTH_MAX);
            if let Err(error) = cron.parse::<Cron>() {
                let known = match &error {
                    CronError::Backwards { .. } | CronError::Never => true,
                    CronError::Part { part, .. } => part.contains(|c: char| c.is_ascii_alphabetic()),
                    _ => false,
                };
                prop_assert!(known, "`{}` {}", cron, error);
            }
        }
    }
}
