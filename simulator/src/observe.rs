//! From the metrics of emulated workers to the signals that decisions are made from.
//!
//! Owns what Prometheus does in production: scrape every worker at an interval, keep a short
//! history of each, and answer with rates, distributions and gauges over a window. Nothing the
//! model knows and a real scrape does not show gets through, so decisions here are made on metrics
//! as late, as coarse and as incomplete as they would be on a cluster.
//!
//! Increases follow Prometheus: the difference of the first and last sample of the window, carried
//! to the window's ends as far as half a sample interval, and never to before the counter was zero.
//! A worker that came within the window counts from its first sample on; one that left counts until
//! its last. Gauges are read from ready workers only: those whose pods the API server shows as
//! ready, scraped or not.

mod attainment;
mod counts;
mod history;
mod outage;

use std::collections::BTreeMap;
use std::time::Duration;

use pd_core::histogram::Histogram as Distribution;
use pd_core::signal::{Coverage, Distributions, HistogramReading, WIDE_WINDOW};
use pd_core::{Gap, PerRole, Reading, Role, Signals};

use self::attainment::Attainment;
use self::counts::Counts;
use self::history::History;
pub use self::outage::Blur;
use crate::engine::{self, Histogram, Service, WorkerMetrics, WorkerState};
use crate::time::{MINUTE, Nanos, SECOND};

/// The windows that signals are taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// Window of rates and distributions.
    pub rate: Nanos,
    /// Window of the same distributions for services with few requests.
    pub wide: Nanos,
    /// Window of gauges: shorter, because a queue is what it is now.
    pub gauge: Nanos,
    /// Window of the attainment distributions.
    pub attainment: Nanos,
}

impl Default for Windows {
    fn default() -> Self {
        Self {
            rate: 2 * MINUTE,
            wide: Nanos::try_from(WIDE_WINDOW.as_nanos()).unwrap_or(10 * MINUTE),
            gauge: 30 * SECOND,
            attainment: 60 * MINUTE,
        }
    }
}

/// Scrapes a service and says what its metrics show.
#[derive(Debug)]
pub struct Observer {
    windows: Windows,
    now: Nanos,
    workers: BTreeMap<String, History>,
    prefill_ttft: Attainment,
    decode_ttft: Attainment,
    tpot: Attainment,
    finished: Counts,
    kv_capacity_tokens: u64,
    down: bool,
}

impl Observer {
    /// An observer that has seen nothing.
    pub fn new(windows: Windows) -> Self {
        Self {
            windows,
            now: 0,
            workers: BTreeMap::new(),
            prefill_ttft: Attainment::new(engine::TTFT_BUCKETS),
            decode_ttft: Attainment::new(engine::TTFT_BUCKETS),
            tpot: Attainment::new(engine::ITL_BUCKETS),
            finished: Counts::default(),
            kv_capacity_tokens: 0,
            down: false,
        }
    }

    /// Takes one sample of every worker that answers, which starting ones do not. The metrics are
    /// those of the last [`Service::observe`].
    pub fn scrape(&mut self, service: &Service) {
        self.scrape_through(service, &Blur::default());
    }

    /// No scrape can be taken and no query answered at `now`.
    pub fn miss(&mut self, now: Nanos) {
        self.now = now;
        self.down = true;
    }

    /// The same as [`Observer::scrape`], through what is known wrongly and what is lost.
    pub fn scrape_through(&mut self, service: &Service, blur: &Blur) {
        self.now = service.now();
        self.down = false;
        for (name, history) in &mut self.workers {
            history.ready = blur.ghosts.contains(name);
        }
        for worker in service.workers() {
            if worker.state == WorkerState::Starting {
                continue;
            }
            let ready = worker.state == WorkerState::Ready && !blur.leaves(worker.name);
            if !blur.answers(worker.name) {
                if let Some(history) = self.workers.get_mut(worker.name) {
                    history.ready = ready;
                }
                continue;
            }
            let role = core_role(worker.role);
            let history = self
                .workers
                .entry(worker.name.to_owned())
                .or_insert_with(|| History::new(role));
            history.ready = ready;
            if let Some(before) = history.last() {
                match role {
                    Role::Prefill => {
                        self.prefill_ttft.add(
                            &before.time_to_first_token,
                            &worker.metrics.time_to_first_token,
                        );
                        let count = finished(worker.metrics) - finished(before);
                        self.finished.add(count);
                    }
                    Role::Decode => {
                        self.decode_ttft.add(
                            &before.time_to_first_token,
                            &worker.metrics.time_to_first_token,
                        );
                        self.tpot.add(
                            &before.request_time_per_output_token,
                            &worker.metrics.request_time_per_output_token,
                        );
                    }
                }
            }
            history.push(self.now, worker.metrics.clone());
        }
        self.finished.close(self.now, self.windows.wide);
        self.kv_capacity_tokens = service.profile().kv_capacity_tokens;
        for window in [
            &mut self.prefill_ttft,
            &mut self.decode_ttft,
            &mut self.tpot,
        ] {
            window.close(self.now, self.windows.attainment);
        }
        let longest = self.windows.rate.max(self.windows.wide);
        let oldest = self.now.saturating_sub(longest);
        self.workers
            .retain(|_, history| history.forget_until(oldest));
    }

