//! Signals that may be believed, and whether they are enough to lower a role's replicas.
//!
//! Missing evidence never lowers replicas. Partial evidence (some ready workers not scraped) is a
//! lower bound of the load: it may raise replicas, and does not lower them either. A signal that
//! cannot be true counts as missing, also one that the role could do without: whatever spoilt it
//! may have spoilt the others.

use std::time::Duration;

use crate::{
    role::{PerRole, Role},
    role_state::RoleState,
    signal::{Gap, Reading, Signals, name::SignalName, standstill::STANDSTILL},
};

/// Signals as decisions may use them, and the evidence that they are.
#[derive(Clone, Debug, PartialEq)]
pub struct JudgedSignals {
    /// The signals, without those that cannot be true.
    pub signals: Signals,
    /// Gaps of each role, by the signals as they were read.
    pub evidence: PerRole<Evidence>,
    /// A sentence without its full stop about signals that contradict each other, and which is not
    /// believed.
    pub contradiction: Option<String>,
}

impl JudgedSignals {
    /// Judges `read`, the signals of workloads that are as `roles` state.
    pub fn judge(read: &Signals, roles: &PerRole<RoleState>) -> Self {
        let ready = roles.map(|state| state.ready);
        Self {
            signals: read.judged(ready),
            evidence: PerRole::from_fn(|role| evidence(read, role, ready[role])),
            contradiction: None,
        }
    }

    /// The same, once the gauges have stood still for `standing`.
    #[must_use]
    pub fn without_standing_gauges(self, standing: Option<Duration>) -> Self {
        let Some(standing) = standing.filter(|standing| *standing >= STANDSTILL) else {
            return self;
        };
        let running = self.signals.running_requests.decode.known().unwrap_or(0.0);
        let contradiction = format!(
            "decode workers state {running:.0} running requests and have generated no token for {} s, so \
             their gauges are not believed",
            standing.as_secs()
        );
        Self {
            signals: self.signals.without_standing_gauges(),
            contradiction: Some(contradiction),
            ..self
        }
    }
}

/// Gaps that stand in the way of a full decision about a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// Signals that are not known, by name.
    pub missing: Vec<(&'static str, Gap)>,
    /// Of those that are read but not believed, the first one's sentence without its full stop.
    pub doubt: Option<String>,
    /// Ready workers with a fresh sample.
    pub scraped: u32,
    /// Ready workers.
    pub ready: u32,
}

impl Evidence {
    /// Whether replicas may be lowered on it.
    pub fn complete(&self) -> bool {
        self.missing.is_empty() && !self.partial() && self.ready > 0
    }

    /// Whether some ready workers were not scraped.
    pub fn partial(&self) -> bool {
        self.scraped < self.ready
    }

    /// A sentence without its full stop about the gaps.
    pub fn message(&self) -> String {
        if let Some((name, gap)) = self.missing.first() {
            let others = match self.missing.len() {
                1 => String::new(),
                2 => " (and 1 other signal)".to_owned(),
                more => format!(" (and {} other signals)", more - 1),
            };
            if let Some(doubt) = &self.doubt {
                return format!("{doubt}{others}");
            }
            return format!("`{name}` is not known because {}{others}", gap.as_text());
        }
        if self.ready == 0 {
            return "no worker is ready".to_owned();
        }
        format!(
            "{} of {} ready workers are scraped",
            self.scraped, self.ready
        )
    }
}

