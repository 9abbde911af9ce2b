//! The work of a trace for both roles, window by window, gathered in one pass.
//!
//! For prefill: how many prompts, how unevenly they come, and how long each computes, counted in
//! steps of an eighth of an octave. For decode: the requests in flight and the tokens of their
//! context, second by second, when every answer runs at the TPOT limit from its first token on.
//! Memory is that of the seconds of the run, not of its requests.

use crate::engine::{Arrival, DecodeStair, Profile};
use crate::scenario::Scenario;
use crate::time::{Nanos, SECOND, from_seconds, seconds};

use super::WINDOW;
use super::misses::Misses;

/// Length of a decode cell.
const CELL: Nanos = SECOND;

/// Share of the KV cache that admission keeps free.
const KV_KEPT_FREE: f64 = 0.01;

/// Prompts of one window.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PrefillWindow {
    /// Requests that arrived.
    pub requests: u64,
    input_tokens: u64,
    gaps: u64,
    gap_seconds: f64,
    gap_seconds_squared: f64,
    /// By length class: requests and the sum of their compute seconds.
    classes: Vec<(u16, u32, f64)>,
}

/// Requests in flight during one cell, on average.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Cell {
    requests: f64,
    context_tokens: f64,
}

/// The load of a whole run.
#[derive(Clone, Debug)]
pub struct Load {
    profile: Profile,
    tpot_seconds: f64,
    length: Nanos,
    requests: u64,
    last_at: Option<Nanos>,
    prefill: Vec<PrefillWindow>,
    decode: Vec<Cell>,
}

impl Load {
    /// No load yet, for a run of `scenario`.
    pub fn new(scenario: &Scenario) -> Self {
        Self {
            profile: scenario.profile.clone(),
            tpot_seconds: scenario.policy().objective.tpot.limit.as_secs_f64(),
            length: 0,
            requests: 0,
            last_at: None,
            prefill: Vec::new(),
            decode: Vec::new(),
        }
    }

    /// Adds the next request.
    pub fn add(&mut self, arrival: &Arrival) {
        let input_tokens = arrival.input_tokens.max(1);
        let cached = self.profile.cached_tokens(input_tokens);
        let compute = self.profile.prefill_time(input_tokens, cached);
        let index = usize::try_from(arrival.at / WINDOW).unwrap_or(usize::MAX);
        if self.prefill.len() <= index {
            self.prefill.resize_with(index + 1, PrefillWindow::default);
        }
        if let Some(window) = self.prefill.last_mut() {
            let gap = self.last_at.map(|last| arrival.at.saturating_sub(last));
            window.add(input_tokens, compute, gap);
        }
        self.last_at = Some(arrival.at);
        self.requests += 1;
        let start = arrival.at + compute + self.profile.kv_transfer_time(input_tokens);
        self.add_answer(start, input_tokens, arrival.output_tokens.max(1));
    }

    /// Spreads an answer over the cells it runs in.
    fn add_answer(&mut self, start: Nanos, input_tokens: u32, output_tokens: u32) {
        let duration = from_seconds(f64::from(output_tokens) * self.tpot_seconds).max(1);
        let end = start.saturating_add(duration);
        let last = usize::try_from(end / CELL).unwrap_or(usize::MAX);
        if self.decode.len() <= last {
            self.decode.resize(last + 1, Cell::default());
        }
        let tokens_per_nano = f64::from(output_tokens) / duration as f64;
        let mut at = start;
        while at < end {
            let cell_end = (at / CELL + 1) * CELL;
            let until = cell_end.min(end);
            let share = (until - at) as f64 / CELL as f64;
            let middle = (at - start) as f64 + (until - at) as f64 * 0.5;
            let context = f64::from(input_tokens) + tokens_per_nano * middle;
            let place = usize::try_from(at / CELL).unwrap_or(usize::MAX);
            if let Some(cell) = self.decode.get_mut(place) {
                cell.requests += share;
                cell.context_tokens += share * context;
            }
            at = until;
        }
    }

    /// Ends the run at `length`; what would run on after it is forgotten.
    pub fn end(&mut self, length: Nanos) {
        self.length = length;
        let windows = usize::try_from(length.div_ceil(WINDOW)).unwrap_or(usize::MAX);
        self.prefill.resize_with(windows, PrefillWindow::default);
        let cells = windows.saturating_mul(usize::try_from(WINDOW / CELL).unwrap_or(1));
        self.decode.resize(cells, Cell::default());
    }

    /// When the last request arrived.
    pub fn last_at(&self) -> Nanos {
        self.last_at.unwrap_or(0)
    }

    /// Length of the run.
    pub fn length(&self) -> Nanos {
        self.length
    }

    /// Requests in all.
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// Prompts by window.
    pub fn prefill(&self) -> &[PrefillWindow] {
        &self.prefill
    }

