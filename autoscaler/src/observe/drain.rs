//! The price of lowering replicas, in requests: the work of each pod that may go, and the settings
//! that end it too early.
//!
//! How long answers take is measured where they are made, and the longest of a day counts: a
//! warning that came and went with the traffic would be none. Nothing here moves a replica.

use std::{collections::BTreeMap, time::Duration};

use pd_core::{PerRole, Role, Signals};
use pd_systems::{
    drain::{Leaving, Trap},
    victims::Replica,
};
use tokio::time::Instant;

use super::target::ObservedTarget;

/// Fewest answers that show how long their longest take: the percentile below needs one of them.
const ANSWERS_MIN: f64 = 100.0;

/// The length of answers that counts: one in a hundred is longer.
const LENGTH_SHARE: f64 = 0.99;

/// How long the longest answer counts: a day has all kinds of a service's traffic.
const KEPT_FOR: Duration = Duration::from_hours(24);

/// No answer takes so long: a measurement that says so is wrong.
const ANSWER_MAX: Duration = Duration::from_hours(24);

/// The price of lowering replicas, in requests.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    /// Requests in flight by pod, of those that were measured.
    pub work: PerRole<BTreeMap<String, f64>>,
    /// Replicas that a deletion cost ranks; none where costs are not heeded.
    pub ranked: PerRole<Vec<Replica>>,
    /// Settings by which requests are lost.
    pub traps: PerRole<Vec<Trap>>,
}

impl Drain {
    /// The price of lowering those of `targets`, whose pods have so much `work` in flight and whose
    /// answers take as long as `longest`.
    pub fn of(
        targets: PerRole<ObservedTarget>,
        work: PerRole<BTreeMap<String, f64>>,
        longest: Option<Longest>,
    ) -> Self {
        let took = longest.map(|longest| longest.took);
        let leaving = PerRole::from_fn(|role| &targets[role].leaving);
        Self {
            work,
            traps: traps(leaving, took),
            ranked: targets.map(|target| target.ranked),
        }
    }

    /// The traps of pods that leave, or the others, as sentences that name the role.
    pub fn sentences(&self, of_leaving: bool) -> String {
        let mut sentences = Vec::new();
        for (role, traps) in self.traps.iter() {
            let traps = traps
                .iter()
                .filter(|trap| trap.is_of_leaving() == of_leaving);
            sentences.extend(traps.map(|trap| format!("{role}: {trap}")));
        }
        sentences.join("; ")
    }
}

/// The traps of both roles, where answers take as long as `longest`.
fn traps(leaving: PerRole<&Leaving>, longest: Option<Duration>) -> PerRole<Vec<Trap>> {
    PerRole::from_fn(|role| match role {
        // It has done its part when the first token is there.
        Role::Prefill => leaving.prefill.traps_for(None),
        Role::Decode => leaving.decode.traps_for(longest),
    })
}

/// The longest answer of late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Longest {
    /// How long it took.
    pub took: Duration,
    /// When it was measured.
    pub at: Instant,
}

impl Longest {
    /// The longer of `before` and what `signals` show now; that of more than a day ago is
    /// forgotten.
    pub fn after(before: Option<Self>, signals: &Signals, now: Instant) -> Option<Self> {
        let before = before.filter(|longest| now.duration_since(longest.at) < KEPT_FOR);
        let measured = answer(signals).map(|took| Self { took, at: now });
        match (before, measured) {
            (Some(before), Some(measured)) if before.took > measured.took => Some(before),
            (before, None) => before,
            (_, measured) => measured,
        }
    }
}

/// How long a long answer takes: its tokens, each at the mean time of one. Long answers live
/// through many batches, so that their tokens take the mean.
fn answer(signals: &Signals) -> Option<Duration> {
    let wide = &signals.wide;
    let lengths = wide.output_tokens.with_samples(ANSWERS_MIN).ok()?;
    let tokens = lengths.quantile(LENGTH_SHARE)?.value;
    let each = wide
        .tpot
        .mean()
        .or_else(|| wide.inter_token_latency.mean())?;
    let took = Duration::try_from_secs_f64(tokens * each).ok()?;
    Some(took).filter(|took| *took < ANSWER_MAX)
}

