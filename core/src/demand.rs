//! Demand: the work that arrives, how requests fare, and where they lose time.
//!
//! It is made of the judged signals alone, before any capacity is known, so nothing that was learnt
//! can change what is believed to arrive.

use crate::{
    bottleneck::{Bottleneck, bottleneck},
    objective::Objective,
    role::PerRole,
    signal::{Reading, Signals},
    workload::Workload,
};

/// Dispersion of arrivals from which the report calls them bursty: 1 is Poisson.
const BURSTY: f64 = 1.05;

/// The demand at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Demand {
    /// Rates, lengths and latencies.
    pub workload: Workload,
    /// Where requests lose time.
    pub bottleneck: Bottleneck,
    /// Nothing arrives, waits or runs, and that is certain.
    pub idle: bool,
    /// Each role's work now: of prefill the workers that prompts keep busy, of decode output tokens
    /// per second. Nothing where that is not known.
    pub work: PerRole<Option<f64>>,
    /// Index of dispersion of arrivals, where it was measured.
    dispersion: Option<f64>,
}

impl Demand {
    /// The demand that `signals` show.
    pub fn estimate(signals: &Signals, objective: &Objective) -> Self {
        let workload = Workload::estimate(signals, objective);
        let dispersion = match signals.arrival_dispersion {
            Reading::Value(dispersion) => Some(dispersion),
            Reading::KnownZero | Reading::Unknown(_) => None,
        };
        Self {
            bottleneck: bottleneck(signals, &workload, objective),
            idle: workload.idle(signals),
            work: PerRole {
                prefill: busy_workers(&workload),
                decode: signals.output_token_rate_tps.known(),
            },
            workload,
            dispersion,
        }
    }

    /// Prompt and output tokens per request, where both are known.
    pub fn traffic(&self) -> Option<(f64, f64)> {
        let prompt = self.workload.prompt_tokens?.first;
        Some((prompt, self.workload.output_tokens_mean?))
    }

    /// A sentence without its full stop about the work that arrives.
    pub fn message(&self) -> Option<String> {
        let rate = self.workload.arrival_rate_rps?;
        let (prompt, output) = self.traffic()?;
        let cached = self.workload.prefix_hit_share.filter(|share| *share > 0.0);
        let cached = cached.map_or_else(String::new, |share| {
            format!(", {:.0} % of them cached", share * 100.0)
        });
        let dispersed = self.dispersion.filter(|dispersion| *dispersion > BURSTY);
        let bursts = dispersed.map_or_else(String::new, |dispersion| {
            format!(", bursty by {dispersion:.1}")
        });
        Some(format!(
            "{rate:.2} requests/s of {prompt:.0} prompt tokens{cached} and {output:.0} output \
             tokens{bursts}"
        ))
    }
}

/// Prefill workers that arriving prompts keep busy.
fn busy_workers(workload: &Workload) -> Option<f64> {
    let rate = workload.arrival_rate_rps?;
    // Without arrivals the time of a prompt is not known, and does not matter.
    if rate <= 0.0 {
        return Some(0.0);
    }
    Some(rate * workload.prefill_seconds_mean?)
}
