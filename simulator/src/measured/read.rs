//! Range queries, in pieces that any server answers, and what is made of their series.
//!
//! Prometheus refuses more than eleven thousand points, and a week of histograms is best not asked for
//! at once, so a range is read a few hundred steps at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use pd_core::PerRole;
use pd_core::histogram::Histogram;
use pd_signals::queries::{SIGNAL, Scope};

use super::prometheus::{Range, Series, Server};
use super::{Interval, Measured, MeasuredError};
use crate::batch::progress;

/// Steps that are asked for at once.
const STEPS_AT_ONCE: usize = 300;

/// Signals without which no load can be rebuilt, and the metrics they come from.
const NEEDED: [(&str, &str); 5] = [
    (
        "prefill_workers",
        "`vllm:num_requests_running` of prefill pods",
    ),
    (
        "decode_workers",
        "`vllm:num_requests_running` of decode pods",
    ),
    (
        "finished_rate",
        "`vllm:request_success_total` of prefill pods",
    ),
    (
        "prompt_tokens",
        "`vllm:request_prompt_tokens` of prefill pods",
    ),
    (
        "output_tokens",
        "`vllm:request_generation_tokens` of decode pods",
    ),
];

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

/// Values by signal and bucket edge, and within by step.
type Values = BTreeMap<(String, String), Vec<f64>>;

/// Reads a range.
pub fn read(asked: &Asked) -> Result<Measured, MeasuredError> {
    let server = Server::new(&asked.server, asked.timeout);
    let steps = asked.steps();
    let queries = [asked.scope.load_query(), asked.scope.histogram_query()];
    let mut values = Values::new();
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
        for query in &queries {
            let series = server.query_range(query, range)?;
            place(&mut values, &series, asked, steps);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    check(&values, asked)?;
    Ok(Measured {
        from_millis: asked.from_unix.saturating_mul(1_000),
        step: asked.step,
        intervals: (0..steps).map(|step| interval(&values, step)).collect(),
    })
}

fn place(values: &mut Values, series: &[Series], asked: &Asked, steps: usize) {
    for series in series {
        let key = (
            series.label(SIGNAL).to_owned(),
            series.label("le").to_owned(),
        );
        let row = values.entry(key).or_insert_with(|| vec![f64::NAN; steps]);
        for (unix, value) in series.points() {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "a float-to-integer cast saturates, and such a step is not there"
            )]
            let past = (unix.round() as i64).saturating_sub(asked.from_unix) / asked.step_seconds();
            let step = usize::try_from(past - 1).unwrap_or(usize::MAX);
            if let Some(place) = row.get_mut(step) {
                *place = value;
            }
        }
    }
}

/// Tells what is not there at all.
fn check(values: &Values, asked: &Asked) -> Result<(), MeasuredError> {
    let any = |signal: &str| {
        let of_signal = values.iter().filter(|((name, _), _)| name == signal);
        of_signal.flat_map(|(_, row)| row).any(|value| *value > 0.0)
    };
    let missing: Vec<&str> = NEEDED
        .iter()
        .filter(|(signal, _)| !any(signal))
        .map(|(_, metric)| *metric)
        .collect();
    let (server, wanted, from, to) = asked.told();
    match missing.len() {
        0 => Ok(()),
        count if count == NEEDED.len() => Err(MeasuredError::Empty {
            server,
            wanted,
            from,
            to,
        }),
        _ => Err(MeasuredError::Missing {
            server,
            metrics: missing.join(", "),
            wanted,
            from,
            to,
        }),
    }
}

fn interval(values: &Values, step: usize) -> Interval {
    let number = |signal: &str| {
        let row = values.get(&(signal.to_owned(), String::new()))?;
        row.get(step).copied().filter(|value| value.is_finite())
    };
    let histogram = |signal: &str| {
        let of_signal = values.range((signal.to_owned(), String::new())..);
        let of_signal = of_signal.take_while(|((name, _), _)| name == signal);
        let buckets = of_signal.filter_map(|((_, edge), row)| {
            let count = row.get(step).copied().filter(|count| count.is_finite())?;
            Some((edge.parse().ok()?, count))
        });
        let (count, sum) = (
            number(&format!("{signal}_count"))?,
            number(&format!("{signal}_sum"))?,
        );
        Histogram::from_cumulative(buckets.collect(), count, sum).filter(|all| all.count() > 0.0)
    };
    let workers = |signal: &str| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a float-to-integer cast saturates"
        )]
        let count = number(signal).unwrap_or(0.0) as u32;
        count
    };
    let rate = number("finished_rate").unwrap_or(0.0).max(0.0);
    Interval {
        workers: PerRole {
            prefill: workers("prefill_workers"),
            decode: workers("decode_workers"),
        },
        requests_per_second: rate,
        prompt_tokens: histogram("prompt_tokens"),
        output_tokens: histogram("output_tokens"),
        prefill_ttft: histogram("prefill_ttft"),
        decode_ttft: histogram("decode_ttft"),
        prefill_time: histogram("prefill_time"),
        tpot: histogram("tpot"),
        prefix_tokens_per_second: number("prefix_hit_rate").zip(number("prefix_query_rate")),
    }
}
