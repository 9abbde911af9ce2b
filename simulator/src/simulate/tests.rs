//! Runs as a whole: the keys of a result, the same result twice, and what is refused before a run.

use std::io::Write as _;
use std::path::Path;

use clap::ValueEnum;
use serde_json::Value;

use super::*;
use crate::autoscaler::Fixed;
use crate::testing::{on_the_ramp, parsed};

/// The options of a run of the shipped trace, with further ones.
fn options(further: &[&str]) -> SimulateOptions {
    let with: Vec<&str> = ["--output", "json"]
        .iter()
        .chain(further)
        .copied()
        .collect();
    on_the_ramp("1", &with)
}

/// The JSON of a run, less what depends on the machine.
fn played(options: &SimulateOptions) -> Value {
    let mut result: Value = serde_json::from_str(&run(options).unwrap()).unwrap();
    let object = result.as_object_mut().unwrap();
    object.remove("wallSeconds").unwrap();
    object.remove("simulatedRequestsPerSecond").unwrap();
    result
}

fn number(result: &Value, key: &str) -> f64 {
    result[key]
        .as_f64()
        .unwrap_or_else(|| panic!("`{key}` is {}", result[key]))
}

fn count(result: &Value, key: &str) -> u64 {
    result[key]
        .as_u64()
        .unwrap_or_else(|| panic!("`{key}` is {}", result[key]))
}

/// Keys are what other people's scripts read. Add at will; never rename one.
const KEYS: &str = "policy seed leadSeconds prefillLeadSeconds decodeLeadSeconds ttftLimitSeconds \
    tpotLimitSeconds attainmentGoalPercent simulatedSeconds requests completed refused unfinished \
    attainmentPercent ttftAttainmentPercent tpotAttainmentPercent worstHourAttainmentPercent \
    ttftP50Seconds ttftP95Seconds ttftP99Seconds tpotP50Seconds tpotP95Seconds tpotP99Seconds \
    gpuHours prefillGpuHours decodeGpuHours clairvoyantGpuHours clairvoyantPrefillGpuHours \
    clairvoyantDecodeGpuHours gpuHoursOverClairvoyant clairvoyantOverallGpuHours \
    clairvoyantOverallPrefillGpuHours clairvoyantOverallDecodeGpuHours \
    gpuHoursOverClairvoyantOverall staticPeakGpuHours prefillReplicasMax decodeReplicasMax decisions \
    scaleEvents reversals droppedByScaleDown restarted budgetOvershootGpuSeconds \
    ratioOutOfBandSeconds auditFindings tunedPrefillAggressiveness tunedDecodeAggressiveness tunedAttainmentPercent wallSeconds simulatedRequestsPerSecond";

#[test]
fn the_keys_of_a_result_are_stable() {
    let json = run(&options(&[])).unwrap();
    let keys = json
        .lines()
        .filter_map(|line| line.trim().strip_prefix('"')?.split_once('"'));
    let keys: Vec<&str> = keys.map(|(key, _)| key).collect();
    assert_eq!(keys, KEYS.split_whitespace().collect::<Vec<_>>());
}

#[test]
fn the_same_seed_gives_the_same_result_and_another_seed_other_copies() {
    let twice = ["--copies", "3", "--seed", "5"];
    let first = played(&options(&twice));
    assert_eq!(first, played(&options(&twice)));
    let mut other = played(&options(&["--copies", "3", "--seed", "6"]));
    assert_eq!(count(&first, "requests"), count(&other, "requests"));
    other["seed"] = first["seed"].clone();
    assert_ne!(first, other);
}

#[test]
fn every_policy_loses_no_request_and_counts_every_gpu() {
    for policy in PolicyName::value_variants() {
        let name = policy.to_string();
        let result = played(&options(&["--policy", &name, "--copies", "4"]));
        assert_eq!(result["policy"], name);
        let ended = count(&result, "completed") + count(&result, "refused");
        assert_eq!(count(&result, "requests"), ended, "{result}");
        for key in [
            "unfinished",
            "droppedByScaleDown",
            "restarted",
            "auditFindings",
        ] {
            assert_eq!(count(&result, key), 0, "{key} of {result}");
        }
        let (prefill, decode) = (
            number(&result, "prefillGpuHours"),
            number(&result, "decodeGpuHours"),
        );
        assert!((number(&result, "gpuHours") - prefill - decode).abs() < 1e-9);
        let overall = number(&result, "clairvoyantOverallGpuHours");
        assert!(
            overall <= number(&result, "clairvoyantGpuHours"),
            "{result}"
        );
        if !matches!(policy, PolicyName::Peer(..)) {
            assert!(number(&result, "attainmentPercent") > 95.0, "{result}");
        }
    }
}