/// Gaps that stand in the way of a full decision about `role`, of which `ready` workers are ready.
/// The signals are as they were read, or judged; only the first have the numbers behind a doubt.
pub fn evidence(signals: &Signals, role: Role, ready: u32) -> Evidence {
    let needed = match role {
        Role::Prefill => prefill_signals(signals),
        Role::Decode => decode_signals(signals),
    };
    let mut doubts = signals.doubts();
    doubts.retain(|doubt| judges(doubt.signal) == role);
    let mut missing: Vec<(&'static str, Gap)> = doubts
        .iter()
        .map(|doubt| (doubt.signal.as_str(), doubt.gap))
        .collect();
    let gaps = needed
        .into_iter()
        .filter_map(|(name, reading)| reading.gap().map(|gap| (name.as_str(), gap)));
    for gap in gaps.chain(refused(signals, role)) {
        if !missing.iter().any(|(name, _)| *name == gap.0) {
            missing.push(gap);
        }
    }
    if signals.answer_partial {
        missing.push(("metrics", Gap::PartialAnswer));
    }
    Evidence {
        missing,
        doubt: doubts.into_iter().next().map(|doubt| doubt.message),
        scraped: signals.coverage[role].scraped,
        ready,
    }
}

/// The role that is held when the signal is not believed.
fn judges(signal: SignalName) -> Role {
    match (signal.role(), signal) {
        (Some(role), _) => role,
        (None, SignalName::TpotOverride) => Role::Decode,
        (None, _) => Role::Prefill,
    }
}

/// Signals of `role` that were already refused.
fn refused(signals: &Signals, role: Role) -> impl Iterator<Item = (&'static str, Gap)> {
    let numbers = signals
        .numbers()
        .map(|(name, reading)| (name, reading.gap()));
    let distributions = signals
        .distributions()
        .map(|(name, recent, wide)| (name, recent.gap().max(wide.gap())));
    numbers
        .chain(distributions)
        .filter_map(move |(name, gap)| match gap? {
            gap @ (Gap::OutOfRange | Gap::NoQuorum) if judges(name) == role => {
                Some((name.as_str(), gap))
            }
            _ => None,
        })
}

fn prefill_signals(signals: &Signals) -> Vec<(SignalName, Reading)> {
    let arrivals = match signals.arrival_rate_rps_override {
        Reading::Unknown(Gap::NotAsked) => (
            SignalName::PrefillCompletionRate,
            signals.prefill_completion_rate_rps,
        ),
        stated => (SignalName::ArrivalRate, stated),
    };
    vec![
        arrivals,
        (
            SignalName::PrefillWaitingRequests,
            signals.waiting_requests.prefill,
        ),
    ]
}

fn decode_signals(signals: &Signals) -> Vec<(SignalName, Reading)> {
    vec![
        (SignalName::OutputTokenRate, signals.output_token_rate_tps),
        (
            SignalName::DecodeRunningRequests,
            signals.running_requests.decode,
        ),
        (
            SignalName::DecodeWaitingRequests,
            signals.waiting_requests.decode,
        ),
        (SignalName::DecodeKvUsage, signals.decode_kv_usage),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{snapshot::Snapshot, testing};

    fn of(snapshot: &Snapshot, role: Role) -> Evidence {
        evidence(&snapshot.signals, role, snapshot.roles[role].ready)
    }

    fn snapshot() -> Snapshot {
        let load = testing::Load {
            rate_rps: 10.0,
            prefill_seconds: 0.1,
            output_tokens: 200.0,
        };
        testing::snapshot(2, 4, load)
    }

    #[test]
    fn a_service_whose_units_are_wrong_is_held_and_the_signal_is_named() {
        let mut snapshot = snapshot();
        snapshot.signals.recent.inter_token_latency = testing::around(25.0, 1e5);
        let found = of(&snapshot, Role::Decode);
        assert!(!found.complete());
        assert_eq!(
            found.message(),
            "`interTokenLatency` is 25 s and is plausible from 0.00001 to 10 s; it looks like \
             milliseconds"
        );
        assert!(of(&snapshot, Role::Prefill).complete());
        // Judged or not, it is held.
        snapshot.signals = snapshot
            .signals
            .judged(snapshot.roles.map(|state| state.ready));
        assert!(!of(&snapshot, Role::Decode).complete());
    }

    #[test]
    fn an_answer_that_is_not_whole_is_no_ground_to_lower_on() {
        let mut snapshot = snapshot();
        snapshot.signals.answer_partial = true;
        for role in Role::ALL {
            let found = of(&snapshot, role);
            assert!(!found.complete());
            assert!(found.message().contains("not whole"), "{}", found.message());
        }
    }

    #[test]
    fn too_few_workers_scraped_is_reported_with_the_numbers() {
        let mut snapshot = snapshot();
        snapshot.signals.coverage.decode.scraped = 1;
        let message = of(&snapshot, Role::Decode).message();
        assert!(message.contains("1 of 4 workers are scraped"), "{message}");
    }
}
