//! Whether the API server takes `Gt` and `Lt` by itself, found out by probing it.
//!
//! A probe is the dry-run creation of a pod with such a toleration in the webhook's own namespace,
//! which its configuration leaves out, so that the API server answers for itself. Its refusal of
//! the operator means off, success means on, anything else (a quota, a policy, an outage) means
//! nothing, and the answer so far stays. Before the first answer the gate counts as off: rewriting
//! is right on every cluster, so a webhook whose probes are refused is ready all the same. Probes
//! go on for ever, for clusters are upgraded and rolled back, and less and less often without an
//! answer.
//!
//! Several API servers may differ while a change rolls out. A rewritten pod is right with all of
//! them, a numeric one is not, so a single off counts at once, and on only after several in a row.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use kube::Client;
use pd_runtime::{
    feature_gate::{ProbeAnswer, probe},
    readiness::ReadinessHandle,
};
use pd_tolerations::Comparison;
use tokio::time::sleep;

use crate::{args::GateMode, metrics::Metrics};

/// How many probes in a row must say on.
const ON_AFTER: u32 = 3;
/// Time between probes before the first answer.
const EAGER: Duration = Duration::from_millis(250);
/// The names of the probes' pods begin so.
const PROBE_NAME: &str = "pd-webhook-probe-";

/// The gate as it is known now. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct FeatureGate {
    is_on: Arc<AtomicBool>,
}

impl FeatureGate {
    /// A gate that is known.
    pub fn fixed(comparison: Comparison) -> Self {
        let gate = Self::default();
        gate.set(comparison);
        gate
    }

    /// Whether the API server compares numbers by itself.
    pub fn read(&self) -> Comparison {
        if self.is_on.load(Ordering::Relaxed) {
            Comparison::On
        } else {
            Comparison::Off
        }
    }

    fn set(&self, comparison: Comparison) {
        self.is_on
            .store(comparison == Comparison::On, Ordering::Relaxed);
    }
}

/// All answers so far, condensed.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProbeHistory {
    known: Option<Comparison>,
    on_in_a_row: u32,
    /// Probes without an answer since the last one that had one.
    unanswered: u32,
}

impl ProbeHistory {
    /// Takes the next answer, and gives the state of the gate that follows from all of them. A
    /// probe without an answer changes nothing.
    pub fn take(&mut self, answer: Option<Comparison>) -> Option<Comparison> {
        self.unanswered = match answer {
            Some(_) => 0,
            None => self.unanswered.saturating_add(1),
        };
        match answer {
            Some(Comparison::Off) => {
                self.on_in_a_row = 0;
                self.known = Some(Comparison::Off);
            }
            Some(Comparison::On) => {
                self.on_in_a_row = self.on_in_a_row.saturating_add(1);
                if self.on_in_a_row >= ON_AFTER {
                    self.known = Some(Comparison::On);
                }
            }
            None => {}
        }
        self.known
    }

    /// Whether reviews can be answered: the gate is known, or nobody says so, and then it counts as
    /// off.
    pub const fn is_ready(self) -> bool {
        self.known.is_some() || self.unanswered > 0
    }

    /// Whether the last probe is the first of its row without an answer, which is worth a warning.
    const fn has_just_failed(self) -> bool {
        self.unanswered == 1
    }

    /// The time until the next probe, at most `interval`: that for a steady answer, else little,
    /// and twice as long after each probe without an answer.
    pub fn pause(self, interval: Duration) -> Duration {
        if self.is_steady() {
            return interval;
        }
        let factor = 2_u32.saturating_pow(self.unanswered);
        EAGER.saturating_mul(factor).min(interval)
    }

    const fn is_steady(self) -> bool {
        match self.known {
            None => false,
            Some(Comparison::Off) => self.on_in_a_row == 0,
            Some(Comparison::On) => true,
        }
    }
}