#[test]
fn static_hindsight_is_the_fewest_that_attain() {
    let run = Run::prepare(&options(&["--copies", "6"])).unwrap();
    let replicas = static_hindsight::search(&run).unwrap();
    let attained = |replicas| {
        let fixed = Box::new(Fixed::new(replicas));
        let ledger = run
            .ledger(run.scenario_from(replicas), fixed, u64::MAX)
            .unwrap();
        ledger.attained() as f64 / ledger.requests() as f64
    };
    assert!(attained(replicas) >= 0.99);
    assert!(replicas.prefill > 1, "{replicas:?}");
    let fewer = PerRole {
        prefill: replicas.prefill - 1,
        ..replicas
    };
    assert!(attained(fewer) < 0.99);
}

#[test]
fn a_longer_lead_is_the_options_word_and_hours_cut_the_run() {
    let result = played(&options(&["--lead", "5m", "--hours", "0.1"]));
    assert_eq!(result["leadSeconds"], 300.0);
    assert_eq!(result["simulatedSeconds"], 360.0);
    assert!(count(&result, "requests") < 600);
}

#[test]
fn a_broken_trace_is_refused_before_anything_is_played() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"timestamp_s,input_tokens,output_tokens\n1,2,3\n0,2,3\n")
        .unwrap();
    let options = SimulateOptions {
        trace: Some(file.path().to_owned()),
        ..options(&[])
    };
    let message = run(&options).unwrap_err().to_string();
    assert!(
        message.contains("line 3 has `timestamp_s` `0`"),
        "{message}"
    );
}

#[test]
fn an_objective_that_nothing_attains_is_told() {
    let tight = "
spec:
  prefill:
    target: {apiVersion: apps/v1, kind: Deployment, name: prefill}
    maxReplicas: 64
  decode:
    target: {apiVersion: apps/v1, kind: Deployment, name: decode}
    maxReplicas: 64
  objective:
    ttft: {target: 20ms, percentile: 99}
    tpot: {target: 25ms, percentile: 99}
";
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(tight.as_bytes()).unwrap();
    let options = SimulateOptions {
        scenario: Some(file.path().to_owned()),
        ..options(&["--policy", "static-hindsight"])
    };
    let message = run(&options).unwrap_err().to_string();
    assert!(
        message.contains("no fixed number of replicas up to 64 prefill"),
        "{message}"
    );
}

#[test]
fn bad_options_are_refused_by_name() {
    for (option, value, remedy) in [
        ("--lead", "120", "120s or 5m"),
        ("--lead", "25h", "at most 24h"),
        ("--hours", "0", "0.01 to 100000"),
        ("--hours", "-1", "0.01 to 100000"),
        ("--copies", "0", "1..=1000"),
        ("--policy", "magic", "clairvoyant-overall"),
        ("--output", "xml", "json"),
        ("--seed", "-1", "-1"),
    ] {
        let refused = parsed::<SimulateOptions>(&[option, value]).unwrap_err();
        let message = refused.to_string();
        assert!(
            message.contains(option) && message.contains(remedy),
            "{message}"
        );
    }
}

#[test]
fn the_embedded_day_plays_without_a_trace() {
    let options = SimulateOptions {
        trace: None,
        ..options(&["--hours", "0.5"])
    };
    assert!(count(&played(&options), "requests") > 5_000);
}

#[test]
fn drawn_traffic_plays_by_flags_and_follows_its_seed() {
    let drawn = |seed: &str| {
        let flags = [
            "--output",
            "json",
            "--traffic",
            "burst",
            "--rate",
            "3",
            "--hours",
            "1",
            "--seed",
            seed,
        ];
        played(&parsed(&flags).unwrap())
    };
    let first = drawn("1");
    assert!(
        (9_000..16_000).contains(&count(&first, "requests")),
        "{first}"
    );
    assert_eq!(first, drawn("1"));
    assert_ne!(count(&first, "requests"), count(&drawn("2"), "requests"));
}

#[test]
fn the_shipped_faults_strike_and_the_service_recovers() {
    let scenario = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/faults.yaml");
    let options = SimulateOptions {
        scenario: Some(scenario),
        trace: None,
        ..options(&["--hours", "3"])
    };
    let result = played(&options);
    assert!(count(&result, "restarted") > 0, "{result}");
    for key in ["unfinished", "droppedByScaleDown", "auditFindings"] {
        assert_eq!(count(&result, key), 0, "{key} of {result}");
    }
    assert_eq!(result, played(&options));
}

#[test]
fn a_shared_trace_keeps_its_objective() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let trace = root.join("../../shared/traces/azure2023_conv.csv.gz");
    if !trace.exists() {
        eprintln!("skipped: the shared traces are not here");
        return;
    }
    let options = SimulateOptions {
        trace: Some(trace),
        ..options(&["--lead", "120s"])
    };
    let result = played(&options);
    assert_eq!(count(&result, "requests"), 19_366);
    assert!(number(&result, "attainmentPercent") > 90.0, "{result}");
}
