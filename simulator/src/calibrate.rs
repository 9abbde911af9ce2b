//! `pd-sim calibrate`: how far the simulator is from a real service, before and after a correction.
//!
//! The same load is played with the replicas that were there, and its TTFT and TPOT are held
//! against those that were observed: the error of each window's mean, and of the quantiles of all
//! requests. Two factors are fitted, one on all coefficients of prefill and one on all of decode:
//! that much a service tells about itself while it serves, and more would fit noise. Means are what
//! is fitted, because they are exact where quantiles are as wide as a bucket.

pub mod options;

mod known;
mod report;

use std::path::PathBuf;

use serde::Serialize;
use thiserror::Error;

pub use self::known::Known;
use self::known::Played;
use self::options::CalibrateOptions;
pub use self::report::{Errors, Fit};
use crate::backtest::service::{Service, ServiceError};
use crate::batch::progress;
use crate::engine::Profile;
use crate::scenario::{Scenario, ScenarioError};
use crate::simulate::SimulateError;
use crate::simulate::options::Output;
use crate::trace::TraceError;

/// Plays for a fit at most.
const ROUNDS_MAX: usize = 10;

/// A mean this close to the observed one is met.
const CLOSE: f64 = 0.005;

/// Least and largest factor.
const FACTOR: (f64, f64) = (0.02, 50.0);

/// A calibration that cannot be made.
#[derive(Debug, Error)]
pub enum CalibrateError {
    /// The load cannot be played.
    #[error(transparent)]
    Simulate(#[from] SimulateError),
    /// The observations cannot be read.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// The scenario cannot be read.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// The past cannot be read.
    #[error(transparent)]
    Service(#[from] Box<ServiceError>),
    /// There is nothing to compare.
    #[error("nothing was observed of {0}: without it the profile cannot be corrected")]
    NothingObserved(&'static str),
    /// The options contradict each other.
    #[error("{0}")]
    Options(String),
    /// The profile cannot be written.
    #[error("profile `{}` cannot be written: {reason}", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The result cannot be written as JSON.
    #[error("the result cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// The result of a calibration.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Calibration {
    /// The factor of the prefill coefficients.
    pub prefill_factor: f64,
    /// The factor of the decode coefficients.
    pub decode_factor: f64,
    /// Errors of the profile as it was given.
    pub before: Fit,
    /// Errors of the corrected one.
    pub after: Fit,
    /// The corrected profile.
    pub profile: Profile,
}

/// Calibrates and returns the text to print.
pub fn run(options: &CalibrateOptions) -> Result<String, CalibrateError> {
    let mut scenario = match &options.scenario {
        Some(path) => Scenario::read(path)?,
        None => Scenario::default(),
    };
    let known = match (&options.observed, options.as_backtest()) {
        (Some(path), None) => {
            let replicas = options.replicas(&scenario);
            Known::read(path, replicas, options.seed)?
        }
        (None, Some(backtest)) => {
            let service = Service::read(&backtest).map_err(Box::new)?;
            scenario.spec.set_gpus_per_replica(service.gpus_per_replica);
            scenario.profile.prefix_hit_ratio = service.measured.prefix_hit_ratio();
            Known::of(&service.measured, options.seed, service.measured.workers())
        }
        _ => {
            let told = "give either --observed, or --prometheus and --config";
            return Err(CalibrateError::Options(told.to_owned()));
        }
    };
    let calibration = fit(&mut scenario, &known)?;
    if let Some(path) = &options.write {
        write(path, &calibration)?;
    }
    match options.output {
        Output::Text => Ok(calibration.to_text()),
        Output::Json => Ok(serde_json::to_string_pretty(&calibration)?),
        Output::Csv => Err(CalibrateError::Options(
            "`--output csv` is for many runs: use text or json".to_owned(),
        )),
    }
}

/// Writes a scenario that holds the profile and nothing else.
fn write(path: &std::path::Path, calibration: &Calibration) -> Result<(), CalibrateError> {
    let unwritable = |reason| CalibrateError::Unwritable {
        path: path.to_owned(),
        reason,
    };
    let scenario = serde_json::json!({
        "description": format!(
            "Calibrated: prefill x{:.4}, decode x{:.4}",
            calibration.prefill_factor, calibration.decode_factor
        ),
        "profile": calibration.profile,
    });
    let text = serde_saphyr::to_string(&scenario).map_err(|error| unwritable(error.to_string()))?;
    std::fs::write(path, text).map_err(|error| unwritable(error.to_string()))
}

/// Corrects the profile of `scenario` until the means are those that were observed.
pub fn fit(scenario: &mut Scenario, known: &Known) -> Result<Calibration, CalibrateError> {
    let given = scenario.profile.clone();
    let mut factors = Factors::default();
    let bar = progress(ROUNDS_MAX + 2);
    let play = |scenario: &Scenario| {
        bar.set_message("playing what was observed");
        let played = known.play(&known.run(scenario)?);
        bar.inc(1);
        played
    };
    let mut played = play(scenario)?;
    let before = known.errors(&played);
    let mut best = (known.distance(&played), factors);
    for _ in 0..ROUNDS_MAX {
        let next = factors.next(known, &played);
        if next.is_near(factors) {
            break;
        }
        factors = next;
        scenario.profile = factors.applied(&given);
        played = play(scenario)?;
        let distance = known.distance(&played);
        if distance < best.0 {
            best = (distance, factors);
        }
        if distance < CLOSE {
            break;
        }
    }
    let (_, factors) = best;
    scenario.profile = factors.applied(&given);
    let after = known.errors(&play(scenario)?);
    bar.finish_and_clear();
    Ok(Calibration {
        prefill_factor: factors.prefill,
        decode_factor: factors.decode,
        before,
        after,
        profile: scenario.profile.clone(),
    })
}

/// The factor of each role's coefficients.
#[derive(Clone, Copy, Debug)]
struct Factors {
    prefill: f64,
    decode: f64,
}

impl Default for Factors {
    fn default() -> Self {
        Self {
            prefill: 1.0,
            decode: 1.0,
        }
    }
}

impl Factors {
    /// Nearer to what was observed. TTFT and TPOT hold queues, shared steps and batches that grow
    /// faster than the factor, so part of their error is taken at a time.
    fn next(self, known: &Known, played: &Played) -> Self {
        let prefill = self.prefill * (known.ttft.mean / played.ttft.mean()).sqrt();
        let decode = self.decode * (known.tpot.mean / played.tpot.mean()).powf(0.7);
        let usable = |factor: f64, before: f64| {
            if factor.is_finite() {
                factor.clamp(FACTOR.0, FACTOR.1)
            } else {
                before
            }
        };
        Self {
            prefill: usable(prefill, self.prefill),
            decode: usable(decode, self.decode),
        }
    }

    fn is_near(self, other: Self) -> bool {
        let near = |a: f64, b: f64| (a / b - 1.0).abs() < 1e-3;
        near(self.prefill, other.prefill) && near(self.decode, other.decode)
    }

    fn applied(self, given: &Profile) -> Profile {
        let mut profile = given.clone();
        profile.prefill_base_milliseconds *= self.prefill;
        profile.prefill_milliseconds_per_kilotoken *= self.prefill;
        profile.prefill_milliseconds_per_megatoken_squared *= self.prefill;
        profile.decode_base_milliseconds *= self.decode;
        profile.decode_milliseconds_per_request *= self.decode;
        profile.decode_milliseconds_per_megatoken *= self.decode;
        for stair in &mut profile.decode_stairs {
            stair.milliseconds *= self.decode;
        }
        profile
    }
}

#[cfg(test)]
mod tests;
