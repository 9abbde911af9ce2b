//! Tables of prefill, decode and KV capacity as CSV.
//!
//! Prefill: `tp,batch,isl,cached_prefix_tokens,prefill_ms`, where `isl` counts the cached tokens
//! too. Decode: `tp,batch,context_tokens,itl_ms`. KV: `tp,kv_capacity_tokens_per_instance`.
//! Further columns are ignored but `oom`, whose rows (1) never ran and are left out. Rows may
//! stand in any order and for several tensor parallelisms; the caller says which one the replica
//! has.

use std::collections::BTreeMap;

use pd_core::capacity::{
    coefficients::{DecodeSample, PrefillCoefficients, PrefillSample},
    limits::{BATCH_LIMIT, KV_TOKENS_MAX, PREFILL_TOKENS_MAX, SECONDS_MAX},
    profile::{DecodeModel, PrefillModel, Profile},
    table::{DecodeTable, PrefillTable},
};

use super::{ImportError, Placed, Row, Sheet, rising};

const PREFILL: &str = "prefill table";
const DECODE: &str = "decode table";
const KV: &str = "KV table";
const MILLISECOND: f64 = 1e-3;

/// The profile of a replica with tensor parallelism `tp`, as tables.
pub fn profile(
    prefill: &str,
    decode: &str,
    kv: Option<&str>,
    tp: u32,
) -> Result<Profile, ImportError> {
    let profile = Profile {
        prefill: Some(PrefillModel::Table(prefill_table(prefill, tp)?)),
        decode: Some(DecodeModel::Table(decode_table(decode, tp)?)),
        kv_capacity_tokens: kv.map(|text| kv_capacity_tokens(text, tp)).transpose()?,
        batch_max: None,
    };
    Ok(profile.validated()?)
}

/// The times of one prompt alone by its length, with the cost of cached tokens.
pub fn prefill_table(text: &str, tp: u32) -> Result<PrefillTable, ImportError> {
    let placed = placed_prefill(text, tp)?;
    let mut points: Vec<Placed> = placed
        .iter()
        .filter(|(sample, _)| sample.batch <= 1.0 && sample.cached_tokens <= 0.0)
        .map(|(sample, line)| (sample.new_tokens, sample.seconds, *line))
        .collect();
    points.sort_by(|one, other| one.0.total_cmp(&other.0));
    rising(&points, "prefill_ms", MILLISECOND)?;
    let points: Vec<(f64, f64)> = points
        .into_iter()
        .map(|(x, seconds, _)| (x, seconds))
        .collect();
    let samples: Vec<PrefillSample> = placed.into_iter().map(|(sample, _)| sample).collect();
    let uncached = PrefillTable::new(points.clone(), 0.0)?;
    let per_pair = seconds_per_pair(&samples, &uncached);
    Ok(PrefillTable::new(points, per_pair)?)
}

/// Seconds that each pair of a computed and a cached token adds, by least squares of relative
/// errors; by the coefficients' square term where nothing cached was measured.
fn seconds_per_pair(samples: &[PrefillSample], uncached: &PrefillTable) -> f64 {
    let cached = samples
        .iter()
        .filter(|sample| sample.batch <= 1.0 && sample.cached_tokens > 0.0);
    let (mut product, mut square) = (0.0, 0.0);
    for sample in cached {
        let more = sample.seconds - uncached.seconds(sample.new_tokens, 0.0);
        let pairs = sample.new_tokens * sample.cached_tokens / sample.seconds;
        product += more / sample.seconds * pairs;
        square += pairs * pairs;
    }
    if square > 0.0 {
        return (product / square).max(0.0);
    }
    let fitted = PrefillCoefficients::fitted(samples).unwrap_or_default();
    2.0 * fitted.seconds_per_token_squared
}

/// The times of a decode step by batch and context.
pub fn decode_table(text: &str, tp: u32) -> Result<DecodeTable, ImportError> {
    let mut contexts: BTreeMap<u64, (f64, Vec<Placed>)> = BTreeMap::new();
    for (sample, line) in placed_decode(text, tp)? {
        let context = sample.context_tokens;
        // Positive numbers sort as their bits do.
        let curve = contexts
            .entry(context.to_bits())
            .or_insert((context, Vec::new()));
        curve.1.push((sample.batch, sample.seconds, line));
    }
    curves(contexts.into_values(), "itl_ms")
}

/// A decode table of unsorted `(context, points)`, contexts in rising order.
pub(super) fn curves(
    contexts: impl Iterator<Item = (f64, Vec<Placed>)>,
    column: &'static str,
) -> Result<DecodeTable, ImportError> {
    let mut curves = Vec::new();
    for (context, mut points) in contexts {
        points.sort_by(|one, other| one.0.total_cmp(&other.0));
        rising(&points, column, MILLISECOND)?;
        let points = points
            .into_iter()
            .map(|(batch, seconds, _)| (batch, seconds));
        curves.push((context, points.collect()));
    }
    Ok(DecodeTable::new(curves)?)
}