/// Probes until the future is dropped.
pub async fn watch(
    gate: FeatureGate,
    mode: GateMode,
    client: Client,
    namespace: String,
    interval: Duration,
    ready: ReadinessHandle,
    metrics: Arc<Metrics>,
) {
    let fixed = match mode {
        GateMode::Native => Some(Comparison::On),
        GateMode::Rewrite => Some(Comparison::Off),
        GateMode::Auto => None,
    };
    if let Some(comparison) = fixed {
        gate.set(comparison);
        metrics.gate(comparison);
        ready.set_ready();
        return;
    }
    let mut history = ProbeHistory::default();
    let mut reported = None;
    loop {
        let answer = probe(&client, &namespace, PROBE_NAME).await;
        let known = history.take(answer.as_ref().ok().map(comparison));
        if let Err(error) = &answer {
            if history.has_just_failed() {
                tracing::warn!(
                    %error,
                    is_on = gate.read() == Comparison::On,
                    "the gate cannot be probed: it counts as it was, and as off before the first answer"
                );
            } else {
                tracing::debug!(%error, "the gate cannot be probed");
            }
        }
        if history.is_ready() {
            ready.set_ready();
        }
        if let Some(comparison) = known.filter(|_| known != reported) {
            tracing::info!(is_on = comparison == Comparison::On, "gate known");
            gate.set(comparison);
            metrics.gate(comparison);
            reported = known;
        }
        sleep(history.pause(interval)).await;
    }
}

/// A pod that is taken, in whatever form, was taken with its number.
fn comparison(answer: &ProbeAnswer) -> Comparison {
    match answer {
        ProbeAnswer::Refused => Comparison::Off,
        ProbeAnswer::Kept | ProbeAnswer::Rewritten | ProbeAnswer::Changed(_) => Comparison::On,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::off_at_once("-", Some(Comparison::Off))]
    #[case::on_only_after_several("++", None)]
    #[case::on("+++", Some(Comparison::On))]
    #[case::one_server_lacks_it("++-++", Some(Comparison::Off))]
    #[case::upgraded("-+++", Some(Comparison::On))]
    #[case::rolled_back("+++-", Some(Comparison::Off))]
    #[case::an_outage_changes_nothing("+++??", Some(Comparison::On))]
    #[case::no_answer("??", None)]
    fn answers_are_judged_carefully(#[case] answers: &str, #[case] want: Option<Comparison>) {
        let mut history = ProbeHistory::default();
        let mut known = None;
        for answer in answers.chars() {
            known = history.take(match answer {
                '+' => Some(Comparison::On),
                '-' => Some(Comparison::Off),
                _ => None,
            });
        }
        assert_eq!(known, want);
    }

    fn after(answers: &str) -> ProbeHistory {
        let mut history = ProbeHistory::default();
        for answer in answers.chars() {
            history.take(match answer {
                '+' => Some(Comparison::On),
                '-' => Some(Comparison::Off),
                _ => None,
            });
        }
        history
    }

    #[rstest]
    #[case::nothing_yet("", false)]
    #[case::a_policy_refuses_the_pod("?", true)]
    #[case::off("-", true)]
    #[case::on_so_far("+", false)]
    #[case::on_and_then_refused("+?", true)]
    #[case::known("+++", true)]
    fn a_refused_probe_keeps_nobody_waiting(#[case] answers: &str, #[case] is_ready: bool) {
        assert_eq!(after(answers).is_ready(), is_ready);
    }

    #[rstest]
    #[case::first("?", 500)]
    #[case::fourth("????", 4_000)]
    #[case::for_ever("??????????????????????????????????????", 30_000)]
    #[case::on_so_far("+", 250)]
    #[case::steady("+++", 30_000)]
    #[case::steady_in_an_outage("+++?", 30_000)]
    #[case::answered_again("????+", 250)]
    fn probes_without_an_answer_become_rare(#[case] answers: &str, #[case] millis: u64) {
        let pause = after(answers).pause(Duration::from_secs(30));
        assert_eq!(pause, Duration::from_millis(millis));
    }

    #[test]
    fn an_outage_is_reported_once() {
        let reported = (1..=9).filter(|count| after(&"?".repeat(*count)).has_just_failed());
        assert_eq!(reported.count(), 1);
        assert!(after("???-?").has_just_failed(), "another outage");
    }

    #[test]
    fn an_unknown_gate_counts_as_off() {
        assert_eq!(FeatureGate::default().read(), Comparison::Off);
        assert_eq!(FeatureGate::fixed(Comparison::On).read(), Comparison::On);
    }
}
