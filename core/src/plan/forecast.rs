//! The work that is expected while replicas start.

use std::time::Duration;

use super::observe::Observation;
use crate::{
    demand::Demand,
    error_budget::RiskTarget,
    forecast::{ForecastDistribution, Forecaster},
    reason::Reason,
    role::{PerRole, Role},
    step::{Stage, Staged, Step},
    time::Timestamp,
};

/// Standard deviations by which the forecast takes more risk than sizing: the sizing of a pool has
/// headroom for bursts of its own, and a forecast that is exceeded is exceeded by a little and for
/// a while. Decode bears that for as long as an answer lasts, so its forecast is the median until
/// the budget is spent.
const FORECAST_Z_LESS: PerRole<f64> = PerRole {
    prefill: 0.3,
    decode: 1.6,
};

/// Longest horizon: further ahead the history of four hours shows nothing.
const HORIZON_MAX: Duration = Duration::from_mins(30);

/// Takes in each role's work, and forecasts it for the moment when replicas requested now would
/// serve.
pub(super) fn forecast_work(
    seen: &Observation<'_>,
    demand: &Demand,
    risk_target: PerRole<RiskTarget>,
    memory: &mut PerRole<Forecaster>,
    now: Timestamp,
) -> Staged<PerRole<Option<ForecastDistribution>>> {
    // A rate is of half its window ago, so the forecast has to reach over that too.
    let lag = seen.signals.signals.rate_window / 2;
    let mut steps = Vec::new();
    let forecast = PerRole::from_fn(|role: Role| {
        // Work that is known in part is at least that: it may show a rise, and no fall.
        if let Some(work) = demand.work[role] {
            let least = match memory[role].latest() {
                Some(latest) if !seen.signals.evidence[role].complete() => latest,
                _ => 0.0,
            };
            if work > least || seen.signals.evidence[role].complete() {
                memory[role].observe(work, now);
            }
        }
        let lead = seen.replicas[role].lead.p90;
        let horizon = lead.saturating_add(lag).min(HORIZON_MAX);
        let quantile = risk_target[role].less(FORECAST_Z_LESS[role]).quantile();
        let distribution = memory[role].distribution(horizon, quantile, now)?;
        let message = distribution.forecast.message();
        steps.push(Step::of_role(
            Stage::Forecast,
            role,
            Reason::Forecast,
            message,
        ));
        Some(distribution)
    });
    Staged::new(forecast, steps)
}