    /// Requests of each window whose tokens take too long, by decode replicas: the share of its
    /// request-seconds in seconds in which the batches are larger than the limit allows.
    pub(super) fn decode_misses(&self, least: u32) -> Vec<Misses> {
        let cells = usize::try_from(WINDOW / CELL).unwrap_or(1).max(1);
        let requests = self.prefill.iter().map(|window| window.requests as f64);
        let table = |(window, requests): (&[Cell], f64)| {
            let busy = window.iter().filter(|cell| cell.requests > 0.0);
            let loads: Vec<(f64, f64)> = busy
                .map(|cell| (cell.requests / self.batch_max(cell), cell.requests))
                .collect();
            Misses::of_batches(&loads, requests, least)
        };
        self.decode.chunks(cells).zip(requests).map(table).collect()
    }

    /// The largest batch of one replica that keeps the TPOT limit at a cell's mean context.
    fn batch_max(&self, cell: &Cell) -> f64 {
        let profile = &self.profile;
        let context = cell.context_tokens / cell.requests.max(f64::MIN_POSITIVE);
        let per_request = profile.decode_milliseconds_per_request
            + profile.decode_milliseconds_per_megatoken * context * 1e-6;
        let left = self.tpot_seconds * 1e3 - profile.decode_base_milliseconds;
        let within = |left: f64| left / per_request.max(f64::MIN_POSITIVE);
        let on_stair =
            |stair: &DecodeStair| within(left - stair.milliseconds).min(f64::from(stair.batch));
        let stairs = profile.decode_stairs.iter();
        let by_latency = stairs.map(on_stair).max_by(f64::total_cmp);
        let by_latency = by_latency.unwrap_or_else(|| within(left));
        let by_memory = profile.kv_capacity_tokens as f64 * (1.0 - KV_KEPT_FREE) / context.max(1.0);
        by_latency
            .min(f64::from(profile.max_batch))
            .min(by_memory)
            .max(1.0)
    }
}

/// Length class of a prompt: eight per octave.
fn class(tokens: u32) -> u16 {
    let octave = tokens.max(1).ilog2();
    let within = if octave >= 3 {
        tokens >> (octave - 3)
    } else {
        tokens << (3 - octave)
    };
    u16::try_from(octave * 8 + (within & 7)).unwrap_or(u16::MAX)
}

impl PrefillWindow {
    fn add(&mut self, input_tokens: u32, compute: Nanos, gap: Option<Nanos>) {
        self.requests += 1;
        self.input_tokens += u64::from(input_tokens);
        if let Some(gap) = gap {
            let gap_seconds = seconds(gap);
            self.gaps += 1;
            self.gap_seconds += gap_seconds;
            self.gap_seconds_squared += gap_seconds * gap_seconds;
        }
        let class = class(input_tokens);
        let compute_seconds = seconds(compute);
        match self.classes.binary_search_by_key(&class, |entry| entry.0) {
            Ok(place) => {
                if let Some(entry) = self.classes.get_mut(place) {
                    entry.1 += 1;
                    entry.2 += compute_seconds;
                }
            }
            Err(place) => self.classes.insert(place, (class, 1, compute_seconds)),
        }
    }

    /// Prompt tokens per request, mean; 0 without any.
    pub fn mean_input_tokens(&self) -> u32 {
        let mean = self.input_tokens / self.requests.max(1);
        u32::try_from(mean).unwrap_or(u32::MAX)
    }

    /// Squared coefficient of variation of the gaps between arrivals; 1 when there are too few to
    /// tell.
    pub fn arrival_scv(&self) -> f64 {
        let gaps = self.gaps as f64;
        if gaps < 10.0 || self.gap_seconds <= 0.0 {
            return 1.0;
        }
        let mean = self.gap_seconds / gaps;
        (self.gap_seconds_squared / gaps / (mean * mean) - 1.0).max(0.0)
    }

    /// `(compute seconds, share of requests)`; shares sum to 1.
    pub fn service_shares(&self) -> Vec<(f64, f64)> {
        let requests = self.requests.max(1) as f64;
        let shares = self.classes.iter().map(|(_, count, compute_seconds)| {
            let count = f64::from(*count);
            (compute_seconds / count, count / requests)
        });
        shares.collect()
    }

    /// Share of prompts that compute longer than `limit_seconds`.
    pub(super) fn share_slower_than(&self, limit_seconds: f64) -> f64 {
        let slow = self.classes.iter().filter(|(_, count, compute_seconds)| {
            compute_seconds / f64::from(*count) > limit_seconds
        });
        let slow: u64 = slow.map(|entry| u64::from(entry.1)).sum();
        slow as f64 / self.requests.max(1) as f64
    }
}
