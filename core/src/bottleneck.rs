//! Where requests lose time when the objective is missed, and which role pays.
//!
//! A late first token is a symptom of five illnesses. Prefill holds a prompt's KV cache until
//! decode has taken it, so a full decode pool backs up into the prefill queue: decode is therefore
//! looked at first. Requests that wait on decode workers wait either for room there, which more
//! decode fixes, or for their KV cache to arrive, which no replica fixes. And the gateway holds the
//! requests that the engines do not see.

use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;

use crate::{
    objective::Objective,
    role::Role,
    signal::{Reading, Signals},
    workload::Workload,
};

/// KV-cache use from which requests that wait on a decode worker wait for room.
const KV_USAGE_FULL: f64 = 0.85;

/// KV-cache use below which they do not: requests then wait for their own KV cache to arrive.
const KV_USAGE_ROOMY: f64 = 0.5;

/// Share of the TTFT limit from which one leg is the bottleneck.
pub const LARGE_LEG: f64 = 0.5;

/// Load per prefill worker from which prompts must wait at times.
const BUSY: f64 = 0.6;

/// Preemptions per second that are no accident: one in half a minute.
const PREEMPTING_RPS: f64 = 1.0 / 30.0;

/// Where requests lose time, as far as metrics show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoStaticStr)]
pub enum Bottleneck {
    /// The objective holds, or nothing is known.
    #[default]
    None,
    /// Prompts wait for a prefill replica.
    PrefillQueue,
    /// Prompts take longer to compute than the limit allows.
    PrefillCompute,
    /// Requests wait for decode admission: KV cache or batch is full.
    DecodeAdmission,
    /// Decode steps are slow because batches are large.
    DecodeBatch,
    /// Between the roles: KV transfer. More replicas do not help.
    KvTransfer,
    /// In neither queue nor compute: proxies, tokenizers, steps of the engine between both. More
    /// replicas do not help.
    Overhead,
    /// Before the engines: the gateway holds requests that the engines answer in time.
    Outside,
}

impl Bottleneck {
    /// The name as shown.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// The role whose replicas fix it, if any does.
    pub const fn pays(self) -> Option<Role> {
        match self {
            Self::PrefillQueue => Some(Role::Prefill),
            Self::DecodeAdmission | Self::DecodeBatch => Some(Role::Decode),
            Self::None
            | Self::PrefillCompute
            | Self::KvTransfer
            | Self::Overhead
            | Self::Outside => None,
        }
    }
}

/// Where requests lose time; [`Bottleneck::None`] while the objective holds or nothing is known.
pub fn bottleneck(signals: &Signals, workload: &Workload, objective: &Objective) -> Bottleneck {
    let ttft_limit = objective.ttft.limit.as_secs_f64();
    if ttft_missed(signals, workload, ttft_limit) {
        return of_ttft(signals, workload, ttft_limit);
    }
    let tpot_limit = objective.tpot.limit.as_secs_f64();
    let slow_steps = workload
        .itl_seconds_mean
        .is_some_and(|itl| itl > tpot_limit);
    let slow_requests = workload.tpot.and_then(|tpot| tpot.exceeds(tpot_limit)) == Some(true);
    match (slow_steps || slow_requests, preempting(signals)) {
        // Requests that are put back wait inside their TPOT; steps may be as fast as ever.
        (true, true) if !slow_steps => Bottleneck::DecodeAdmission,
        (true, _) => Bottleneck::DecodeBatch,
        (false, _) => Bottleneck::None,
    }
}

/// Whether TTFT misses its limit. Where it is beyond the last bucket and that decides nothing, a
/// prefill queue that grows does.
fn ttft_missed(signals: &Signals, workload: &Workload, limit: f64) -> bool {
    let Some(ttft) = workload.ttft else {
        return false;
    };
    let growing = some(signals.prefill_queue_growth_rps, f64::MIN_POSITIVE)
        && some(signals.waiting_requests.prefill, 1.0);
    match ttft.exceeds(limit) {
        Some(missed) => missed,
        None => growing && ttft.bound == crate::histogram::Bound::AtLeast,
    }
}

