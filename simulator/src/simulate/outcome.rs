//! The result of a run, as JSON with stable keys and as text.
//!
//! Every key says its unit; new ones may be added, none changes its meaning. All but `wallSeconds`
//! and `simulatedRequestsPerSecond` follow from trace, scenario, policy and seed alone.

use std::fmt::Write as _;

use serde::Serialize;

use super::options::PolicyName;

/// The numbers of one run.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RunOutcome {
    /// The policy that was played.
    pub policy: PolicyName,
    /// Seed of generated requests and of the shifts of copies.
    pub seed: u64,
    /// Time from asking for a replica to its serving, seconds; the longer one of the roles.
    pub lead_seconds: f64,
    /// The same for prefill.
    pub prefill_lead_seconds: f64,
    /// The same for decode.
    pub decode_lead_seconds: f64,
    /// TTFT limit, seconds.
    pub ttft_limit_seconds: f64,
    /// TPOT limit, seconds.
    pub tpot_limit_seconds: f64,
    /// Share of requests that should meet both limits, percent.
    pub attainment_goal_percent: u8,
    /// Length of the run in virtual time, without the warm-up before and the draining after it.
    pub simulated_seconds: f64,
    /// Requests sent.
    pub requests: u64,
    /// Requests that got their whole answer.
    pub completed: u64,
    /// Requests longer than the KV cache of any worker.
    pub refused: u64,
    /// Requests still not answered two hours after the end of the run.
    pub unfinished: u64,
    /// Share of all requests within both limits, percent. A refused or unfinished one is not.
    pub attainment_percent: Option<f64>,
    /// Share of all requests within the TTFT limit, percent.
    pub ttft_attainment_percent: Option<f64>,
    /// Share of all requests within the TPOT limit, percent.
    pub tpot_attainment_percent: Option<f64>,
    /// The least attainment of the requests that arrived in one hour of the run, percent; hours
    /// with fewer than 100 requests do not count.
    pub worst_hour_attainment_percent: Option<f64>,
    /// Median TTFT, seconds. Quantiles are of completed requests, to within 0.8 %.
    pub ttft_p50_seconds: Option<f64>,
    /// 95th percentile of TTFT, seconds.
    pub ttft_p95_seconds: Option<f64>,
    /// 99th percentile of TTFT, seconds.
    pub ttft_p99_seconds: Option<f64>,
    /// Median of each request's mean time per output token, seconds.
    pub tpot_p50_seconds: Option<f64>,
    /// 95th percentile of the same, seconds.
    pub tpot_p95_seconds: Option<f64>,
    /// 99th percentile of the same, seconds.
    pub tpot_p99_seconds: Option<f64>,
    /// GPU-hours of all workers while they started, served and drained.
    pub gpu_hours: f64,
    /// The part of prefill.
    pub prefill_gpu_hours: f64,
    /// The part of decode.
    pub decode_gpu_hours: f64,
    /// GPU-hours of the clairvoyant plan that holds the objective in every minute; see
    /// [`crate::clairvoyant`] for what it assumes.
    pub clairvoyant_gpu_hours: f64,
    /// The part of prefill.
    pub clairvoyant_prefill_gpu_hours: f64,
    /// The part of decode.
    pub clairvoyant_decode_gpu_hours: f64,
    /// `gpuHours` divided by `clairvoyantGpuHours`.
    pub gpu_hours_over_clairvoyant: Option<f64>,
    /// GPU-hours of the clairvoyant plan that holds the objective over the whole run and lets
    /// requests miss where that saves most.
    pub clairvoyant_overall_gpu_hours: f64,
    /// The part of prefill.
    pub clairvoyant_overall_prefill_gpu_hours: f64,
    /// The part of decode.
    pub clairvoyant_overall_decode_gpu_hours: f64,
    /// `gpuHours` divided by `clairvoyantOverallGpuHours`.
    pub gpu_hours_over_clairvoyant_overall: Option<f64>,
    /// GPU-hours of each role's largest clairvoyant need, held all along.
    pub static_peak_gpu_hours: f64,
    /// The most prefill replicas asked for.
    pub prefill_replicas_max: u32,
    /// The most decode replicas asked for.
    pub decode_replicas_max: u32,
    /// Decisions made.
    pub decisions: u64,
    /// Changes of a role's replicas, both roles together.
    pub scale_events: u64,
    /// Changes against the direction of the same role's change before, within 30 minutes of it.
    pub reversals: u64,
    /// Times that a request had to start over because its worker was removed and killed before it
    /// had finished.
    pub dropped_by_scale_down: u64,
    /// Requests that had to start over for whatever reason, faults included.
    pub restarted: u64,
    /// GPUs held beyond the budget, over time; 0 without a budget.
    pub budget_overshoot_gpu_seconds: f64,
    /// Time in which the replicas asked for were outside the ratio band; 0 without one.
    pub ratio_out_of_band_seconds: f64,
    /// Invariants that plans broke; such plans are not applied.
    pub audit_findings: u64,
    /// Prefill's aggressiveness that was found for a tuned peer; 1 is its default.
    pub tuned_prefill_aggressiveness: Option<f64>,
    /// The same for decode.
    pub tuned_decode_aggressiveness: Option<f64>,
    /// The attainment that the tuned product was found to be best given, percent.
    pub tuned_attainment_percent: Option<u8>,
    /// Values that depend on the machine; left out where results are compared.
    #[serde(flatten)]
    pub speed: Option<Speed>,
}

