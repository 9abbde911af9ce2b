//! Range queries, in pieces that any server answers, and what is made of their series.
//!
//! Prometheus refuses more than eleven thousand points, and a week of histograms is best not asked
//! for at once, so a range is read a few hundred steps at a time.

use std::time::Duration;

use pd_core::histogram::Histogram;
use pd_core::signal::HistogramReading;
use pd_core::signal::name::SignalName;
use pd_core::{Reading, Role};
use pd_signals::Sample;
use pd_signals::decode::Past;
use pd_signals::engine::Engine;
use pd_signals::queries::Scope;

use super::prometheus::{Range, Series, Server};
use super::{Interval, Measured, MeasuredError};
use crate::batch::progress;

/// Metrics that no load can be rebuilt without.
const NEEDED_COUNT: usize = 5;

/// Steps that are asked for at once.
const STEPS_AT_ONCE: usize = 300;

/// Whose past is asked for, and when.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The server's address.
    pub server: String,
    /// The controller's queries for this service.
    pub scope: Scope,
    /// Begin, Unix time in seconds.
    pub from_unix: i64,
    /// End, Unix time in seconds.
    pub to_unix: i64,
    /// Length of a step, whole seconds; the window of `scope` is the same.
    pub step: Duration,
    /// Longest time for one answer.
    pub timeout: Duration,
}

impl Asked {
    fn steps(&self) -> usize {
        let span = self.to_unix.saturating_sub(self.from_unix).max(0);
        let step = i64::try_from(self.step.as_secs())
            .unwrap_or(i64::MAX)
            .max(1);
        usize::try_from(span / step).unwrap_or(0)
    }

    fn step_seconds(&self) -> i64 {
        i64::try_from(self.step.as_secs())
            .unwrap_or(i64::MAX)
            .max(1)
    }

    /// Which pods, for people.
    fn wanted(&self) -> String {
        let (scope, namespace) = (&self.scope, &self.scope.namespace);
        format!(
            "pods `{}` and `{}` in namespace `{namespace}`",
            scope.prefill_pods, scope.decode_pods
        )
    }

    fn told(&self) -> (String, String, String, String) {
        let (from, to) = (told(self.from_unix), told(self.to_unix));
        (self.server.clone(), self.wanted(), from, to)
    }
}

/// A time for people.
pub(crate) fn told(unix: i64) -> String {
    let since = Duration::from_secs(u64::try_from(unix).unwrap_or(0));
    humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + since).to_string()
}

/// Reads a range.
pub fn read(asked: &Asked) -> Result<Measured, MeasuredError> {
    let server = Server::new(&asked.server, asked.timeout);
    let steps = asked.steps();
    let queries = [asked.scope.load_query(), asked.scope.histogram_query()];
    let mut intervals = Vec::with_capacity(steps);
    let bar = progress(steps.div_ceil(STEPS_AT_ONCE) * queries.len());
    bar.set_message("reading from Prometheus");
    for first in (0..steps).step_by(STEPS_AT_ONCE) {
        let last = (first + STEPS_AT_ONCE).min(steps);
        // A step's rates are read at its end, when all of it lies behind.
        let at = |step: usize| {
            let after = i64::try_from(step)
                .unwrap_or(i64::MAX)
                .saturating_mul(asked.step_seconds());
            asked.from_unix.saturating_add(after)
        };
        let range = Range {
            first_unix: at(first + 1),
            last_unix: at(last),
            step: asked.step,
        };
        let mut samples = vec![Vec::new(); last - first];
        for query in &queries {
            let series = server.query_range(query, range)?;
            place(&mut samples, &series, range);
            bar.inc(1);
        }
        intervals.extend(samples.iter().map(|samples| interval(Past::of(samples))));
    }
    bar.finish_and_clear();
    check(&intervals, asked)?;
    Ok(Measured {
        from_millis: asked.from_unix.saturating_mul(1_000),
        step: asked.step,
        intervals,
    })
}