/// Tokens that the KV cache of a replica with tensor parallelism `tp` holds.
pub fn kv_capacity_tokens(text: &str, tp: u32) -> Result<f64, ImportError> {
    let sheet = Sheet::parse(text, KV)?;
    let mut found: Option<(f64, u64)> = None;
    for row in with_parallelism(&sheet, tp)? {
        let wanted = "a number of tokens from 1 to 1e12";
        let tokens = row.number(
            "kv_capacity_tokens_per_instance",
            1.0,
            KV_TOKENS_MAX,
            wanted,
        )?;
        if let Some((_, before)) = found {
            let point = format!("tp {tp}");
            return Err(ImportError::Duplicate {
                line: row.line(),
                before,
                point,
            });
        }
        found = Some((tokens, row.line()));
    }
    found
        .map(|(tokens, _)| tokens)
        .ok_or(ImportError::Empty { what: KV })
}

fn placed_prefill(text: &str, tp: u32) -> Result<Vec<(PrefillSample, u64)>, ImportError> {
    let sheet = Sheet::parse(text, PREFILL)?;
    let mut seen = BTreeMap::new();
    let mut samples = Vec::new();
    for row in with_parallelism(&sheet, tp)? {
        let batch = batch(row)?;
        let isl = tokens(row, "isl", 1.0)?;
        let cached_tokens = tokens(row, "cached_prefix_tokens", 0.0)?;
        if cached_tokens >= isl {
            let cell = row.cell("cached_prefix_tokens")?;
            return Err(row.refuse("cached_prefix_tokens", cell, "less than `isl`"));
        }
        let point = [batch, isl, cached_tokens].map(f64::to_bits);
        once(&mut seen, point, row, || {
            format!("batch {batch}, isl {isl} with {cached_tokens} cached")
        })?;
        let sample = PrefillSample {
            batch,
            new_tokens: isl - cached_tokens,
            cached_tokens,
            seconds: milliseconds(row, "prefill_ms")?,
        };
        if ran(row)? {
            samples.push((sample, row.line()));
        }
    }
    Ok(samples)
}

fn placed_decode(text: &str, tp: u32) -> Result<Vec<(DecodeSample, u64)>, ImportError> {
    let sheet = Sheet::parse(text, DECODE)?;
    let mut seen = BTreeMap::new();
    let mut samples = Vec::new();
    for row in with_parallelism(&sheet, tp)? {
        let batch = batch(row)?;
        let context_tokens = tokens(row, "context_tokens", 1.0)?;
        let point = [batch, context_tokens, 0.0].map(f64::to_bits);
        once(&mut seen, point, row, || {
            format!("batch {batch} at {context_tokens} tokens")
        })?;
        let sample = DecodeSample {
            batch,
            context_tokens,
            seconds: milliseconds(row, "itl_ms")?,
        };
        if ran(row)? {
            samples.push((sample, row.line()));
        }
    }
    Ok(samples)
}

/// The rows for tensor parallelism `tp`, of which there is at least one.
pub(super) fn with_parallelism(sheet: &Sheet, tp: u32) -> Result<Vec<Row<'_>>, ImportError> {
    let mut others = Vec::new();
    let mut rows = Vec::new();
    for row in sheet.rows() {
        let wanted = "a tensor parallelism of 1 or more";
        let found = row.number("tp", 1.0, 65_536.0, wanted)?;
        if (found - f64::from(tp)).abs() < 0.5 {
            rows.push(row);
        } else if !others.contains(&found) {
            others.push(found);
        }
    }
    if rows.is_empty() {
        let others: Vec<String> = others.iter().map(f64::to_string).collect();
        return Err(ImportError::Parallelism {
            what: sheet.what,
            wanted: tp,
            found: others.join(", "),
        });
    }
    Ok(rows)
}

/// Refuses a point that was measured before.
pub(super) fn once(
    seen: &mut BTreeMap<[u64; 3], u64>,
    point: [u64; 3],
    row: Row<'_>,
    name: impl FnOnce() -> String,
) -> Result<(), ImportError> {
    match seen.insert(point, row.line()) {
        None => Ok(()),
        Some(before) => Err(ImportError::Duplicate {
            line: row.line(),
            before,
            point: name(),
        }),
    }
}

pub(super) fn tokens(row: Row<'_>, column: &'static str, least: f64) -> Result<f64, ImportError> {
    let wanted = if least > 0.0 {
        "a number of tokens from 1 to 1e8"
    } else {
        "a number of tokens from 0 to 1e8"
    };
    row.number(column, least, PREFILL_TOKENS_MAX, wanted)
}

pub(super) fn milliseconds(row: Row<'_>, column: &'static str) -> Result<f64, ImportError> {
    let wanted = "a number of milliseconds above 0 and up to one day";
    let most = SECONDS_MAX / MILLISECOND;
    Ok(row.number(column, f64::MIN_POSITIVE, most, wanted)? * MILLISECOND)
}

fn batch(row: Row<'_>) -> Result<f64, ImportError> {
    row.number("batch", 1.0, BATCH_LIMIT, "a batch from 1 to 1e6")
}

/// Whether the row could run at all.
fn ran(row: Row<'_>) -> Result<bool, ImportError> {
    match row.number("oom", 0.0, 1.0, "0 or 1") {
        Ok(oom) => Ok(oom < 0.5),
        Err(ImportError::Column { .. }) => Ok(true),
        Err(error) => Err(error),
    }
}
