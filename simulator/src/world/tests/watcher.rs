//! A listener that holds a run against what must always be so.

use std::collections::BTreeMap;

use pd_core::{PerRole, Role};

use crate::autoscaler::PolicyVerdict;
use crate::engine::{Arrival, Ending, RequestOutcome};
use crate::lifecycle::{Loss, LossCause};
use crate::time::{MINUTE, Nanos};
use crate::world::{Listener, Replicas, Setup};

/// Requests of one minute of arrival.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Minute {
    pub(super) requests: u64,
    pub(super) attained: u64,
}

#[derive(Debug)]
pub(super) struct Watcher {
    ttft_limit_seconds: f64,
    tpot_limit_seconds: f64,
    pub(super) arrived: u64,
    /// How often each request ended.
    ended: BTreeMap<u64, u32>,
    pub(super) minutes: Vec<Minute>,
    pub(super) findings: Vec<String>,
    pub(super) dropped: u64,
    pub(super) lost: u64,
    pub(super) restarts: u64,
    pub(super) replicas: PerRole<Replicas>,
    pub(super) lowest: PerRole<u32>,
}

impl Watcher {
    pub(super) fn new(setup: &Setup) -> Self {
        let objective = &setup.policy.objective;
        Self {
            ttft_limit_seconds: objective.ttft.limit.as_secs_f64(),
            tpot_limit_seconds: objective.tpot.limit.as_secs_f64(),
            arrived: 0,
            ended: BTreeMap::new(),
            minutes: Vec::new(),
            findings: Vec::new(),
            dropped: 0,
            lost: 0,
            restarts: 0,
            replicas: PerRole::default(),
            lowest: PerRole::from_fn(|_| u32::MAX),
        }
    }

    fn minute(&mut self, at: Nanos) -> &mut Minute {
        let index = usize::try_from(at / MINUTE).unwrap();
        if self.minutes.len() <= index {
            self.minutes.resize(index + 1, Minute::default());
        }
        &mut self.minutes[index]
    }

    /// Requests that did not end exactly once.
    pub(super) fn not_ended_once(&self) -> u64 {
        let once = self.ended.values().filter(|times| **times == 1).count() as u64;
        let more = self.ended.len() as u64 - once;
        more + self.arrived.saturating_sub(self.ended.len() as u64)
    }

    /// Share of the requests of some minutes that attained the objective, percent.
    pub(super) fn attainment_percent(&self, minutes: std::ops::Range<usize>) -> f64 {
        let all = self.minutes.get(minutes).unwrap_or_default();
        let sum = |read: fn(&Minute) -> u64| all.iter().map(read).sum::<u64>() as f64;
        let requests = sum(|minute| minute.requests);
        if requests > 0.0 {
            sum(|minute| minute.attained) / requests * 100.0
        } else {
            100.0
        }
    }
}

impl Listener for Watcher {
    fn arrived(&mut self, arrival: &Arrival) {
        self.arrived += 1;
        self.minute(arrival.at).requests += 1;
    }

    fn ended(&mut self, outcome: &RequestOutcome) {
        *self.ended.entry(outcome.id).or_default() += 1;
        self.restarts += u64::from(outcome.restarts);
        let ttft = outcome.ttft_seconds();
        let in_time = ttft <= self.ttft_limit_seconds
            && outcome
                .tpot_seconds()
                .is_none_or(|tpot| tpot <= self.tpot_limit_seconds);
        if outcome.ending == Ending::Completed && in_time {
            self.minute(outcome.arrived_at).attained += 1;
        }
    }

    fn hold(&mut self, _now: Nanos, replicas: PerRole<Replicas>) {
        self.replicas = replicas;
        for role in Role::ALL {
            let lowest = &mut self.lowest[role];
            *lowest = (*lowest).min(replicas[role].desired);
        }
    }

    fn decided(&mut self, verdict: &PolicyVerdict) {
        let found = verdict
            .findings
            .iter()
            .map(|finding| format!("{finding:?}"));
        self.findings.extend(found);
    }

    fn lost(&mut self, loss: Loss) {
        self.lost += loss.requests;
        if loss.cause == LossCause::ScaleDown {
            self.dropped += loss.requests;
        }
    }
}