    /// The samples as they are now.
    pub fn signals(&self) -> Signals {
        use Role::{Decode, Prefill};
        if self.down {
            return outage::failed(Duration::from_nanos(self.windows.rate));
        }
        Signals {
            answer_partial: false,
            coverage: PerRole::from_fn(|role| self.coverage(role)),
            rate_window: Duration::from_nanos(self.windows.rate),
            prefill_completion_rate_rps: reading(self.rate(Prefill, finished)),
            decode_completion_rate_rps: reading(self.rate(Decode, finished)),
            prefill_queue_growth_rps: reading(self.queue_slope().map(|slope| slope.max(0.0))),
            prefill_queue_drain_rps: reading(self.queue_slope().map(|slope| (-slope).max(0.0))),
            arrival_dispersion: self.finished.dispersion(self.now),
            waiting_requests: PerRole::from_fn(|role| {
                reading(self.gauge_sum(role, |m| m.requests_waiting() as f64))
            }),
            running_requests: PerRole::from_fn(|role| {
                reading(self.gauge_sum(role, |m| m.requests_running as f64))
            }),
            requests_peak: PerRole::from_fn(|role| reading(self.peak(role))),
            decode_deferred_requests: reading(
                self.gauge_sum(Decode, |m| m.requests_waiting_deferred as f64),
            ),
            prefix_hit_share: self.prefix_hit_share(),
            decode_kv_usage: reading(self.decode_kv_usage()),
            decode_kv_capacity_tokens: reading(
                self.ready(Decode)
                    .next()
                    .map(|_| self.kv_capacity_tokens as f64),
            ),
            decode_preemption_rate_rps: reading(self.rate(Decode, |m| m.preemptions as f64)),
            output_token_rate_tps: reading(self.rate(Decode, |m| m.generation_tokens as f64)),
            recent: self.distributions(self.windows.rate),
            wide: self.distributions(self.windows.wide),
            prefill_ttft_attainment: self.prefill_ttft.reading(),
            decode_ttft_attainment: self.decode_ttft.reading(),
            tpot_attainment: self.tpot.reading(),
            // Nobody queries a simulated service.
            arrival_rate_rps_override: Reading::default(),
            // A simulated service has no gateway, and serves whatever it took.
            gateway_arrival_rate_rps: Reading::default(),
            gateway_ttft_attainment: HistogramReading::default(),
            prefill_unserved_rate_rps: Reading::default(),
            wake_requests: Reading::default(),
            ttft_seconds_override: Reading::default(),
            tpot_seconds_override: Reading::default(),
        }
    }

    fn distributions(&self, window: Nanos) -> Distributions {
        use Role::{Decode, Prefill};
        Distributions {
            prefill_ttft: self.distribution(window, Prefill, |m| &m.time_to_first_token),
            decode_ttft: self.distribution(window, Decode, |m| &m.time_to_first_token),
            prefill_time: self.distribution(window, Prefill, |m| &m.request_prefill_time),
            prefill_step_tokens: self.distribution(window, Prefill, |m| &m.iteration_tokens),
            prompt_tokens: self.distribution(window, Prefill, |m| &m.request_prompt_tokens),
            output_tokens: self.distribution(window, Decode, |m| &m.request_generation_tokens),
            tpot: self.distribution(window, Decode, |m| &m.request_time_per_output_token),
            inter_token_latency: self.distribution(window, Decode, |m| &m.inter_token_latency),
            ..Distributions::default()
        }
    }

    fn of_role(&self, role: Role) -> impl Iterator<Item = &History> {
        self.workers.values().filter(move |w| w.role == role)
    }

    fn ready(&self, role: Role) -> impl Iterator<Item = &History> {
        self.of_role(role).filter(|worker| worker.ready)
    }

