//! The configuration of Dynamo's planner: its objective and GPU budget are carried over.
//!
//! It is one JSON or YAML text, or flags of the planner's command line. Keys have had two
//! spellings, `ttft` and `ttft_ms`; both are read. The planner holds averages to its limits and a
//! PDAutoscaler a percentile, which is stricter for the same number. A key that is not known is
//! named in a remark like the others.

use pd_api::v1alpha1::DurationText;
use pd_core::PerRole;
use serde_json::{Map, Value};

use super::{Fate, ImportError, Remark, field_error, name_source, pair::milliseconds, text_error};

/// The planner's own values where its configuration has none.
const TTFT_MS: f64 = 500.0;
const ITL_MS: f64 = 50.0;
const MAX_GPU_BUDGET: i64 = 8;
const MIN_ENDPOINT: i64 = 1;

/// A configuration, as far as it has counterparts.
#[derive(Clone, Debug, PartialEq)]
pub struct Planner {
    /// The configuration, as a sentence names it.
    pub from: String,
    /// Limit of TTFT.
    pub ttft: DurationText,
    /// Limit of the time between tokens.
    pub tpot: DurationText,
    /// Fewest replicas of each role.
    pub min_replicas: i64,
    /// Most GPUs of both roles; nothing without a limit.
    pub gpus: Option<i32>,
    /// GPUs of a replica, where it says.
    pub gpus_per_replica: PerRole<Option<i32>>,
    /// Settings that were not carried over as they are.
    pub remarks: Vec<Remark>,
}

/// Keys without a counterpart, and why; several begin alike.
const DROPPED: [(&str, &str); 20] = [
    (
        "load_predictor",
        "the forecast is made from its own past errors, and there is nothing to choose",
    ),
    (
        "prophet",
        "the forecast is made from its own past errors, and there is nothing to choose",
    ),
    (
        "kalman",
        "the forecast is made from its own past errors, and there is nothing to choose",
    ),
    (
        "throughput_adjustment_interval",
        "one loop decides at --interval of the controller, 15 s by default",
    ),
    (
        "load_adjustment_interval",
        "one loop decides at --interval of the controller, 15 s by default",
    ),
    (
        "adjustment_interval",
        "one loop decides at --interval of the controller, 15 s by default",
    ),
    ("enable_", "one loop follows both throughput and load"),
    (
        "load_scaling_down_sensitivity",
        "behavior.scaleDown.tolerance says how small a change is left alone",
    ),
    ("load_", "one loop follows both throughput and load"),
    (
        "max_num_fpm_samples",
        "capacity is learnt from the engine's Prometheus metrics",
    ),
    (
        "fpm_sample_bucket_size",
        "capacity is learnt from the engine's Prometheus metrics",
    ),
    (
        "pre_deployment_sweeping_mode",
        "capacity is learnt; a sweep is given as a ConfigMap: spec.capacity.prefill.profileRef",
    ),
    (
        "profile_results_dir",
        "capacity is learnt; a sweep is given as a ConfigMap: spec.capacity.prefill.profileRef",
    ),
    ("isl", "lengths of prompts are measured"),
    ("osl", "lengths of answers are measured"),
    ("min_gpu_budget", "minReplicas of the roles are the floor"),
    (
        "metric_",
        "the server is the controller's, or spec.metrics.source",
    ),
    (
        "report_",
        "the record of each decision is in status: kubectl pd explain",
    ),
    ("live_dashboard_port", "Grafana dashboards are in the chart"),
    (
        "throughput_metrics_source",
        "the gateway is found: spec.metrics.gateway",
    ),
];

/// Keys that say nothing about how to scale.
const SILENT: [&str; 9] = [
    "environment",
    "backend",
    "namespace",
    "model_name",
    "log_dir",
    "mode",
    "optimization_target",
    "decode_engine_num_gpu",
    "prefill_engine_num_gpu",
];

/// Keys that are carried over.
const CARRIED: [&str; 7] = [
    "ttft",
    "ttft_ms",
    "itl",
    "itl_ms",
    "max_gpu_budget",
    "min_endpoint",
    "config",
];

/// Keys with which the planner applies nothing, as mode Recommend does.
const ADVISORY: [&str; 4] = [
    "no_operation",
    "advisory",
    "scaling_mode",
    "advisory_log_interval",
];

