//! Replica bounds at set times: a cron pattern, a time zone, and a span for which bounds hold.
//!
//! A window opens at each start and lasts its duration in elapsed time, whatever clocks do
//! meanwhile. A bound of a window takes the place of the role's own while the window is open; of
//! several open windows the largest minimum and the least maximum win. A minimum is in force from
//! the role's lead time before the start, so that replicas serve when the window opens; until then
//! it only raises. Where a minimum ends up above a maximum, the maximum gives way: a minimum is a
//! promise to users, and cost has its own limit, the budget.
//!
//! Everything is a function of one moment: nothing is remembered, nothing is missed when
//! the process was down, and the cost is bounded by the days a window can reach back.

mod cron;
mod zone;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::{
    cron::{CRON_LENGTH_MAX, Cron, CronError},
    zone::{TimeZone, TimeZoneError},
};
use crate::{
    bounds::Bounds,
    reason::Reason,
    role::{PerRole, Role},
    step::{Stage, Step},
    time::Timestamp,
};

/// Most schedules of a service.
pub const SCHEDULES_MAX: usize = 16;
/// Longest window; a longer one counts as this long.
pub const DURATION_MAX: Duration = Duration::from_hours(7 * 24);
/// Longest lead time that a schedule looks ahead; a longer one counts as this long.
pub const LEAD_MAX: Duration = Duration::from_hours(24);

/// How often [`next_change`] may find that a window runs into the next of its schedule.
const MERGED_WINDOWS_MAX: usize = 256;

/// Bounds that hold for a while, again and again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Schedule {
    /// When windows open, in local time.
    pub cron: Cron,
    /// The zone of that local time.
    pub time_zone: TimeZone,
    /// How long a window is open, elapsed time, at most [`DURATION_MAX`].
    pub duration: Duration,
    /// The bounds of each role meanwhile.
    pub replicas: PerRole<ScheduledBounds>,
}

/// Bounds of a role while a window is open; what is absent stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScheduledBounds {
    /// Fewest replicas, at least 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_replicas: Option<u32>,
    /// Most replicas, at least 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_replicas: Option<u32>,
}

/// A time for which a schedule holds: from `start`, up to `end` and not including it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// When it opens.
    pub start: Timestamp,
    /// When it closes.
    pub end: Timestamp,
}

impl Schedule {
    /// How long a window is open.
    fn span(&self) -> Duration {
        self.duration.min(DURATION_MAX)
    }

    /// The last start at or before `now`, unless it is longer ago than `within`.
    fn last_start(&self, now: Timestamp, within: Duration) -> Option<Timestamp> {
        let mut at = self.time_zone.local_ceiling(now)?;
        loop {
            let local = self.cron.last(at, days(within))?;
            let start = self.time_zone.instant(local)?;
            if start <= now {
                return (now.since(start) <= within).then_some(start);
            }
            // In an overlap only: a start of the hour after the first pass.
            at = local.checked_sub_signed(chrono::TimeDelta::minutes(1))?;
        }
    }

    /// The first start after `now`, unless it is further ahead than `within`.
    pub fn next_start(&self, now: Timestamp, within: Duration) -> Option<Timestamp> {
        let mut at = self.time_zone.local(now)?;
        loop {
            let local = self.cron.first_after(at, days(within))?;
            let start = self.time_zone.instant(local)?;
            if start > now {
                return (start.since(now) <= within).then_some(start);
            }
            // In the second pass of an overlap only: this start was in the first.
            at = local;
        }
    }

    /// The window that is open at `now`. Of windows of one schedule that overlap, the last to open
    /// is the last to close.
    pub fn active_at(&self, now: Timestamp) -> Option<Window> {
        let start = self.last_start(now, self.span())?;
        let end = start.plus(self.span());
        (now < end).then_some(Window { start, end })
    }

    /// When the schedule next begins or ceases to hold, up to [`DURATION_MAX`] ahead.
    fn next_change(&self, now: Timestamp) -> Option<Timestamp> {
        let Some(mut window) = self.active_at(now) else {
            return self.next_start(now, DURATION_MAX);
        };
        for _ in 0..MERGED_WINDOWS_MAX {
            match self.active_at(window.end) {
                Some(next) if window.end.since(now) <= DURATION_MAX => window = next,
                Some(_) => return None,
                None => return Some(window.end),
            }
        }
        None
    }
}

/// Whole days that `span` may touch, an overlap included.
fn days(span: Duration) -> u32 {
    u32::try_from(span.as_secs() / 86_400)
        .unwrap_or(u32::MAX)
        .saturating_add(2)
}

/// Indices of the schedules whose window is open at `now`.
pub fn active(schedules: &[Schedule], now: Timestamp) -> Vec<usize> {
    let open = |(_, schedule): &(usize, &Schedule)| schedule.active_at(now).is_some();
    let indices = schedules.iter().enumerate().filter(open);
    indices.map(|(index, _)| index).collect()
}

