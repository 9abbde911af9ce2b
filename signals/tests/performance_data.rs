//! Profiles and imports against the performance data that the project's figures come from.
//!
//! The data is large and stands beside the workspace, where it is at all: `../shared/perf` and
//! `../shared/aiconfigurator-output`. Without it these tests say so and pass; small fixtures of
//! the same forms are tested beside the code. What holds here are numbers: how well the formulas
//! fit each table, how much better tables interpolate where formulas fail, and that every real
//! file imports.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed step of a test ends it"
)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use pd_core::{
    PerRole, Role,
    capacity::{
        coefficients::{DecodeCoefficients, DecodeSample, PrefillCoefficients, PrefillSample},
        table::DecodeTable,
    },
};
use pd_signals::import::{
    aiconfigurator::{self, OperatingPoint},
    dynamo, table,
};

/// The folder of that name beside the workspace, or nothing, said aloud.
fn shared(name: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../shared")
        .join(name);
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("skipped: no folder `{name}` with the shared data beside the workspace");
    None
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// One row of the published fits.
struct Published {
    case: String,
    tp: u32,
    prefill: PrefillCoefficients,
    prefill_error: f64,
    decode: DecodeCoefficients,
    decode_error: f64,
}

fn published(folder: &Path) -> Vec<Published> {
    let text = read(&folder.join("fits.csv"));
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap().split(',').collect();
    lines
        .map(|line| {
            let cells: BTreeMap<&str, &str> = header.iter().copied().zip(line.split(',')).collect();
            let number = |column: &str| cells[column].parse::<f64>().unwrap();
            Published {
                case: cells["case"].to_owned(),
                tp: cells["tp"].parse().unwrap(),
                prefill: PrefillCoefficients {
                    base_seconds: number("prefill_const_ms") * 1e-3,
                    seconds_per_token: number("prefill_ms_per_1k_tokens") * 1e-6,
                    seconds_per_token_squared: number("prefill_ms_per_1M_tokens_sq") * 1e-9,
                },
                prefill_error: number("prefill_fit_mape_pct") / 100.0,
                decode: DecodeCoefficients {
                    base_seconds: number("decode_const_ms") * 1e-3,
                    seconds_per_request: number("decode_ms_per_seq") * 1e-3,
                    seconds_per_context_token: number("decode_ms_per_1M_batch_context_tokens")
                        * 1e-9,
                },
                decode_error: number("decode_fit_mape_pct") / 100.0,
            }
        })
        .collect()
}

/// The rows of a table for tensor parallelism `tp` that ran, as numbers by column.
fn rows(text: &str, tp: u32) -> Vec<BTreeMap<String, f64>> {
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let rows = reader.deserialize::<BTreeMap<String, String>>();
    let numbers = rows.map(|row| {
        let cells = row.unwrap().into_iter();
        cells
            .filter_map(|(column, cell)| Some((column, cell.parse().ok()?)))
            .collect::<BTreeMap<String, f64>>()
    });
    let ran = |row: &BTreeMap<String, f64>| row.get("oom").is_none_or(|oom| *oom < 0.5);
    numbers
        .filter(|row| (row["tp"] - f64::from(tp)).abs() < 0.5 && ran(row))
        .collect()
}

fn prefill_samples(text: &str, tp: u32) -> Vec<PrefillSample> {
    let sample = |row: BTreeMap<String, f64>| PrefillSample {
        batch: row["batch"],
        new_tokens: row["isl"] - row["cached_prefix_tokens"],
        cached_tokens: row["cached_prefix_tokens"],
        seconds: row["prefill_ms"] * 1e-3,
    };
    rows(text, tp).into_iter().map(sample).collect()
}

fn decode_samples(text: &str, tp: u32) -> Vec<DecodeSample> {
    let sample = |row: BTreeMap<String, f64>| DecodeSample {
        batch: row["batch"],
        context_tokens: row["context_tokens"],
        seconds: row["itl_ms"] * 1e-3,
    };
    rows(text, tp).into_iter().map(sample).collect()
}

/// Shares of its workers' rates that `AIConfigurator` plans with.
const RATE_SHARES: PerRole<f64> = PerRole {
    prefill: 0.9,
    decode: 0.92,
};

/// Requests per second that follow from workers and their rates.
fn planned_rate_rps(point: &OperatingPoint) -> f64 {
    let planned = |role: Role| {
        RATE_SHARES[role] * f64::from(point.workers[role]) * point.rate_per_worker_rps[role]
    };
    planned(Role::Prefill).min(planned(Role::Decode))
}

fn is_mixture(case: &str) -> bool {
    case.starts_with("gpt-oss") || case.contains("-a22b") || case.contains("-a3b")
}

#[test]
fn coefficients_fit_every_table_as_well_as_published() {
    let Some(folder) = shared("perf/aic") else {
        return;
    };
    for Published {
        case,
        tp,
        prefill,
        prefill_error,
        decode,
        decode_error,
    } in published(&folder)
    {
        let prefills = read(&folder.join(format!("{case}__prefill.csv")));
        let all = prefill_samples(&prefills, tp);
        let uncached: Vec<_> = all
            .iter()
            .copied()
            .filter(|s| s.cached_tokens <= 0.0)
            .collect();
        let fitted = PrefillCoefficients::fitted(&uncached).unwrap();
        let error = fitted.mean_relative_error(&uncached).unwrap();
        let cached = PrefillCoefficients::fitted(&all)
            .unwrap()
            .mean_relative_error(&all)
            .unwrap();
        let decodes = read(&folder.join(format!("{case}__decode.csv")));
        let steps = decode_samples(&decodes, tp);
        let fit = DecodeCoefficients::fitted(&steps).unwrap();
        let step_error = fit.mean_relative_error(&steps).unwrap();
        let case = format!("{case} at TP {tp}");
        assert!(
            error < prefill_error + 0.004,
            "{case}: prefill {error} for {prefill_error}"
        );
        assert!(
            step_error < decode_error + 0.004,
            "{case}: decode {step_error} for {decode_error}"
        );
        assert!(
            error < 0.07 && cached < 0.11,
            "{case}: prefill {error}, with cached {cached}"
        );
        assert!(
            is_mixture(&case) || step_error < 0.08,
            "{case}: decode {step_error}"
        );
        let near = |found: f64, published: f64| (found / published - 1.0).abs() < 0.1;
        assert!(
            near(fitted.seconds_per_token, prefill.seconds_per_token),
            "{case}: {fitted:?}"
        );
        assert!(
            near(fit.base_seconds, decode.base_seconds),
            "{case}: {fit:?}"
        );
        let (found, known) = (
            fit.seconds_per_context_token,
            decode.seconds_per_context_token,
        );
        assert!(near(found, known), "{case}: {fit:?}");
    }
}

#[test]
fn tables_of_mixtures_predict_left_out_points() {
    let Some(folder) = shared("perf/aic") else {
        return;
    };
    for Published { case, tp, .. } in published(&folder) {
        let text = read(&folder.join(format!("{case}__decode.csv")));
        let samples = decode_samples(&text, tp);
        let error = left_out_error(&samples);
        let fit = DecodeCoefficients::fitted(&samples)
            .unwrap()
            .mean_relative_error(&samples)
            .unwrap();
        if is_mixture(&case) {
            assert!(
                error < 0.045 && error < 0.7 * fit,
                "{case} at TP {tp}: {error}, a fit {fit}"
            );
        } else {
            assert!(error < 0.09, "{case} at TP {tp}: {error}, a fit {fit}");
        }
    }
}

/// Mean relative error of a table on each inner point that it was not given.
fn left_out_error(samples: &[DecodeSample]) -> f64 {
    let mut contexts: BTreeMap<u64, Vec<(f64, f64)>> = BTreeMap::new();
    for sample in samples {
        let curve = contexts.entry(sample.context_tokens.to_bits()).or_default();
        curve.push((sample.batch, sample.seconds));
    }
    let (mut sum, mut count) = (0.0, 0.0);
    for (context, points) in &contexts {
        for left_out in 1..points.len().saturating_sub(1) {
            let mut rest = points.clone();
            let (batch, seconds) = rest.remove(left_out);
            let context = f64::from_bits(*context);
            let table = DecodeTable::new(vec![(context, rest)]).unwrap();
            sum += (table.itl_seconds(batch, context) / seconds - 1.0).abs();
            count += 1.0;
        }
    }
    sum / count
}

#[test]
fn every_table_imports_and_is_exact_where_it_was_measured() {
    let Some(folder) = shared("perf/aic") else {
        return;
    };
    for Published { case, tp, .. } in published(&folder) {
        let part = |part: &str| read(&folder.join(format!("{case}__{part}.csv")));
        let (prefills, decodes) = (part("prefill"), part("decode"));
        let profile = table::profile(&prefills, &decodes, Some(&part("kv")), tp)
            .unwrap_or_else(|error| panic!("{case} tp{tp}: {error}"));
        assert!(profile.kv_capacity_tokens.unwrap() > 1e5);
        let (mut cached_error, mut cached) = (0.0, 0.0);
        for sample in prefill_samples(&prefills, tp) {
            let seconds = profile
                .prefill
                .as_ref()
                .unwrap()
                .seconds(sample.new_tokens, sample.cached_tokens);
            if sample.cached_tokens > 0.0 {
                cached_error += (seconds / sample.seconds - 1.0).abs();
                cached += 1.0;
            } else if sample.batch <= 1.0 {
                assert!((seconds / sample.seconds - 1.0).abs() < 1e-12);
            }
        }
        assert!(
            cached_error / cached < 0.05,
            "{case} at TP {tp}: {}",
            cached_error / cached
        );
        for sample in decode_samples(&decodes, tp) {
            let seconds = profile
                .decode
                .as_ref()
                .unwrap()
                .itl_seconds(sample.batch, sample.context_tokens);
            assert!((seconds / sample.seconds - 1.0).abs() < 1e-12);
        }
    }
}

#[test]
fn measured_sweeps_import_without_their_flaws() {
    let Some(folder) = shared("perf/dynamo_profiling") else {
        return;
    };
    for (case, tps) in [
        ("llama31-8b-fp8__h200_sxm__vllm", [1].as_slice()),
        ("llama33-70b-fp8__h100_sxm__vllm", [2, 4, 8].as_slice()),
    ] {
        let prefills = read(&folder.join(format!("{case}__prefill.csv")));
        let decodes = read(&folder.join(format!("{case}__decode.csv")));
        for &tp in tps {
            let profile = dynamo::profile(&prefills, &decodes, tp)
                .unwrap_or_else(|error| panic!("{case} tp{tp}: {error}"));
            // At TP 8 one prompt of 6,205 tokens took 498 ms, between 162 ms and 321 ms.
            if tp == 8 {
                assert!(
                    (0.23..0.25).contains(&profile.prefill.as_ref().unwrap().seconds(6_205.0, 0.0))
                );
            }
            // 1,573 requests of 350 tokens were offered, of which about 800 ran at once.
            if tp == 1 {
                assert!(profile.batch_within(10.0, 350.0) < 1_100.0);
            }
            let batch = profile.batch_within(0.03, 3_000.0);
            assert!(
                profile.decode.as_ref().unwrap().itl_seconds(batch, 3_000.0) < 0.030_001,
                "{case}: {batch}"
            );
        }
    }
}

#[test]
fn results_of_aiconfigurator_import_and_their_rates_follow_from_their_workers() {
    let Some(folder) = shared("aiconfigurator-output") else {
        return;
    };
    let (mut tables, mut deployments) = (0, 0);
    let mut folders = vec![folder];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let disaggregated = path.components().any(|part| part.as_os_str() == "disagg");
            if path.is_dir() {
                folders.push(path);
            } else if disaggregated
                && ["best_config_topn.csv", "pareto.csv"].contains(&name.as_str())
            {
                for point in aiconfigurator::operating_points(&read(&path)).unwrap() {
                    let off = planned_rate_rps(&point) / point.request_rate_rps - 1.0;
                    // Rates per worker are given to a thousandth of a request per second.
                    assert!(off.abs() < 0.000_5, "{name}: {point:?}");
                    assert!([8, 16, 24, 32].contains(&point.gpus()), "{name}: {point:?}");
                }
                tables += 1;
            } else if disaggregated && name == "generator_config.yaml" {
                let deployment = aiconfigurator::deployment(&read(&path)).unwrap();
                assert!(deployment.workers.prefill >= 1 && deployment.input_tokens > 3_999.0);
                deployments += 1;
            }
        }
    }
    assert!(
        tables >= 8 && deployments >= 8,
        "{tables} tables, {deployments} deployments"
    );
}