/// The planner's configuration of `keys`.
pub fn planner(from: &str, keys: &Map<String, Value>) -> Result<Planner, ImportError> {
    let mode = keys.get("mode").and_then(Value::as_str).unwrap_or("disagg");
    if mode != "disagg" {
        let remedy = "a PDAutoscaler scales prefill and decode workers together: import a planner of mode disagg";
        return Err(field_error(from, "mode", mode, remedy));
    }
    let mut remarks = Vec::new();
    let (ttft, tpot) = limits(from, keys, &mut remarks)?;
    let gpus = budget(from, keys, &mut remarks)?;
    let whole = |name: &str| -> Result<Option<i32>, ImportError> {
        let value = keys.get(name).map(|value| number(from, name, value));
        Ok(value.transpose()?.map(rounded))
    };
    remarks.extend(dropped(keys));
    name_source(&mut remarks, from);
    Ok(Planner {
        from: from.to_owned(),
        ttft,
        tpot,
        min_replicas: whole("min_endpoint")?.map_or(MIN_ENDPOINT, i64::from),
        gpus,
        gpus_per_replica: PerRole {
            prefill: whole("prefill_engine_num_gpu")?,
            decode: whole("decode_engine_num_gpu")?,
        },
        remarks,
    })
}

/// The limits of TTFT and of the time between tokens.
fn limits(
    from: &str,
    keys: &Map<String, Value>,
    remarks: &mut Vec<Remark>,
) -> Result<(DurationText, DurationText), ImportError> {
    let ttft = limit(from, keys, (["ttft_ms", "ttft"], TTFT_MS), remarks)?;
    let tpot = limit(from, keys, (["itl_ms", "itl"], ITL_MS), remarks)?;
    let field = "optimization_target";
    let target = keys.get(field).and_then(Value::as_str);
    let target = target.unwrap_or("throughput");
    if target != "sla" {
        let remark = "the planner then ignores its latency limits; here they are the objective, so check them";
        remarks.push(Remark::new(Fate::Changed, field, target, remark));
    }
    let remark = "the planner holds averages to its limits, a PDAutoscaler the 95th percentile, which takes more replicas: see percentile";
    let both = format!("{ttft}, {tpot}");
    remarks.push(Remark::new(Fate::Changed, "ttft, itl", both, remark));
    Ok((ttft, tpot))
}

/// The limit under the first of `names` that is there, or the planner's own.
fn limit(
    from: &str,
    keys: &Map<String, Value>,
    (names, default): ([&str; 2], f64),
    remarks: &mut Vec<Remark>,
) -> Result<DurationText, ImportError> {
    let mut given = names.into_iter();
    let given = given.find_map(|name| Some((name, keys.get(name)?)));
    let (name, value) = if let Some((name, value)) = given {
        (name, number(from, name, value)?)
    } else {
        let remark = "the planner's own value is taken";
        remarks.push(Remark::new(Fate::Assumed, names[0], default, remark));
        (names[0], default)
    };
    milliseconds(value).ok_or_else(|| field_error(from, name, value, "give milliseconds above 0"))
}

fn budget(
    from: &str,
    keys: &Map<String, Value>,
    remarks: &mut Vec<Remark>,
) -> Result<Option<i32>, ImportError> {
    let field = "max_gpu_budget";
    let Some(value) = keys.get(field) else {
        let remark = "the planner's own budget is taken: set spec.budget.gpus to what there is";
        remarks.push(Remark::new(Fate::Assumed, field, MAX_GPU_BUDGET, remark));
        return Ok(i32::try_from(MAX_GPU_BUDGET).ok());
    };
    let gpus = rounded(number(from, field, value)?);
    // A negative budget is none.
    Ok((gpus >= 0).then_some(gpus))
}

fn dropped(keys: &Map<String, Value>) -> Vec<Remark> {
    let mut remarks = Vec::new();
    for (key, value) in keys {
        let key = key.as_str();
        if CARRIED.contains(&key) || SILENT.contains(&key) || value.is_null() {
            continue;
        }
        let remark = if ADVISORY.contains(&key) {
            "the mode Recommend has that effect"
        } else {
            let known = DROPPED
                .iter()
                .find(|(beginning, _)| key.starts_with(beginning));
            known.map_or(
                "it is not known here, and has no counterpart",
                |(_, remark)| remark,
            )
        };
        remarks.push(Remark::new(Fate::Dropped, key, value, remark));
    }
    remarks
}

/// A number, which flags and YAML may hold as text.
fn number(from: &str, name: &str, value: &Value) -> Result<f64, ImportError> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number
        .filter(|number: &f64| number.is_finite())
        .ok_or_else(|| field_error(from, name, value, "give a number"))
}

/// The nearest whole number that the API can hold.
fn rounded(value: f64) -> i32 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "saturates, and counts are small"
    )]
    let whole = value.round() as i32;
    whole
}

