//! The past beside the past as it would have been, as JSON with stable keys and as text.
//!
//! The past is told as it was measured: latencies and shares from histograms, to the width of their
//! buckets, and TTFT from both roles' as the controller does. The future of that past is a run like
//! any other, with every change of replicas and its reason.

use std::fmt::Write as _;

use pd_core::histogram::Histogram;
use pd_core::{PerRole, Role};
use serde::Serialize;

use super::service::Service;
use crate::autoscaler::LoggedChange;
use crate::calibrate::Fit;
use crate::engine::Profile;
use crate::measured::told;
use crate::scenario::Scenario;
use crate::simulate::outcome::RunOutcome;
use crate::time::seconds;

/// The past as Prometheus has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Past {
    /// Requests that finished prefill.
    pub requests: f64,
    /// Share of requests within the TTFT limit, percent.
    pub ttft_attainment_percent: Option<f64>,
    /// Share of requests within the TPOT limit, percent.
    pub tpot_attainment_percent: Option<f64>,
    /// Share of requests within both, percent, as if one did not depend on the other.
    pub attainment_percent: Option<f64>,
    /// Median TTFT, seconds.
    pub ttft_p50_seconds: Option<f64>,
    /// 99th percentile of TTFT, seconds.
    pub ttft_p99_seconds: Option<f64>,
    /// Median TPOT, seconds.
    pub tpot_p50_seconds: Option<f64>,
    /// 99th percentile of TPOT, seconds.
    pub tpot_p99_seconds: Option<f64>,
    /// GPU-hours of the workers that were scraped.
    pub gpu_hours: f64,
    /// The part of prefill.
    pub prefill_gpu_hours: f64,
    /// The part of decode.
    pub decode_gpu_hours: f64,
    /// The most prefill workers at once.
    pub prefill_replicas_max: u32,
    /// The most decode workers at once.
    pub decode_replicas_max: u32,
    /// Changes of a role's workers from one step to the next.
    pub scale_events: u64,
}

/// A change of replicas that would have been made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// When.
    pub time: String,
    /// Replicas before.
    pub from: PerRole<u32>,
    /// Replicas after.
    pub to: PerRole<u32>,
    /// Why, in one word.
    pub reason: String,
    /// Why, in a sentence.
    pub message: String,
}

/// A backtest.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Backtest {
    /// Begin of the range.
    pub from: String,
    /// End of the range.
    pub to: String,
    /// Length of a step, seconds.
    pub step_seconds: f64,
    /// The past as it was.
    pub measured: Past,
    /// The past played with the replicas that were there, held against what was measured.
    pub fit: Fit,
    /// How fast replicas were taken to be.
    pub profile: Profile,
    /// The past as it would have been.
    pub simulated: RunOutcome,
    /// Every change of replicas.
    pub decisions: Vec<Decision>,
}