fn of_ttft(signals: &Signals, workload: &Workload, limit: f64) -> Bottleneck {
    let engines = workload.ttft_engines.and_then(|ttft| ttft.exceeds(limit));
    if engines == Some(false) {
        return Bottleneck::Outside;
    }
    let transfer = workload.transfer_seconds_mean.unwrap_or(0.0);
    let compute = workload.prefill_seconds_mean.unwrap_or(0.0);
    let on_prefill = signals.recent.prefill_ttft.mean().unwrap_or(0.0);
    let (full, queue) = (waits_for_room(signals), prompts_queue(signals, workload));
    // Of two queues the one that takes longer; beyond half of the limit decode's in any case, since
    // it backs up into prefill.
    let longer = transfer > (on_prefill - compute).max(0.0);
    if transfer > limit * LARGE_LEG && !full {
        return Bottleneck::KvTransfer;
    }
    if full && (transfer > limit * LARGE_LEG || longer || !queue) {
        return Bottleneck::DecodeAdmission;
    }
    if compute > limit * LARGE_LEG && !some(signals.waiting_requests.prefill, 1.0) {
        return Bottleneck::PrefillCompute;
    }
    if queue {
        Bottleneck::PrefillQueue
    } else {
        Bottleneck::Overhead
    }
}

/// Whether prompts wait for a prefill worker: somebody waits, more wait than did, or workers are so
/// busy that some must. Time that is lost otherwise no replica brings back.
fn prompts_queue(signals: &Signals, workload: &Workload) -> bool {
    let workers = f64::from(signals.coverage.prefill.spoken_for());
    let busy = workload
        .arrival_rate_rps
        .zip(workload.prefill_seconds_mean)
        .is_some_and(|(rate, seconds)| workers > 0.0 && rate * seconds >= workers * BUSY);
    busy || some(signals.waiting_requests.prefill, 1.0)
        || some(signals.prefill_queue_growth_rps, f64::MIN_POSITIVE)
}

/// Whether requests on decode workers wait for room there, rather than for their KV cache.
pub fn waits_for_room(signals: &Signals) -> bool {
    let usage = signals.decode_kv_usage.known();
    if preempting(signals) || usage.is_some_and(|usage| usage >= KV_USAGE_FULL) {
        return true;
    }
    let Some(waiting) = signals.waiting_requests.decode.known() else {
        return false;
    };
    let deferred = match signals.decode_deferred_requests.known() {
        Some(deferred) => deferred,
        // Engines that do not count them apart: with half of the cache free, all are deferred.
        None if usage.is_some_and(|usage| usage < KV_USAGE_ROOMY) => waiting,
        None => 0.0,
    };
    waiting - deferred >= 1.0
}

fn preempting(signals: &Signals) -> bool {
    some(signals.decode_preemption_rate_rps, PREEMPTING_RPS)
}