#[cfg(test)]
mod tests {
    use pd_core::{histogram::Histogram, signal::HistogramReading};
    use pd_systems::drain::{EndedBy, Limit, Work};
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn histogram(edge: f64, count: f64, mean: f64) -> HistogramReading {
        let buckets = vec![(edge / 2.0, 0.0), (edge, count)];
        let histogram = Histogram::from_cumulative(buckets, count, count * mean);
        histogram.map_or_else(HistogramReading::default, HistogramReading::Value)
    }

    /// Answers of nearly 1,000 tokens.
    fn signals(answers: f64, tpot_seconds: Option<f64>) -> Signals {
        let mut signals = Signals::default();
        signals.wide.output_tokens = histogram(1_000.0, answers, 990.0);
        if let Some(seconds) = tpot_seconds {
            signals.wide.tpot = histogram(seconds * 1.01, answers, seconds);
        }
        signals
    }

    #[rstest]
    #[case::half_a_minute(500.0, Some(0.03), Some(30))]
    #[case::too_few_to_say(99.0, Some(0.03), None)]
    #[case::no_time_of_a_token(500.0, None, None)]
    #[case::of_no_sense(500.0, Some(200.0), None)]
    fn a_long_answer_takes_its_tokens(
        #[case] answers: f64,
        #[case] tpot_seconds: Option<f64>,
        #[case] want: Option<u64>,
    ) {
        let took = answer(&signals(answers, tpot_seconds));
        let second = Duration::from_secs(1);
        let near = |took: Duration, want| took.abs_diff(Duration::from_secs(want)) < second;
        assert_eq!(took.is_some(), want.is_some());
        assert!(
            took.zip(want).is_none_or(|(took, want)| near(took, want)),
            "{took:?}"
        );
    }

    #[test]
    fn where_only_gaps_between_tokens_are_known_they_are_its_time() {
        let mut signals = signals(500.0, None);
        signals.wide.inter_token_latency = histogram(0.06, 9_000.0, 0.05);
        assert!(answer(&signals).is_some_and(|took| took > Duration::from_secs(45)));
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_of_a_day_counts() {
        let at = |hours: u64| Instant::now() + Duration::from_hours(hours);
        let slow = Longest::after(None, &signals(500.0, Some(0.06)), at(0));
        let took = |longest: Option<Longest>| longest.map(|longest| longest.took.as_secs());
        assert!(took(slow).is_some_and(|took| took > 55));
        // Shorter ones, and hours without traffic, change nothing.
        let later = Longest::after(slow, &signals(500.0, Some(0.03)), at(23));
        assert_eq!(later, slow);
        assert_eq!(Longest::after(later, &Signals::default(), at(23)), slow);
        let next_day = Longest::after(later, &signals(500.0, Some(0.03)), at(25));
        assert!(took(next_day).is_some_and(|took| took < 31));
        assert_eq!(Longest::after(later, &Signals::default(), at(25)), None);
    }

    #[test]
    fn answers_are_decodes_and_each_trap_names_its_role() {
        let template = json!({ "metadata": { "labels": { "llm-d.ai/role": "decode" } },
            "spec": { "terminationGracePeriodSeconds": 40 } });
        let leaving = PerRole::from_fn(|role| Leaving::of(&template, role));
        let leaving = PerRole::from_fn(|role| &leaving[role]);
        let traps = traps(leaving, Some(Duration::from_mins(1)));
        let too_short = Trap::TooShort {
            limit: Limit {
                seconds: 40,
                by: EndedBy::Grace,
            },
            work: Work::Answer,
            needed: 60,
        };
        assert_eq!(traps.decode, [too_short]);
        let drain = Drain {
            traps,
            ..Drain::default()
        };
        assert!(
            drain
                .sentences(true)
                .starts_with("decode: terminationGracePeriodSeconds `40`")
        );
        assert!(
            drain
                .sentences(false)
                .starts_with("prefill: pods of the prefill target")
        );
    }
}