/// How fast a run was played.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Speed {
    /// Time the simulation took, seconds, without reading the trace beforehand.
    pub wall_seconds: f64,
    /// Requests per second of that time.
    pub simulated_requests_per_second: f64,
}

impl RunOutcome {
    /// One JSON object, its keys in the order above.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }

    /// A short table.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for (name, value) in self.head().into_iter().chain(self.costs()) {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name:<22} {value}");
        }
        text
    }

    /// The requests that were played, and the latencies that users saw.
    fn head(&self) -> [(&'static str, String); 5] {
        let policy = format!("{}, lead {} s", self.policy, self.lead_seconds);
        let requests = format!(
            "{} in {:.2} h, {} completed, {} refused, {} unfinished",
            self.requests,
            self.simulated_seconds / 3_600.0,
            self.completed,
            self.refused,
            self.unfinished
        );
        let attainment = format!(
            "{} of {} % wanted (TTFT {}, TPOT {}, worst hour {})",
            percent(self.attainment_percent),
            self.attainment_goal_percent,
            percent(self.ttft_attainment_percent),
            percent(self.tpot_attainment_percent),
            percent(self.worst_hour_attainment_percent)
        );
        let ttft = [
            self.ttft_p50_seconds,
            self.ttft_p95_seconds,
            self.ttft_p99_seconds,
        ];
        let tpot = [
            self.tpot_p50_seconds,
            self.tpot_p95_seconds,
            self.tpot_p99_seconds,
        ];
        [
            ("policy", policy),
            ("requests", requests),
            ("attainment", attainment),
            (
                "TTFT p50 / p95 / p99",
                latencies(ttft, self.ttft_limit_seconds),
            ),
            (
                "TPOT p50 / p95 / p99",
                latencies(tpot, self.tpot_limit_seconds),
            ),
        ]
    }

    /// The cost.
    fn costs(&self) -> [(&'static str, String); 5] {
        let over = |ratio: Option<f64>| ratio.map_or("-".to_owned(), |over| format!("{over:.3}"));
        let gpu_hours = format!(
            "{:.1} (prefill {:.1}, decode {:.1}), {} x clairvoyant, {} x clairvoyant overall",
            self.gpu_hours,
            self.prefill_gpu_hours,
            self.decode_gpu_hours,
            over(self.gpu_hours_over_clairvoyant),
            over(self.gpu_hours_over_clairvoyant_overall)
        );
        let clairvoyant = format!(
            "{:.1} (prefill {:.1}, decode {:.1}); overall {:.1} ({:.1}, {:.1}); static peak {:.1}",
            self.clairvoyant_gpu_hours,
            self.clairvoyant_prefill_gpu_hours,
            self.clairvoyant_decode_gpu_hours,
            self.clairvoyant_overall_gpu_hours,
            self.clairvoyant_overall_prefill_gpu_hours,
            self.clairvoyant_overall_decode_gpu_hours,
            self.static_peak_gpu_hours
        );
        let changes = format!(
            "{}, {} reversals, {} requests dropped, {} restarted, {} audit findings",
            self.scale_events,
            self.reversals,
            self.dropped_by_scale_down,
            self.restarted,
            self.audit_findings
        );
        let limits = format!(
            "{:.0} GPU-s over budget, {:.0} s out of ratio band",
            self.budget_overshoot_gpu_seconds, self.ratio_out_of_band_seconds
        );
        let speed = self.speed.map_or("-".to_owned(), |speed| {
            format!(
                "{:.2} s, {:.0} requests/s",
                speed.wall_seconds, speed.simulated_requests_per_second
            )
        });
        [
            ("GPU-hours", gpu_hours),
            ("clairvoyant GPU-hours", clairvoyant),
            ("replica changes", changes),
            ("limits", limits),
            ("speed", speed),
        ]
    }
}

fn latencies(quantiles: [Option<f64>; 3], limit_seconds: f64) -> String {
    let ms = |seconds: Option<f64>| {
        seconds.map_or("-".to_owned(), |seconds| format!("{:.1}", seconds * 1e3))
    };
    let [p50, p95, p99] = quantiles.map(ms);
    format!("{p50} / {p95} / {p99} ms, limit {} ms", limit_seconds * 1e3)
}

fn percent(share: Option<f64>) -> String {
    share.map_or("-".to_owned(), |share| format!("{share:.3} %"))
}