    fn coverage(&self, role: Role) -> Coverage {
        let fresh = self.ready(role).filter(|worker| worker.is_fresh(self.now));
        let scraped = u32::try_from(fresh.count()).unwrap_or(u32::MAX);
        Coverage {
            scraped,
            seen: u32::try_from(self.ready(role).count()).unwrap_or(u32::MAX),
            // Decisions follow a scrape at once; a worker that does not answer is not counted.
            oldest_age: (scraped > 0).then_some(Duration::ZERO),
        }
    }

    /// Per second, over all workers of a role that have two samples in the window.
    fn rate(&self, role: Role, counter: impl Fn(&WorkerMetrics) -> f64) -> Option<f64> {
        let increases = self
            .of_role(role)
            .filter_map(|worker| worker.increase(self.now, self.windows.rate, &counter));
        let total = sum_if_any(increases)?;
        Some(total / crate::time::seconds(self.windows.rate))
    }

    fn gauge_sum(&self, role: Role, gauge: impl Fn(&WorkerMetrics) -> f64) -> Option<f64> {
        let since = self.now.saturating_sub(self.windows.gauge);
        sum_if_any(
            self.ready(role)
                .filter_map(|worker| worker.mean_since(since, &gauge)),
        )
    }

    fn decode_kv_usage(&self) -> Option<f64> {
        let sum = self.gauge_sum(Role::Decode, |m| m.kv_cache_usage)?;
        Some(sum / self.ready(Role::Decode).count().max(1) as f64)
    }

    /// How fast the prefill queue grows, requests per second; below zero it shrinks.
    fn queue_slope(&self) -> Option<f64> {
        let slopes = self.ready(Role::Prefill).filter_map(|worker| {
            let waiting = |m: &WorkerMetrics| m.requests_waiting() as f64;
            worker.slope_per_second(self.now, self.windows.rate, waiting)
        });
        sum_if_any(slopes)
    }

    /// Most requests that ran and that waited, of each worker, summed.
    fn peak(&self, role: Role) -> Option<f64> {
        let most = |gauge: fn(&WorkerMetrics) -> f64| {
            let workers = self.of_role(role);
            sum_if_any(workers.filter_map(|w| w.most(self.now, self.windows.rate, gauge)))
        };
        Some(most(|m| m.requests_running as f64)? + most(|m| m.requests_waiting() as f64)?)
    }

    fn prefix_hit_share(&self) -> Reading {
        let hits = self.rate(Role::Prefill, |m| m.prefix_cache_hits as f64);
        let asked = self.rate(Role::Prefill, |m| m.prefix_cache_queries as f64);
        match (hits, asked) {
            (Some(_), Some(0.0)) => Reading::Unknown(Gap::TooFewSamples),
            (Some(hits), Some(asked)) => Reading::of(hits / asked),
            (_, None) | (None, _) => Reading::Unknown(Gap::Empty),
        }
    }

    fn distribution(
        &self,
        window: Nanos,
        role: Role,
        histogram: impl Fn(&WorkerMetrics) -> &Histogram,
    ) -> HistogramReading {
        let mut merged: Option<history::Increase> = None;
        for worker in self.of_role(role) {
            let Some(increase) = worker.histogram_increase(self.now, window, &histogram) else {
                continue;
            };
            match &mut merged {
                Some(merged) => merged.merge(&increase),
                None => merged = Some(increase),
            }
        }
        let Some(merged) = merged else {
            return HistogramReading::Unknown(Gap::Empty);
        };
        Distribution::from_cumulative(merged.buckets, merged.count, merged.sum).map_or(
            HistogramReading::Unknown(Gap::NotANumber),
            HistogramReading::Value,
        )
    }
}

/// The core's word for a role of the engine model.
pub fn core_role(role: engine::Role) -> Role {
    match role {
        engine::Role::Prefill => Role::Prefill,
        engine::Role::Decode => Role::Decode,
    }
}

/// The engine model's word for a role of the core.
pub fn engine_role(role: Role) -> engine::Role {
    match role {
        Role::Prefill => engine::Role::Prefill,
        Role::Decode => engine::Role::Decode,
    }
}

/// Counters that are scraped and stand still are a known zero; no sample is no evidence.
fn reading(number: Option<f64>) -> Reading {
    match number {
        None => Reading::Unknown(Gap::Empty),
        Some(0.0) => Reading::KnownZero,
        Some(number) => Reading::of(number),
    }
}

fn finished(metrics: &WorkerMetrics) -> f64 {
    (metrics.finished_stop + metrics.finished_length) as f64
}

fn sum_if_any(numbers: impl Iterator<Item = f64>) -> Option<f64> {
    numbers.fold(None, |sum, number| Some(sum.unwrap_or(0.0) + number))
}

#[cfg(test)]
mod tests;