impl Backtest {
    pub(super) fn of(
        service: &Service,
        scenario: &Scenario,
        fit: Fit,
        simulated: RunOutcome,
        decisions: Vec<LoggedChange>,
    ) -> Self {
        let measured = &service.measured;
        let began = measured.from_millis / 1_000;
        let after = |at| {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "a float-to-integer cast saturates"
            )]
            let past = seconds(at) as i64;
            told(began.saturating_add(past))
        };
        let decision = |change: LoggedChange| Decision {
            time: after(change.at),
            from: change.from,
            to: change.to,
            reason: change.reason,
            message: change.message,
        };
        Self {
            from: told(began),
            to: after(measured.length()),
            step_seconds: measured.step.as_secs_f64(),
            measured: Past::of(service),
            fit,
            profile: scenario.profile.clone(),
            simulated,
            decisions: decisions.into_iter().map(decision).collect(),
        }
    }

    /// A short table, with so many of the decisions at most.
    pub fn to_text(&self, decisions_max: usize) -> String {
        let mut text = format!(
            "{} to {}, steps of {} s\n\n{:<24} {:>14} {:>14}\n",
            self.from, self.to, self.step_seconds, "", "was", "would be"
        );
        let rows = self.users().into_iter().chain(self.costs());
        // Writing to a string cannot fail.
        for (name, was, would) in rows {
            let _ = writeln!(text, "{name:<24} {was:>14} {would:>14}");
        }
        text.push_str("\nThe past played as it was, against what was measured:\n");
        text.push_str(&self.fit.to_text());
        self.add_decisions(&mut text, decisions_max);
        text
    }

    /// Latencies that users saw, then and now.
    fn users(&self) -> [(&'static str, String, String); 8] {
        let (was, would) = (&self.measured, &self.simulated);
        let row = |name, was: Option<f64>, would: Option<f64>, told: fn(Option<f64>) -> String| {
            (name, told(was), told(would))
        };
        [
            (
                "requests",
                format!("{:.0}", was.requests),
                would.requests.to_string(),
            ),
            row(
                "attainment",
                was.attainment_percent,
                would.attainment_percent,
                percent,
            ),
            row(
                "  TTFT within limit",
                was.ttft_attainment_percent,
                would.ttft_attainment_percent,
                percent,
            ),
            row(
                "  TPOT within limit",
                was.tpot_attainment_percent,
                would.tpot_attainment_percent,
                percent,
            ),
            row(
                "TTFT p50",
                was.ttft_p50_seconds,
                would.ttft_p50_seconds,
                milliseconds,
            ),
            row(
                "TTFT p99",
                was.ttft_p99_seconds,
                would.ttft_p99_seconds,
                milliseconds,
            ),
            row(
                "TPOT p50",
                was.tpot_p50_seconds,
                would.tpot_p50_seconds,
                milliseconds,
            ),
            row(
                "TPOT p99",
                was.tpot_p99_seconds,
                would.tpot_p99_seconds,
                milliseconds,
            ),
        ]
    }

    /// The cost, then and now.
    fn costs(&self) -> [(&'static str, String, String); 6] {
        let (was, would) = (&self.measured, &self.simulated);
        let hours = |name, was: f64, would: f64| (name, format!("{was:.1}"), format!("{would:.1}"));
        let count = |name, was: u64, would: u64| (name, was.to_string(), would.to_string());
        let most = |name, was: u32, would: u32| count(name, was.into(), would.into());
        [
            hours("GPU-hours", was.gpu_hours, would.gpu_hours),
            hours("  prefill", was.prefill_gpu_hours, would.prefill_gpu_hours),
            hours("  decode", was.decode_gpu_hours, would.decode_gpu_hours),
            most(
                "most prefill replicas",
                was.prefill_replicas_max,
                would.prefill_replicas_max,
            ),
            most(
                "most decode replicas",
                was.decode_replicas_max,
                would.decode_replicas_max,
            ),
            count("replica changes", was.scale_events, would.scale_events),
        ]
    }

    fn add_decisions(&self, text: &mut String, most: usize) {
        let count = self.decisions.len();
        let _ = writeln!(
            text,
            "\n{count} changes{}",
            if count > most {
                ", the first of them:"
            } else {
                ":"
            }
        );
        for decision in self.decisions.iter().take(most) {
            let (from, to) = (decision.from, decision.to);
            let _ = writeln!(
                text,
                "{} {}P {}D -> {}P {}D {}: {}",
                decision.time,
                from.prefill,
                from.decode,
                to.prefill,
                to.decode,
                decision.reason,
                decision.message
            );
        }
        if count > most {
            let _ = writeln!(text, "({} more: give --decisions {count})", count - most);
        }
    }
}

fn percent(share: Option<f64>) -> String {
    share.map_or("-".to_owned(), |share| format!("{share:.2} %"))
}

fn milliseconds(time: Option<f64>) -> String {
    time.map_or("-".to_owned(), |seconds| format!("{:.1} ms", seconds * 1e3))
}

impl Past {
    fn of(service: &Service) -> Self {
        let measured = &service.measured;
        let objective = service.policy.objective;
        let prefill = measured.whole(|interval| interval.prefill_ttft.as_ref());
        let decode = measured.whole(|interval| interval.decode_ttft.as_ref());
        let tpot = measured.whole(|interval| interval.tpot.as_ref());
        // The user's TTFT is prefill's plus what the decode worker adds, which is known as a mean.
        let added = decode.as_ref().and_then(Histogram::mean).unwrap_or(0.0);
        let within = |all: Option<&Histogram>, limit: f64| {
            let share = all?.share_at_or_below(limit)?;
            Some(share * 100.0)
        };
        let ttft_within = within(prefill.as_ref(), objective.ttft.limit.as_secs_f64() - added);
        let tpot_within = within(tpot.as_ref(), objective.tpot.limit.as_secs_f64());
        let at = |all: Option<&Histogram>, share: f64| Some(all?.quantile(share)?.value);
        let ttft = |share| at(prefill.as_ref(), share).map(|seconds| seconds + added);
        let gpu_hours = measured.gpu_hours(service.gpus_per_replica);
        Self {
            requests: measured.requests(),
            ttft_attainment_percent: ttft_within,
            tpot_attainment_percent: tpot_within,
            attainment_percent: ttft_within.zip(tpot_within).map(|(a, b)| a * b / 100.0),
            ttft_p50_seconds: ttft(0.5),
            ttft_p99_seconds: ttft(0.99),
            tpot_p50_seconds: at(tpot.as_ref(), 0.5),
            tpot_p99_seconds: at(tpot.as_ref(), 0.99),
            gpu_hours: gpu_hours.prefill + gpu_hours.decode,
            prefill_gpu_hours: gpu_hours.prefill,
            decode_gpu_hours: gpu_hours.decode,
            prefill_replicas_max: measured.workers_max(Role::Prefill),
            decode_replicas_max: measured.workers_max(Role::Decode),
            scale_events: measured.changes(),
        }
    }
}
