//! Forecasts on the work of real services: covered as often as the quantile allows, and no dearer
//! than the best single EWMA with the same treatment of its errors.
//!
//! Two days of work are in `fixtures`; the request traces they were made from are read where they
//! lie beside the repository. The reference is written again here: an EWMA, the root of its value
//! as unit of error, and the error of rank (n + 1) q among those of the last four hours. The table
//! on standard error has coverage, over-provision (mean forecast over mean actual) and pinball loss
//! as a share of the mean load.

#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "a test may fail, and its times and ranks are small"
)]

use std::{path::Path, process::Command, time::Duration};

use pd_core::{Forecaster, Timestamp};

const HORIZONS_SECONDS: [usize; 4] = [60, 180, 300, 600];
const QUANTILES: [f64; 3] = [0.9, 0.95, 0.99];
/// Weights of the references: 1 is the last value.
const SMOOTHING: [f64; 4] = [1.0, 0.6, 0.3, 0.12];
/// A question at least so far apart; nine steps of 15 s fall on every quarter of a minute.
const QUESTION_SECONDS: usize = 135;
/// The first hour is not scored.
const LEARNING_SECONDS: usize = 3_600;

/// A number per step, the mean of the minute before.
struct Work {
    name: String,
    values: Vec<f64>,
    step_seconds: usize,
}

#[derive(Clone, Copy, Default)]
struct Score {
    count: f64,
    covered: f64,
    forecast: f64,
    actual: f64,
    pinball: f64,
}

impl Score {
    fn add(&mut self, forecast: f64, actual: f64, quantile: f64) {
        let above = actual - forecast;
        self.count += 1.0;
        self.covered += f64::from(u8::from(above <= 0.0));
        self.forecast += forecast;
        self.actual += actual;
        self.pinball += (quantile * above).max((quantile - 1.0) * above);
    }

    fn coverage(&self) -> f64 {
        self.covered / self.count
    }

    fn over_provision(&self) -> f64 {
        self.forecast / self.actual
    }

    fn loss(&self) -> f64 {
        self.pinball / self.actual
    }
}

/// Scores of the forecaster, then of the references.
type Scores = [Score; 1 + SMOOTHING.len()];

fn score(work: &Work, horizon_seconds: usize, quantile: f64) -> Scores {
    let mut scores = Scores::default();
    let mut forecaster = Forecaster::default();
    let ahead = horizon_seconds / work.step_seconds;
    let per_minute = 60 / work.step_seconds;
    let minutes: Vec<f64> = work.values.iter().copied().step_by(per_minute).collect();
    let ewmas = SMOOTHING.map(|smoothing| ewma(&minutes, smoothing));
    for (index, &value) in work.values.iter().enumerate() {
        let seconds = index * work.step_seconds;
        let now = at(seconds);
        forecaster.observe(value, now);
        // Questions come at any moment of a minute.
        if seconds < LEARNING_SECONDS || index % (QUESTION_SECONDS / work.step_seconds) != 0 {
            continue;
        }
        let Some(&actual) = work.values.get(index + ahead) else {
            break;
        };
        let horizon = Duration::from_secs(horizon_seconds as u64);
        let forecast = forecaster.forecast(horizon, quantile, now).unwrap();
        scores[0].add(forecast.value, actual, quantile);
        for (score, ewma) in scores[1..].iter_mut().zip(&ewmas) {
            let bound = reference(
                &minutes,
                ewma,
                index / per_minute,
                horizon_seconds / 60,
                quantile,
            );
            score.add(bound, actual, quantile);
        }
    }
    scores
}

fn at(seconds: usize) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000 + seconds as i64 * 1_000)
}

fn ewma(values: &[f64], smoothing: f64) -> Vec<f64> {
    let mut level = values[0];
    let levels = values.iter().map(|value| {
        level += smoothing * (value - level);
        level
    });
    levels.collect()
}

fn reference(values: &[f64], ewma: &[f64], now: usize, ahead: usize, quantile: f64) -> f64 {
    let recent = now.saturating_sub(240)..=now - ahead;
    let mut errors: Vec<f64> = recent
        .map(|then| (values[then + ahead] - ewma[then]) / ewma[then].max(1e-6).sqrt())
        .collect();
    errors.sort_by(f64::total_cmp);
    let rank = ((errors.len() + 1) as f64 * quantile).ceil() as usize;
    let error = errors[rank.clamp(1, errors.len()) - 1];
    (ewma[now] + error * ewma[now].max(1e-6).sqrt()).max(0.0)
}

/// Scores every work at every horizon and quantile, prints the table, and returns the means over
/// the works: `[horizon][quantile]`, of the forecaster and the references, as (coverage, loss).
fn table(works: &[Work]) -> Vec<Vec<(Vec<f64>, Vec<f64>)>> {
    let names = ["forecaster", "last", "EWMA 0.6", "EWMA 0.3", "EWMA 0.12"];
    let mut all = Vec::new();
    for horizon in HORIZONS_SECONDS {
        let mut row = Vec::new();
        for quantile in QUANTILES {
            let scores: Vec<Scores> = works
                .iter()
                .map(|work| score(work, horizon, quantile))
                .collect();
            for (work, scores) in works.iter().zip(&scores) {
                let own = scores[0];
                let (coverage, over) = (own.coverage(), own.over_provision());
                let name = &work.name;
                eprintln!("{horizon:4} s p{quantile} {name:45} {coverage:.3} x{over:.2}");
            }
            let mean = |index: usize, of: fn(&Score) -> f64| {
                scores.iter().map(|scores| of(&scores[index])).sum::<f64>() / works.len() as f64
            };
            for (index, name) in names.iter().enumerate() {
                let coverage = mean(index, Score::coverage);
                let over = mean(index, Score::over_provision);
                let loss = mean(index, Score::loss);
                eprintln!(
                    "{horizon:4} s p{quantile} MEAN {name:12} {coverage:.3} x{over:.2} {loss:.4}"
                );
            }
            let column = |of: fn(&Score) -> f64| (0..names.len()).map(|i| mean(i, of)).collect();
            row.push((column(Score::coverage), column(Score::loss)));
        }
        all.push(row);
    }
    all
}