/// Puts the values of `series` to the steps of `range` that they are of.
fn place(samples: &mut [Vec<Sample>], series: &[Series], range: Range) {
    let step_seconds = i64::try_from(range.step.as_secs())
        .unwrap_or(i64::MAX)
        .max(1);
    for series in series {
        for (unix, value) in series.points().filter(|(_, value)| value.is_finite()) {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "a float-to-integer cast saturates, and such a step is not there"
            )]
            let past = (unix.round() as i64).saturating_sub(range.first_unix) / step_seconds;
            let step = usize::try_from(past).ok();
            if let Some(of_step) = step.and_then(|step| samples.get_mut(step)) {
                of_step.push(Sample {
                    labels: series.labels.clone(),
                    value,
                });
            }
        }
    }
}

/// Reports what is not there at all and no load can be rebuilt without.
fn check(intervals: &[Interval], asked: &Asked) -> Result<(), MeasuredError> {
    let missing = missing(intervals, asked.scope.engine);
    let (server, wanted, from, to) = asked.told();
    match missing.as_slice() {
        [] => Ok(()),
        missing if missing.len() == NEEDED_COUNT => Err(MeasuredError::Empty {
            server,
            wanted,
            from,
            to,
        }),
        missing => Err(MeasuredError::Missing {
            server,
            metrics: missing.join(", "),
            wanted,
            from,
            to,
        }),
    }
}

/// The metrics of what no interval has.
fn missing(intervals: &[Interval], engine: &Engine) -> Vec<String> {
    let of = |metric: &str, role: Role| format!("`{metric}` of {role} pods");
    let workers = |role| of(engine.presence.names[0], role);
    let signal = |signal: SignalName, role| {
        let metrics = engine.recipe(signal).metrics();
        of(metrics.first().map_or("", |metric| metric.names[0]), role)
    };
    let any = |has: fn(&Interval) -> bool| intervals.iter().any(has);
    let needed: [_; NEEDED_COUNT] = [
        (any(|i| i.workers.prefill > 0), workers(Role::Prefill)),
        (any(|i| i.workers.decode > 0), workers(Role::Decode)),
        (
            any(|i| i.requests_per_second > 0.0),
            signal(SignalName::PrefillCompletionRate, Role::Prefill),
        ),
        (
            any(|i| i.prompt_tokens.is_some()),
            signal(SignalName::PromptTokens, Role::Prefill),
        ),
        (
            any(|i| i.output_tokens.is_some()),
            signal(SignalName::OutputTokens, Role::Decode),
        ),
    ];
    needed
        .into_iter()
        .filter(|(is_there, _)| !is_there)
        .map(|(_, metric)| metric)
        .collect()
}

fn interval(past: Past) -> Interval {
    let Past {
        workers,
        prefill_completion_rate_rps,
        prefix_hits_tps,
        prefix_lookups_tps,
        distributions,
    } = past;
    let count = |reading: Reading| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a float-to-integer cast saturates"
        )]
        let count = reading.known().unwrap_or(0.0) as u32;
        count
    };
    Interval {
        workers: workers.map(count),
        requests_per_second: prefill_completion_rate_rps.known().unwrap_or(0.0),
        prompt_tokens: observed(distributions.prompt_tokens),
        output_tokens: observed(distributions.output_tokens),
        prefill_ttft: observed(distributions.prefill_ttft),
        decode_ttft: observed(distributions.decode_ttft),
        prefill_time: observed(distributions.prefill_time),
        tpot: observed(distributions.tpot),
        prefix_tokens_per_second: prefix_hits_tps.known().zip(prefix_lookups_tps.known()),
    }
}

/// The distribution of a step in which anything was observed.
fn observed(reading: HistogramReading) -> Option<Histogram> {
    match reading {
        HistogramReading::Value(histogram) => Some(histogram).filter(|all| all.count() > 0.0),
        HistogramReading::Unknown(_) => None,
    }
}