/// The configuration in the arguments of a planner's container: a JSON text behind `--config`, or
/// flags. A file is named, for it is inside the container.
pub fn of_arguments(from: &str, arguments: &[String]) -> Result<Map<String, Value>, ImportError> {
    let mut keys = Map::new();
    let mut words = arguments.iter().peekable();
    while let Some(word) = words.next() {
        let Some(flag) = word.strip_prefix("--") else {
            continue;
        };
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, value.to_owned()),
            None => match words.next_if(|next| !next.starts_with("--")) {
                Some(value) => (flag, value.clone()),
                None => (flag, "true".to_owned()),
            },
        };
        if name != "config" {
            keys.insert(name.replace('-', "_"), Value::String(value));
            continue;
        }
        if !value.trim_start().starts_with('{') {
            let remedy = "the file is inside the planner's container: give its contents by --planner-config=FILE";
            return Err(field_error(from, "--config", value, remedy));
        }
        return of_text(from, &value);
    }
    Ok(keys)
}

/// The configuration in a JSON or YAML text.
pub fn of_text(from: &str, text: &str) -> Result<Map<String, Value>, ImportError> {
    let value: Value = serde_saphyr::from_str(text).map_err(|error| text_error(from, error))?;
    match value {
        Value::Object(keys) => Ok(keys),
        _ => Err(text_error(from, "it holds no keys")),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn read(keys: &Value) -> Result<Planner, ImportError> {
        planner("planner of `g`", keys.as_object().unwrap())
    }

    fn fields(planner: &Planner) -> Vec<&str> {
        let name = |one: &Remark| one.field.split(" of ").next().unwrap_or_default().len();
        planner
            .remarks
            .iter()
            .map(|one| &one.field[..name(one)])
            .collect()
    }

    #[test]
    fn both_spellings_are_read_and_averages_are_named() {
        for [ttft, itl] in [["ttft", "itl"], ["ttft_ms", "itl_ms"]] {
            let planner = read(&json!({ ttft: 600, itl: 20.5, "optimization_target": "sla", "max_gpu_budget": 64 })).unwrap();
            assert_eq!(
                (planner.ttft.0.as_str(), planner.tpot.0.as_str()),
                ("600ms", "20500us")
            );
            assert_eq!(planner.gpus, Some(64));
            assert_eq!(fields(&planner), ["ttft, itl"]);
        }
    }

    #[test]
    fn what_the_planner_assumes_is_assumed_and_said() {
        let planner = read(&json!({})).unwrap();
        assert_eq!(
            (planner.ttft.0.as_str(), planner.tpot.0.as_str()),
            ("500ms", "50ms")
        );
        assert_eq!((planner.gpus, planner.min_replicas), (Some(8), 1));
        assert_eq!(
            fields(&planner),
            [
                "ttft_ms",
                "itl_ms",
                "optimization_target",
                "ttft, itl",
                "max_gpu_budget"
            ]
        );
    }

    #[test]
    fn no_key_disappears_in_silence() {
        let config = json!({ "optimization_target": "sla", "ttft": 1, "itl": 1, "max_gpu_budget": -1,
            "load_predictor": "arima", "of_a_later_version": 3, "advisory": true });
        let planner = read(&config).unwrap();
        assert_eq!(planner.gpus, None);
        let dropped: Vec<&str> = fields(&planner).into_iter().skip(1).collect();
        assert_eq!(
            dropped,
            ["advisory", "load_predictor", "of_a_later_version"]
        );
    }

    #[rstest]
    #[case::aggregated(json!({"mode": "agg"}), "mode `agg`")]
    #[case::no_number(json!({"ttft": "soon"}), "ttft `\"soon\"`")]
    #[case::no_time(json!({"itl_ms": 0}), "itl_ms `0`")]
    #[case::no_budget(json!({"max_gpu_budget": []}), "max_gpu_budget `[]`")]
    fn faults_are_named(#[case] config: Value, #[case] want: &str) {
        let error = read(&config).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    }

    #[rstest]
    #[case::json(&["--config", "{\"ttft\": 200}"], Some("200"))]
    #[case::json_in_one_word(&["--config={\"ttft\": 200}"], Some("200"))]
    #[case::flags(&["--ttft=200", "--no-operation", "--itl", "20"], Some("\"200\""))]
    #[case::file(&["--config", "planner.yaml"], None)]
    fn arguments_hold_a_text_or_flags(#[case] arguments: &[&str], #[case] ttft: Option<&str>) {
        let arguments: Vec<String> = arguments.iter().map(|word| (*word).to_owned()).collect();
        match of_arguments("planner", &arguments) {
            Ok(keys) => assert_eq!(Some(keys["ttft"].to_string().as_str()), ttft),
            Err(error) => {
                assert_eq!(ttft, None);
                assert!(error.to_string().contains("--planner-config"), "{error}");
            }
        }
    }
}