/// Coverage within `tolerance` of the quantile, for every horizon and quantile; pinball loss over
/// all of them at most `margin` times that of the best reference.
fn judge(works: &[Work], tolerance: f64, margin: f64) {
    let table = table(works);
    let mut losses = [0.0; 1 + SMOOTHING.len()];
    for (row, horizon) in table.iter().zip(HORIZONS_SECONDS) {
        for ((coverage, loss), quantile) in row.iter().zip(QUANTILES) {
            let least = quantile - tolerance * (1.0 - quantile);
            assert!(
                coverage[0] >= least,
                "{horizon} s p{quantile}: covered {}",
                coverage[0]
            );
            for (sum, loss) in losses.iter_mut().zip(loss) {
                // Losses shrink with the quantile; each of the three is to weigh about the same.
                *sum += loss / (1.0 - quantile).sqrt();
            }
        }
    }
    let best = losses[1..].iter().copied().fold(f64::INFINITY, f64::min);
    let share = losses[0] / best;
    eprintln!("pinball loss of the forecaster: {share:.3} of the best single EWMA's");
    assert!(share <= margin, "{losses:?}");
}

/// A value a minute.
fn by_minute(name: &str, text: &str) -> Work {
    Work {
        name: name.to_owned(),
        values: text.lines().map(|line| line.parse().unwrap()).collect(),
        step_seconds: 60,
    }
}

#[test]
fn two_days_of_work_are_covered_as_asked() {
    let works = [
        by_minute(
            "deepseek-r1 decode",
            include_str!("fixtures/deepseek_r1_decode_tps.csv"),
        ),
        by_minute(
            "m-large prefill",
            include_str!("fixtures/mlarge_prefill_seconds_per_second.csv"),
        ),
    ];
    judge(&works, 1.1, 1.0);
}

/// Seconds of prefill, and seconds per output token, of a 70B model on four H200, near enough.
fn prefill_seconds(input_tokens: f64) -> f64 {
    0.02 + 5e-5 * input_tokens + 4e-10 * input_tokens * input_tokens
}
const SECONDS_PER_OUTPUT_TOKEN: f64 = 0.025;

/// The work of both roles by a request trace, second by second and then smoothed over a minute.
fn works(path: &Path, name: &str) -> [Work; 2] {
    let unpacked = Command::new("gzip").arg("-dc").arg(path).output().unwrap();
    let text = String::from_utf8(unpacked.stdout).unwrap();
    let (mut prefill, mut decode) = (Vec::new(), Vec::new());
    let mut end = 0;
    for line in text.lines().skip(1) {
        let mut fields = line.split(',').map(|field| field.parse::<f64>().unwrap());
        let (at, input) = (fields.next().unwrap(), fields.next().unwrap());
        let output = fields.next().unwrap();
        let first = at as usize;
        let last = (at + output * SECONDS_PER_OUTPUT_TOKEN).ceil() as usize;
        let last = last.max(first + 1);
        end = end.max(first);
        if decode.len() <= last {
            prefill.resize(last + 1, 0.0);
            decode.resize(last + 1, 0.0);
        }
        prefill[first] += prefill_seconds(input);
        // Starts and ends of streams; their sum up to a second is the rate in it.
        let rate = output / (last - first) as f64;
        decode[first] += rate;
        decode[last] -= rate;
    }
    let rates = decode.iter().scan(0.0, |rate: &mut f64, change| {
        *rate += change;
        Some(rate.max(0.0))
    });
    let decode: Vec<f64> = rates.collect();
    let work = |role: &str, seconds: &[f64]| Work {
        name: format!("{name} {role}"),
        values: (60..=end)
            .step_by(15)
            .map(|second| seconds[second - 60..second].iter().sum::<f64>() / 60.0)
            .collect(),
        step_seconds: 15,
    };
    [work("prefill", &prefill), work("decode", &decode)]
}

#[test]
fn days_of_real_requests_are_covered_as_asked() {
    let traces = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/traces");
    let names = [
        "azure2024_conv_tue_x0.2_reconstructed",
        "servegen_deepseek-r1_day0_x0.6",
        "servegen_mlarge_day0_x0.04",
    ];
    let files = names.map(|name| traces.join(format!("{name}.csv.gz")));
    if !files.iter().all(|file| file.exists()) {
        eprintln!("skipped: no request traces in {}", traces.display());
        return;
    }
    let works: Vec<Work> = files
        .iter()
        .zip(names)
        .flat_map(|(file, name)| works(file, name))
        .collect();
    judge(&works, 0.5, 0.98);
}
