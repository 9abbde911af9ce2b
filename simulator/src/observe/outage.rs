//! What Prometheus does not see, and what it says when it is down.
//!
//! A scrape that is lost leaves a gap in ranges and ends the series for instant queries, as a
//! staleness marker does. A worker that is gone while its pod still counts as ready is one that is
//! not scraped. While Prometheus is down nothing is scraped, and every query fails.

use std::time::Duration;

use pd_core::signal::{Distributions, HistogramReading};
use pd_core::{Gap, PerRole, Reading, Signals};

/// Where the workers and what the API server and Prometheus know of them differ.
#[derive(Clone, Debug, Default)]
pub struct Blur {
    /// Workers that are gone and still count as ready.
    pub ghosts: Vec<String>,
    /// Workers that take requests and count as leaving.
    pub deleted: Vec<String>,
    /// Workers whose scrape is lost.
    pub unanswered: Vec<String>,
}

impl Blur {
    pub(super) fn leaves(&self, name: &str) -> bool {
        self.deleted.iter().any(|other| other == name)
    }

    pub(super) fn answers(&self, name: &str) -> bool {
        !self.unanswered.iter().any(|other| other == name)
    }
}

/// The signals when every query fails. The user's own queries are not asked here.
pub(super) fn failed(rate_window: Duration) -> Signals {
    let gap = Reading::Unknown(Gap::QueryFailed);
    let lost = || HistogramReading::Unknown(Gap::QueryFailed);
    let distributions = || Distributions {
        prefill_ttft: lost(),
        decode_ttft: lost(),
        prefill_time: lost(),
        prefill_step_tokens: lost(),
        prompt_tokens: lost(),
        output_tokens: lost(),
        tpot: lost(),
        inter_token_latency: lost(),
    };
    Signals {
        rate_window,
        prefill_completion_rate_rps: gap,
        decode_completion_rate_rps: gap,
        prefill_queue_growth_rps: gap,
        arrival_dispersion: gap,
        waiting_requests: PerRole::from_fn(|_| gap),
        running_requests: PerRole::from_fn(|_| gap),
        requests_peak: PerRole::from_fn(|_| gap),
        decode_deferred_requests: gap,
        prefix_hit_share: gap,
        decode_kv_usage: gap,
        decode_kv_capacity_tokens: gap,
        decode_preemption_rate_rps: gap,
        output_token_rate_tps: gap,
        recent: distributions(),
        wide: distributions(),
        prefill_ttft_attainment: lost(),
        tpot_attainment: lost(),
        ..Signals::default()
    }
}