fn some(reading: Reading, least: f64) -> bool {
    reading.known().is_some_and(|number| number >= least)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::{
        histogram::Histogram,
        signal::{Gap, HistogramReading},
        testing::{self, Load, around},
    };

    const LOAD: Load = Load {
        rate_rps: 10.0,
        prefill_seconds: 0.1,
        output_tokens: 200.0,
    };

    fn full(s: &mut Signals) {
        s.decode_kv_usage = Reading::of(0.97);
        s.waiting_requests.decode = Reading::of(30.0);
    }

    fn prefill_queue(s: &mut Signals) {
        s.recent.prefill_ttft = around(2.0, 600.0);
        s.waiting_requests.prefill = Reading::of(20.0);
    }

    fn slow_decode_leg(s: &mut Signals) {
        s.recent.decode_ttft = around(1.5, 600.0);
    }

    #[rstest]
    #[case::all_is_well(|_: &mut Signals| {}, Bottleneck::None)]
    #[case::prompts_queue(prefill_queue, Bottleneck::PrefillQueue)]
    #[case::long_prompts_without_a_queue(|s: &mut Signals| {
        s.recent.prefill_ttft = around(0.9, 600.0);
        s.recent.prefill_time = around(0.8, 600.0);
    }, Bottleneck::PrefillCompute)]
    #[case::decode_is_full_and_backs_up_into_prefill(|s: &mut Signals| {
        full(s);
        prefill_queue(s);
        slow_decode_leg(s);
    }, Bottleneck::DecodeAdmission)]
    #[case::decode_is_busy_but_prefill_is_late(|s: &mut Signals| {
        full(s);
        prefill_queue(s);
    }, Bottleneck::PrefillQueue)]
    #[case::decode_has_no_slot(|s: &mut Signals| {
        slow_decode_leg(s);
        s.waiting_requests.decode = Reading::of(40.0);
    }, Bottleneck::DecodeAdmission)]
    #[case::kv_caches_crawl(|s: &mut Signals| {
        slow_decode_leg(s);
        s.waiting_requests.decode = Reading::of(40.0);
        s.decode_deferred_requests = Reading::of(40.0);
    }, Bottleneck::KvTransfer)]
    #[case::kv_caches_crawl_on_an_older_engine(|s: &mut Signals| {
        slow_decode_leg(s);
        s.waiting_requests.decode = Reading::of(40.0);
        s.decode_deferred_requests = Reading::Unknown(Gap::Empty);
    }, Bottleneck::KvTransfer)]
    #[case::decode_preempts(|s: &mut Signals| {
        slow_decode_leg(s);
        s.decode_preemption_rate_rps = Reading::of(0.5);
    }, Bottleneck::DecodeAdmission)]
    #[case::batches_are_large(|s: &mut Signals| {
        s.recent.inter_token_latency = around(0.08, 1e5);
        s.recent.tpot = around(0.08, 600.0);
    }, Bottleneck::DecodeBatch)]
    #[case::tail_of_tpot_alone(|s: &mut Signals| {
        s.recent.tpot = around(0.08, 600.0);
    }, Bottleneck::DecodeBatch)]
    #[case::put_back_requests_are_slow(|s: &mut Signals| {
        s.recent.tpot = around(0.08, 600.0);
        s.decode_preemption_rate_rps = Reading::of(0.5);
    }, Bottleneck::DecodeAdmission)]
    #[case::the_gateway_holds_requests(|s: &mut Signals| {
        s.ttft_seconds_override = Reading::of(4.0);
    }, Bottleneck::Outside)]
    #[case::the_gateway_and_prefill_agree(|s: &mut Signals| {
        prefill_queue(s);
        s.ttft_seconds_override = Reading::of(2.2);
    }, Bottleneck::PrefillQueue)]
    #[case::a_dozen_requests_with_an_outlier(|s: &mut Signals| {
        s.recent.prefill_ttft = around(2.0, 12.0);
        s.wide.prefill_ttft = around(2.0, 12.0);
    }, Bottleneck::None)]
    #[case::nothing_is_known(|s: &mut Signals| *s = Signals::default(), Bottleneck::None)]
    fn the_role_that_is_at_fault_is_found(
        #[case] change: fn(&mut Signals),
        #[case] expected: Bottleneck,
    ) {
        let mut snapshot = testing::snapshot(2, 4, LOAD);
        change(&mut snapshot.signals);
        let objective = &snapshot.policy.objective;
        let workload = Workload::estimate(&snapshot.signals, objective);
        let found = bottleneck(&snapshot.signals, &workload, objective);
        assert_eq!(found, expected, "{workload:?}");
    }

    #[rstest]
    #[case::growing(0.5, Bottleneck::PrefillQueue)]
    #[case::standing_still(0.0, Bottleneck::None)]
    fn ttft_beyond_the_last_bucket_is_judged_by_the_growth_of_the_queue(
        #[case] growth_rps: f64,
        #[case] expected: Bottleneck,
    ) {
        let mut snapshot = testing::snapshot(2, 4, LOAD);
        // The last bucket ends at 0.3 s, under the limit of 0.5 s.
        let clipped = Histogram::from_cumulative(vec![(0.1, 0.0), (0.3, 300.0)], 600.0, 900.0);
        snapshot.signals.recent.prefill_ttft = HistogramReading::Value(clipped.unwrap());
        snapshot.signals.waiting_requests.prefill = Reading::of(12.0);
        snapshot.signals.prefill_queue_growth_rps = Reading::of(growth_rps);
        let objective = &snapshot.policy.objective;
        let workload = Workload::estimate(&snapshot.signals, objective);
        assert!(workload.remarks()[0].contains("at least"));
        let found = bottleneck(&snapshot.signals, &workload, objective);
        assert_eq!(found, expected);
    }
}