/// When a window of any schedule next opens or closes, up to [`DURATION_MAX`] ahead. Windows of one
/// schedule that run into each other are one.
pub fn next_change(schedules: &[Schedule], now: Timestamp) -> Option<Timestamp> {
    schedules
        .iter()
        .filter_map(|schedule| schedule.next_change(now))
        .min()
}

/// The bounds in force at `now`, and which schedules made them so. `base` holds where no schedule
/// says otherwise; `lead` is how long a role's replicas take to serve.
///
/// The bounds returned are at least 1 and never cross.
pub fn bounds(
    schedules: &[Schedule],
    base: PerRole<Bounds>,
    now: Timestamp,
    lead: PerRole<Duration>,
) -> (PerRole<Bounds>, Vec<Step>) {
    let mut steps = Vec::new();
    if schedules.is_empty() {
        return (base, steps);
    }
    let open: Vec<Option<Window>> = schedules
        .iter()
        .map(|schedule| schedule.active_at(now))
        .collect();
    let bounds = PerRole::from_fn(|role| {
        let mut force = Force::default();
        for (index, schedule) in schedules.iter().enumerate() {
            let stated = schedule.replicas[role];
            if let Some(window) = open.get(index).copied().flatten() {
                force.open(index, stated, window);
            } else if let Some(minimum) = stated.min_replicas
                && let Some(start) = schedule.next_start(now, lead[role].min(LEAD_MAX))
            {
                force.ahead(index, minimum, start);
            }
        }
        force.bounds(role, base[role], now, &mut steps)
    });
    (bounds, steps)
}

/// The bounds that schedules set for one role.
#[derive(Debug, Default)]
struct Force {
    /// Largest minimum of the open windows, and whose.
    minimum: Option<(u32, usize)>,
    /// Least maximum of the open windows, and whose.
    maximum: Option<(u32, usize)>,
    /// Largest minimum of the windows that open within the lead time, whose, and when.
    ahead: Option<(u32, usize, Timestamp)>,
    /// When the first of the open windows that count closes.
    until: Option<Timestamp>,
}

impl Force {
    fn open(&mut self, index: usize, stated: ScheduledBounds, window: Window) {
        if let Some(minimum) = stated.min_replicas
            && self.minimum.is_none_or(|(most, _)| minimum > most)
        {
            self.minimum = Some((minimum, index));
        }
        if let Some(maximum) = stated.max_replicas
            && self.maximum.is_none_or(|(least, _)| maximum < least)
        {
            self.maximum = Some((maximum, index));
        }
        if stated != ScheduledBounds::default() {
            self.until = Some(self.until.map_or(window.end, |until| until.min(window.end)));
        }
    }

    fn ahead(&mut self, index: usize, minimum: u32, start: Timestamp) {
        if self.ahead.is_none_or(|(most, ..)| minimum > most) {
            self.ahead = Some((minimum, index, start));
        }
    }

    fn bounds(&self, role: Role, base: Bounds, now: Timestamp, steps: &mut Vec<Step>) -> Bounds {
        let mut note = |reason, message| {
            steps.push(Step {
                stage: Stage::Bounds,
                role: Some(role),
                reason,
                message,
            });
        };
        let mut minimum = self.minimum.map_or(base.min_replicas, |(least, _)| least);
        let maximum = self.maximum.map_or(base.max_replicas, |(most, _)| most);
        if let Some(until) = self.until {
            let seconds = until.since(now).as_secs();
            let message = format!(
                "{} {} minReplicas {minimum} and maxReplicas {maximum} for the next {seconds} s",
                self.sources(),
                if self.single() { "sets" } else { "set" },
            );
            note(Reason::ScheduleActive, message);
        }
        if let Some((ahead, index, start)) = self.ahead
            && ahead > minimum
        {
            minimum = ahead;
            let seconds = start.since(now).as_secs();
            let message = format!(
                "schedules[{index}] starts in {seconds} s, and its minReplicas {ahead} holds already"
            );
            note(Reason::ScheduleAhead, message);
        }
        let minimum = minimum.max(1);
        if minimum > maximum {
            let message =
                format!("minReplicas {minimum} is above maxReplicas {maximum}, which gives way");
            note(Reason::ScheduleConflict, message);
        }
        Bounds {
            min_replicas: minimum,
            max_replicas: maximum.max(minimum),
        }
    }

    fn single(&self) -> bool {
        match (self.minimum, self.maximum) {
            (Some((_, a)), Some((_, b))) => a == b,
            _ => true,
        }
    }

    /// The open schedules whose bounds count, by index.
    fn sources(&self) -> String {
        match (self.minimum, self.maximum) {
            (Some((_, a)), Some((_, b))) if a != b => format!("schedules[{a}] and schedules[{b}]"),
            (Some((_, index)), _) | (None, Some((_, index))) => format!("schedules[{index}]"),
            (None, None) => "no schedule".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;
