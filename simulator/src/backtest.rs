//! `pd-sim backtest`: what a PDAutoscaler would have done with a service's past.
//!
//! The past is read from Prometheus with the controller's own queries, its load is drawn again, and
//! the decision code plays it from the replicas that were there. How fast a replica is comes from a
//! profile, or is learnt first by playing the past as it was; either way that play is held against
//! what was measured, so that everybody can see how far the rest can be trusted.

pub mod options;

mod outcome;
mod range;
pub mod service;
pub(crate) mod stated;

use std::sync::Arc;

use thiserror::Error;

use self::options::BacktestOptions;
pub use self::outcome::{Backtest, Decision, Past};
use self::service::{Service, ServiceError};
use crate::calibrate::{self, CalibrateError, Fit, Known};
use crate::simulate::options::Output;
use crate::simulate::{Owner, Run, SimulateError, Source};

/// A backtest that cannot be made.
#[derive(Debug, Error)]
pub enum BacktestError {
    /// The service or its past cannot be read.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The profile cannot be learnt.
    #[error(transparent)]
    Calibrate(#[from] CalibrateError),
    /// The past cannot be played.
    #[error(transparent)]
    Simulate(#[from] SimulateError),
    /// The options contradict each other.
    #[error("{0}")]
    Options(String),
    /// The result cannot be written as JSON.
    #[error("the result cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// Backtests and returns the text to print.
pub fn run(options: &BacktestOptions) -> Result<String, BacktestError> {
    let backtest = backtest(options)?;
    match options.output {
        Output::Text => Ok(backtest.to_text(options.decisions)),
        Output::Json => Ok(serde_json::to_string_pretty(&backtest)?),
        Output::Csv => Err(BacktestError::Options(
            "`--output csv` is for many runs: use text or json".to_owned(),
        )),
    }
}

/// Backtests.
pub fn backtest(options: &BacktestOptions) -> Result<Backtest, BacktestError> {
    let service = Service::read(options)?;
    let mut scenario = service.scenario(options)?;
    let known = Known::of(&service.measured, options.seed, service.measured.workers());
    let fit = match &options.profile {
        Some(_) => Fit::of(&scenario, &known)?,
        None => calibrate::fit(&mut scenario, &known)?.after,
    };
    let source = Source::of_measured(Arc::clone(&service.measured), options.seed);
    let run = Run::over(scenario.clone(), source, options.seed)?;
    let run = run.owned_by(Owner {
        policy: service.policy.clone(),
        stated: service.stated(&options.config_maps)?,
        began_millis: service.measured.from_millis,
    });
    let (outcome, _, changes) = run.play_logged()?;
    Ok(Backtest::of(&service, &scenario, fit, outcome, changes))
}
