//! Results as text and as CSV.
//!
//! The text has one block per trace and lead time. Policies that attain the objective come first,
//! the cheapest on top; those that do not follow by attainment, since a cheap miss is no bargain.

use std::cmp::Ordering;
use std::fmt::Write as _;

use serde::Serialize;
use serde_json::Value;
use thiserror::Error;

use super::Row;
use crate::simulate::outcome::RunOutcome;

/// Columns of the CSV: the keys of the JSON, in its order.
const COLUMNS: &str = "trace policy seed leadSeconds prefillLeadSeconds decodeLeadSeconds \
    ttftLimitSeconds tpotLimitSeconds attainmentGoalPercent simulatedSeconds requests completed \
    refused unfinished attainmentPercent ttftAttainmentPercent tpotAttainmentPercent \
    worstHourAttainmentPercent ttftP50Seconds ttftP95Seconds ttftP99Seconds tpotP50Seconds \
    tpotP95Seconds tpotP99Seconds gpuHours prefillGpuHours decodeGpuHours clairvoyantGpuHours \
    clairvoyantPrefillGpuHours clairvoyantDecodeGpuHours gpuHoursOverClairvoyant \
    clairvoyantOverallGpuHours clairvoyantOverallPrefillGpuHours clairvoyantOverallDecodeGpuHours \
    gpuHoursOverClairvoyantOverall staticPeakGpuHours prefillReplicasMax decodeReplicasMax decisions \
    scaleEvents reversals droppedByScaleDown restarted budgetOvershootGpuSeconds ratioOutOfBandSeconds \
    auditFindings tunedPrefillAggressiveness tunedDecodeAggressiveness \
    tunedAttainmentPercent";

/// Whether a run attained its objective.
pub(crate) fn attains(outcome: &RunOutcome) -> bool {
    let goal = f64::from(outcome.attainment_goal_percent);
    outcome
        .attainment_percent
        .is_some_and(|percent| percent >= goal)
}

/// The order in which results of one trace and lead time are shown.
pub(super) fn by_merit(a: &Row, b: &Row) -> Ordering {
    let attained = attains(&b.outcome).cmp(&attains(&a.outcome));
    attained.then_with(|| {
        if attains(&a.outcome) {
            a.outcome.gpu_hours.total_cmp(&b.outcome.gpu_hours)
        } else {
            let percent = |row: &Row| row.outcome.attainment_percent.unwrap_or(0.0);
            percent(b).total_cmp(&percent(a))
        }
    })
}

/// Rows of one trace and lead time, by merit, in order of first appearance.
pub(super) fn blocks<'a>(rows: &[&'a Row]) -> Vec<Vec<&'a Row>> {
    let same = |a: &Row, b: &Row| {
        a.trace == b.trace
            && a.outcome
                .lead_seconds
                .total_cmp(&b.outcome.lead_seconds)
                .is_eq()
    };
    let mut blocks: Vec<Vec<&Row>> = Vec::new();
    for row in rows {
        match blocks.iter_mut().find(|block| same(block[0], row)) {
            Some(block) => block.push(row),
            None => blocks.push(vec![row]),
        }
    }
    for block in &mut blocks {
        block.sort_by(|a, b| by_merit(a, b));
    }
    blocks
}

/// The results for people.
pub(super) fn text(rows: &[&Row]) -> String {
    let mut text = String::new();
    for block in blocks(rows) {
        let Some(first) = block.first() else { continue };
        let outcome = &first.outcome;
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{}, lead {} s: {} requests in {:.2} h, {} % wanted within {} ms and {} ms",
            first.trace,
            outcome.lead_seconds,
            outcome.requests,
            outcome.simulated_seconds / 3_600.0,
            outcome.attainment_goal_percent,
            number(outcome.ttft_limit_seconds * 1e3),
            number(outcome.tpot_limit_seconds * 1e3),
        );
        let _ = writeln!(
            text,
            "  {:<31} {:>10} {:>10} {:>9} {:>7} {:>9} {:>8}",
            "policy", "attainment", "worst hour", "GPU-hours", "x bound", "reversals", "dropped"
        );
        for row in block {
            let _ = writeln!(text, "{}", line(row));
        }
        text.push('\n');
    }
    text.push_str(
        "* misses the objective. x bound: GPU-hours over those of the clairvoyant plan that holds every minute.\n",
    );
    text
}

fn line(row: &Row) -> String {
    let outcome = &row.outcome;
    let percent =
        |share: Option<f64>| share.map_or("-".to_owned(), |share| format!("{share:.2} %"));
    let over = outcome
        .gpu_hours_over_clairvoyant
        .map_or("-".to_owned(), |over| format!("{over:.3}"));
    format!(
        "{} {:<31} {:>10} {:>10} {:>9.1} {:>7} {:>9} {:>8}",
        if attains(outcome) { ' ' } else { '*' },
        outcome.policy,
        percent(outcome.attainment_percent),
        percent(outcome.worst_hour_attainment_percent),
        outcome.gpu_hours,
        over,
        outcome.reversals,
        outcome.dropped_by_scale_down,
    )
}

/// A number with no more digits than it needs.
fn number(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

/// Results that cannot be written as CSV.
#[derive(Debug, Error)]
#[error("the result cannot be written as CSV: {0}")]
pub struct CsvError(String);

/// Results as CSV: a header of `columns`, then those keys of each row's JSON.
pub(crate) fn csv<T: Serialize>(columns: &[&str], rows: &[T]) -> Result<String, CsvError> {
    let told = |error: &dyn std::fmt::Display| CsvError(error.to_string());
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(columns).map_err(|error| told(&error))?;
    for row in rows {
        let value = serde_json::to_value(row).map_err(|error| told(&error))?;
        let field = |column: &&str| match value.get(column) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        writer
            .write_record(columns.iter().map(field))
            .map_err(|error| told(&error))?;
    }
    let bytes = writer.into_inner().map_err(|error| told(&error))?;
    String::from_utf8(bytes).map_err(|error| told(&error))
}

/// The columns of a comparison.
pub(crate) fn columns() -> Vec<&'static str> {
    COLUMNS.split_whitespace().collect()
}
