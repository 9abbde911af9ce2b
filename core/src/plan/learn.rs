//! What this snapshot teaches about one replica.
//!
//! Of decode only while its workers stay the same for a window: one that came or went is in the rates
//! for part of it. Of waiting only in a pool that is settled, because the formula it is compared with
//! describes a steady state.

use std::time::Duration;

use super::Planner;
use crate::{
    queueing::{Work, mean_wait_seconds},
    role::Role,
};

/// How long after a change of replicas, asked or serving, the rate window still mixes before and after.
const LEARN_AFTER_CHANGE: Duration = Duration::from_mins(2);

/// Load per worker from which waiting is long enough to tell a good router from a bad one.
const BUSY: f64 = 0.6;

/// Load per worker beyond which a pool is not in a steady state.
const TOO_BUSY: f64 = 0.95;

/// Load per worker up to which hardly anybody waits, so that what TTFT has beyond compute is overhead.
const QUIET: f64 = 0.3;

/// Fewest requests whose mean wait is compared: of fewer, one slow request is the mean.
const WAIT_SAMPLES_MIN: f64 = 50.0;

/// Shortest mean wait by the formula that is compared with what was measured, seconds.
const WAIT_SECONDS_MIN: f64 = 0.002;

impl Planner<'_> {
    pub(super) fn learn(&mut self) {
        self.learn_prefill();
        self.learn_decode();
        self.learn_waiting();
        self.learn_failure();
    }

    fn settled(&self, role: Role) -> bool {
        let state = self.snapshot.roles.get(role);
        let memory = self.memory.roles.get(role);
        memory.cooled_down_for(LEARN_AFTER_CHANGE, self.now)
            && state.starting == 0
            && !state.is_rolling_out()
    }

    fn learn_prefill(&mut self) {
        let Some(mean_seconds) = self.workload.prefill_seconds_mean else {
            return;
        };
        self.memory.capacity.observe_prefill(
            self.profile,
            mean_seconds,
            &self.workload.prompt_lengths,
            self.workload.cached_share(),
            self.elapsed,
        );
    }

    fn learn_decode(&mut self) {
        let batch = self.decode_batch();
        if let (true, Some(batch), Some(itl)) = (
            self.settled(Role::Decode),
            batch,
            self.workload.itl_seconds_mean,
        ) {
            self.memory.capacity.observe_decode(
                self.profile,
                batch,
                self.workload.context_tokens(),
                itl,
                self.elapsed,
            );
        }
    }

    /// Decode steps over the limit, all replicas serving, tell that a replica has too much: at once after
    /// replicas were lowered, because the window still shows better times, else once it has settled.
    fn learn_failure(&mut self) {
        let state = self.snapshot.roles.decode;
        let limit = self.snapshot.policy.objective.tpot.limit.as_secs_f64();
        let slow = self
            .workload
            .itl_seconds_mean
            .is_some_and(|itl| itl > limit);
        let changes = &self.memory.roles.decode.changes;
        let lowered = changes.last().is_some_and(|change| change.to < change.from);
        let whole = state.starting == 0 && state.ready == state.current && state.ready > 0;
        let rate_tps = self.snapshot.signals.output_token_rate_tps.known();
        if let (true, true, Some(rate_tps)) = (
            slow && whole,
            lowered || self.settled(Role::Decode),
            rate_tps,
        ) {
            self.memory
                .decode_ceiling
                .failed(rate_tps, state.ready, self.now);
        }
    }

    /// Requests in a decode step of one worker, mean over the window that the time between tokens is
    /// from: by Little's law, so that both describe the same steps.
    fn decode_batch(&self) -> Option<f64> {
        let rate_tps = self.snapshot.signals.output_token_rate_tps.known()?;
        let workers = self.snapshot.signals.coverage.decode.scraped;
        let itl = self.workload.itl_seconds_mean?;
        (workers > 0).then(|| rate_tps * itl / f64::from(workers))
    }

    /// How much longer than by the formula prompts wait, and what TTFT holds besides compute and wait.
    fn learn_waiting(&mut self) -> Option<()> {
        // What a first look shows is one sample, and no steady state.
        self.memory.decided_at?;
        if !self.settled(Role::Prefill) {
            return None;
        }
        let ttft = &self.snapshot.signals.recent.prefill_ttft;
        let measured = ttft.with_samples(WAIT_SAMPLES_MIN).ok()?.mean()?;
        let compute = self.workload.prefill_seconds_mean?;
        let workers = self.snapshot.roles.prefill.ready;
        let capacity = self.capacity();
        let work = Work {
            arrival_rate_rps: self.workload.arrival_rate_rps?,
            arrival_scv: self.workload.arrival_scv,
            service: self.workload.service_times(&capacity),
        };
        let formula = mean_wait_seconds(&work, workers)?;
        let busy = work.offered_load() / f64::from(workers);
        if busy <= QUIET {
            let predicted = compute + formula * capacity.routing_factor;
            let memory = &mut self.memory.capacity;
            memory.observe_ttft(measured, predicted, self.elapsed);
        } else if (BUSY..=TOO_BUSY).contains(&busy) && formula >= WAIT_SECONDS_MIN {
            let waited = (measured - compute - capacity.ttft_residual_seconds).max(0.0);
            let memory = &mut self.memory.capacity;
            memory.observe_wait(waited, formula, self.elapsed);
        }
        Some(())
    }
}
