//! Facts of the past that the audit holds a plan against: what the memory before a decision says,
//! as plain numbers with their ages.

use std::time::Duration;

use crate::{
    behavior::{ChangeLimit, ScalingRules, SelectPolicy},
    guard::Gap,
    memory::{Memory, StabilizationMemory},
    role::{PerRole, Role},
    snapshot::Snapshot,
    time::Timestamp,
};

/// The past of a service at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The moment, by the clock.
    pub clock: Timestamp,
    /// The past of each role.
    pub roles: PerRole<RoleFacts>,
}

/// The past of one role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoleFacts {
    /// Replicas that have served, as far as they are still requested.
    pub served: u32,
    /// A request was cancelled, and its cause is not seen gone.
    pub backs_off: bool,
    /// How long replicas are pending without any arriving.
    pub waiting: Option<Duration>,
    /// Replicas added, or taken away where below zero, and how long ago.
    pub changes: Vec<(Duration, i64)>,
    /// Needs, and how long ago: the largest of them counts on the way down.
    pub largest: Vec<(Duration, u32)>,
    /// Needs, and how long ago: the least of them counts on the way up.
    pub least: Vec<(Duration, u32)>,
}

impl Facts {
    /// The facts that `memory`, the one before the decision on `snapshot`, states at `clock`.
    pub fn of(memory: &Memory, snapshot: &Snapshot, clock: Timestamp) -> Self {
        let fresh = Memory::default();
        let memory = if memory.is_usable() { memory } else { &fresh };
        let window = snapshot.policy.behavior.scale_down.stabilization_window;
        let (now, gap) = memory.now(clock, window);
        let unwatched = gap.unwatched(window);
        let roles = PerRole::from_fn(|role: Role| {
            let state = &snapshot.roles[role];
            let mut replicas = memory.replicas[role].clone();
            replicas.changes.observe(state.current, now);
            replicas
                .served
                .observe(state.current, state.ready.min(state.current));
            let changes = replicas.changes.as_slice().iter().map(|change| {
                let added = i64::from(change.to) - i64::from(change.from);
                (now.since(change.at), added)
            });
            let mut newest_first = replicas.changes.as_slice().iter().rev();
            let rise = newest_first
                .find(|change| change.to > change.from)
                .map(|change| now.since(change.at));
            let StabilizationMemory { windows, stuck, .. } = &memory.stabilization[role];
            let ages = |samples: &[(Timestamp, u32)]| -> Vec<(Duration, u32)> {
                let past = samples.iter().filter(|(at, _)| *at <= now);
                past.map(|(at, need)| (now.since(*at), *need)).collect()
            };
            let mut largest = ages(windows.largest.samples());
            for (age, _) in &mut largest {
                *age = age.saturating_sub(unwatched);
            }
            // Nobody knows what was needed, and what there was counts.
            largest.extend((gap == Gap::Sudden).then_some((Duration::ZERO, state.current)));
            RoleFacts {
                served: replicas.served.replicas(),
                backs_off: stuck.backs_off(),
                waiting: replicas.lead.waiting(now).max(rise),
                changes: changes.collect(),
                largest,
                least: ages(windows.least.samples()),
            }
        });
        Self { clock, roles }
    }
}

impl RoleFacts {
    /// The largest need within `span`, if one is known.
    pub(super) fn largest_within(&self, span: Duration) -> Option<u32> {
        within(&self.largest, span).max()
    }

    /// The least need within `span`, if one is known.
    pub(super) fn least_within(&self, span: Duration) -> Option<u32> {
        within(&self.least, span).min()
    }

    /// Whether replicas were taken away within `span`.
    pub(super) fn was_lowered_within(&self, span: Duration) -> bool {
        let mut changes = self.changes.iter();
        changes.any(|(age, added)| *age < span && *added < 0)
    }

    /// Most replicas that `rules` allow from `current`.
    pub(super) fn most(&self, current: u32, rules: &ScalingRules) -> u32 {
        let limits = rules.policies.iter().map(|policy| {
            let start = self.start(current, policy.period);
            match policy.change {
                ChangeLimit::Replicas(count) => start + i128::from(count),
                ChangeLimit::Percent(percent) => {
                    (start * (100 + i128::from(percent)) + 99).div_euclid(100)
                }
            }
        });
        let limit = match rules.select {
            SelectPolicy::Disabled => return current,
            SelectPolicy::Max => limits.max(),
            SelectPolicy::Min => limits.min(),
        };
        limit.map_or(u32::MAX, whole).max(current)
    }

    /// Fewest replicas that `rules` allow from `current`.
    pub(super) fn fewest(&self, current: u32, rules: &ScalingRules) -> u32 {
        let limits = rules.policies.iter().map(|policy| {
            let start = self.start(current, policy.period);
            match policy.change {
                ChangeLimit::Replicas(count) => start - i128::from(count),
                ChangeLimit::Percent(percent) => start * (100 - i128::from(percent).min(100)) / 100,
            }
        });
        let limit = match rules.select {
            SelectPolicy::Disabled => return current,
            SelectPolicy::Max => limits.min(),
            SelectPolicy::Min => limits.max(),
        };
        limit.map_or(0, whole).min(current)
    }

    /// Fewest replicas where a tenth of them, rounded up, may go in a minute.
    pub(super) fn tenth_less(&self, current: u32) -> u32 {
        let start = self.start(current, Duration::from_mins(1));
        whole(start - (start + 9) / 10).min(current)
    }

    /// Replicas at the start of the period that ends now.
    fn start(&self, current: u32, period: Duration) -> i128 {
        let recent = self.changes.iter().filter(|(age, _)| *age < period);
        let added: i128 = recent.map(|(_, added)| i128::from(*added)).sum();
        (i128::from(current) - added).max(0)
    }
}

fn within(needs: &[(Duration, u32)], span: Duration) -> impl Iterator<Item = u32> {
    let recent = needs.iter().filter(move |(age, _)| *age < span);
    recent.map(|(_, need)| *need)
}

fn whole(replicas: i128) -> u32 {
    u32::try_from(replicas.max(0)).unwrap_or(u32::MAX)
}
