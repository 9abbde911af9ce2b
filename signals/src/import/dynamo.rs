//! The sweep of Dynamo's profiler as CSV, measured on real workers.
//!
//! Prefill: `tp,prefill_isl,prefill_ttft` (milliseconds, one prompt at a time). Decode:
//! `tp,pp,dp,max_kv_tokens,x_kv_usage,y_context_length,z_itl,z_thpt_per_gpu`, where the batch
//! follows from the share of the KV cache and the context.
//!
//! Measured sweeps have flaws that tables computed from kernels lack. A length whose time stands
//! out above both neighbours was disturbed and is left out. A decode point that offered more
//! requests than the engine ran at once shows too little throughput, and is left out too: its time
//! belongs to a smaller batch.

use std::collections::BTreeMap;

use pd_core::capacity::{
    coefficients::PrefillCoefficients,
    coefficients::PrefillSample,
    limits::{BATCH_LIMIT, KV_TOKENS_MAX},
    profile::{DecodeModel, PrefillModel, Profile},
    table::{DecodeTable, PrefillTable},
};

use super::{
    ImportError, Placed, Sheet, rising,
    table::{curves, milliseconds, once, tokens, with_parallelism},
};

const PREFILL: &str = "prefill sweep";
const DECODE: &str = "decode sweep";

/// A time is taken for disturbed when it is this many times what both neighbours say.
const DISTURBED: f64 = 1.3;

/// Share of the throughput expected of a batch, compared with the smallest one at the same context,
/// below which the engine did not run it at once. Long contexts lose up to a quarter to prefill.
const RAN_AT_ONCE: f64 = 0.7;

/// The profile of a replica with tensor parallelism `tp`, as tables.
pub fn profile(prefill: &str, decode: &str, tp: u32) -> Result<Profile, ImportError> {
    let (table, kv_capacity_tokens) = decode_table(decode, tp)?;
    let profile = Profile {
        prefill: Some(PrefillModel::Table(prefill_table(prefill, tp)?)),
        decode: Some(DecodeModel::Table(table)),
        kv_capacity_tokens: Some(kv_capacity_tokens),
        batch_max: None,
    };
    Ok(profile.validated()?)
}

/// Prefill seconds by length. Cached tokens were not measured: they cost what the fitted square
/// term says.
pub fn prefill_table(text: &str, tp: u32) -> Result<PrefillTable, ImportError> {
    let sheet = Sheet::parse(text, PREFILL)?;
    let mut seen = BTreeMap::new();
    let mut points: Vec<Placed> = Vec::new();
    for row in with_parallelism(&sheet, tp)? {
        let isl = tokens(row, "prefill_isl", 1.0)?;
        let point = [isl, 0.0, 0.0].map(f64::to_bits);
        once(&mut seen, point, row, || format!("isl {isl}"))?;
        points.push((isl, milliseconds(row, "prefill_ttft")?, row.line()));
    }
    points.sort_by(|one, other| one.0.total_cmp(&other.0));
    let points = undisturbed(&points);
    rising(&points, "prefill_ttft", 1e-3)?;
    let samples: Vec<PrefillSample> = points
        .iter()
        .map(|&(new_tokens, seconds, _)| PrefillSample {
            batch: 1.0,
            new_tokens,
            cached_tokens: 0.0,
            seconds,
        })
        .collect();
    let fitted = PrefillCoefficients::fitted(&samples).unwrap_or_default();
    let points = points
        .into_iter()
        .map(|(isl, seconds, _)| (isl, seconds))
        .collect();
    Ok(PrefillTable::new(
        points,
        2.0 * fitted.seconds_per_token_squared,
    )?)
}

/// Leaves out the points that stand out above the line between their neighbours and above the next.
fn undisturbed(points: &[Placed]) -> Vec<Placed> {
    let stands_out = |at: usize| {
        let neighbours = at
            .checked_sub(1)
            .map(|before| (points.get(before), points.get(at + 1)));
        let Some((Some(before), Some(after))) = neighbours else {
            return false;
        };
        let way = (points[at].0 - before.0) / (after.0 - before.0);
        let between = before.1 + (after.1 - before.1) * way;
        points[at].1 > after.1 && points[at].1 > DISTURBED * between
    };
    (0..points.len())
        .filter(|&at| !stands_out(at))
        .map(|at| points[at])
        .collect()
}

/// Seconds of a decode step by batch and context, and the tokens that the KV cache holds.
pub fn decode_table(text: &str, tp: u32) -> Result<(DecodeTable, f64), ImportError> {
    let sheet = Sheet::parse(text, DECODE)?;
    let mut seen = BTreeMap::new();
    let mut contexts: BTreeMap<u64, (f64, Vec<Measured>)> = BTreeMap::new();
    let mut kv_capacity_tokens = f64::INFINITY;
    for row in with_parallelism(&sheet, tp)? {
        let kv = row.number(
            "max_kv_tokens",
            1.0,
            KV_TOKENS_MAX,
            "a number of tokens from 1 to 1e12",
        )?;
        kv_capacity_tokens = kv_capacity_tokens.min(kv);
        let usage = row.number(
            "x_kv_usage",
            f64::MIN_POSITIVE,
            1.0,
            "a share above 0 and up to 1",
        )?;
        let context = tokens(row, "y_context_length", 1.0)?;
        let ranks = ["tp", "pp", "dp"].map(|column| row.number(column, 1.0, 65_536.0, "1 or more"));
        let [tp, pp, dp] = ranks;
        let gpus = tp? * pp? * dp?;
        let per_gpu = row.number(
            "z_thpt_per_gpu",
            0.0,
            1e9,
            "tokens per second from 0 to 1e9",
        )?;
        let seconds = milliseconds(row, "z_itl")?;
        // Usage is given in six digits, batches were whole.
        let batch = (usage * kv / context).round().clamp(1.0, BATCH_LIMIT);
        let point = [batch, context, 0.0].map(f64::to_bits);
        once(&mut seen, point, row, || {
            format!("batch {batch} at {context} tokens")
        })?;
        let measured = Measured {
            place: (batch, seconds, row.line()),
            running_share: per_gpu * gpus * seconds / batch,
        };
        let curve = contexts
            .entry(context.to_bits())
            .or_insert((context, Vec::new()));
        curve.1.push(measured);
    }
    let contexts = contexts
        .into_values()
        .map(|(context, points)| (context, run_at_once(points)));
    Ok((curves(contexts, "z_itl")?, kv_capacity_tokens))
}

#[derive(Clone, Copy, Debug)]
struct Measured {
    place: Placed,
    /// Requests running by Little's law, as a share of the batch that was offered.
    running_share: f64,
}

fn run_at_once(mut points: Vec<Measured>) -> Vec<Placed> {
    points.sort_by(|one, other| one.place.0.total_cmp(&other.place.0));
    let least = points
        .first()
        .map_or(0.0, |first| first.running_share.min(1.0) * RAN_AT_ONCE);
    points
        .into_iter()
        .filter(|point| point.running_share >= least)
        .map(|point| point.place)
        .collect()
}
