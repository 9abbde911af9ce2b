//! Lines as we write them, as others write them, and as nobody should.

use pd_core::signal::{Coverage, Reading};
use pd_core::{PerRole, Role};
use rstest::rstest;
use serde_json::json;

use super::*;
use crate::autoscaler::observation::testing::{alike, observation};

fn line() -> ObservationLine {
    let seen = observation(PerRole {
        prefill: alike(2, 0.0, 0.0, 0.0),
        decode: alike(3, 0.0, 0.0, 0.0),
    });
    ObservationLine {
        version: VERSION,
        time_milliseconds: 15_000,
        snapshot: seen.snapshot,
        replicas: Some(PerRole {
            prefill: 1,
            decode: 2,
        }),
    }
}

/// The least that an observation says.
fn least() -> Value {
    json!({
        "version": 2,
        "timeMilliseconds": 0,
        "snapshot": {
            "policy": {
                "bounds": {"prefill": {"maxReplicas": 16}, "decode": {"maxReplicas": 16}},
                "objective": {"ttft": {"limit": "500ms"}, "tpot": {"limit": "50ms"}},
            },
            "roles": {"prefill": {"current": 2, "ready": 2}, "decode": {"current": 3, "ready": 3}},
        },
    })
}

#[test]
fn an_observation_reads_back() {
    let mut observation = line();
    // Said or not, workers count as measured.
    observation.snapshot.signals.coverage = PerRole {
        prefill: Coverage {
            scraped: 1,
            seen: 2,
            oldest_age: None,
        },
        decode: Coverage::default(),
    };
    let text = observation.to_line().unwrap();
    assert!(!text.contains('\n') && !text.contains("\"secs\""), "{text}");
    assert_eq!(ObservationLine::read(&text), Ok(observation.clone()));
    // The first version had durations as the core has them.
    let first = serde_json::to_string(&observation).unwrap();
    let first = first.replacen("\"version\":2", "\"version\":1", 1);
    let read = ObservationLine::read(&first).unwrap();
    assert_eq!(read.snapshot, observation.snapshot);
}

#[test]
fn what_is_not_said_has_the_defaults_of_the_api() {
    let read = ObservationLine::read(&least().to_string()).unwrap();
    let examples = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let minimal = crate::policy::read_policy(&examples.join("pdautoscaler-minimal.yaml"));
    assert_eq!(read.snapshot.policy, minimal.unwrap());
    let decode = read.snapshot.roles.decode;
    assert_eq!((decode.starting, decode.gpus_per_replica), (0, 0));
    let coverage = read.snapshot.signals.coverage.decode;
    assert_eq!((coverage.scraped, coverage.seen), (3, 3));
    assert_eq!(read.snapshot.signals.decode_kv_usage, Reading::default());
}

#[test]
fn an_object_says_what_the_observation_need_not() {
    let mut silent = least();
    silent["snapshot"].as_object_mut().unwrap().remove("policy");
    let refused = ObservationLine::read(&silent.to_string()).unwrap_err();
    assert!(
        refused.contains("`snapshot.policy` is missing") && refused.contains("--config"),
        "{refused}"
    );
    let given = Given {
        policy: Some(line().snapshot.policy),
        gpus_per_replica: PerRole {
            prefill: Some(4),
            decode: None,
        },
        ..Given::default()
    };
    let read = ObservationLine::read_given(&silent.to_string(), &given).unwrap();
    assert_eq!(Some(read.snapshot.policy), given.policy);
    assert_eq!(read.snapshot.roles.prefill.gpus_per_replica, 4);
    // The object wins over the observation.
    let read = ObservationLine::read_given(&least().to_string(), &given).unwrap();
    assert_eq!(Some(read.snapshot.policy), given.policy);
}

#[rstest]
#[case::a_misspelt_signal("/signals", json!({"prefilCompletionRateRps": {"value": 1.0}}), "is it one of prefillCompletionRateRps")]
#[case::a_misspelt_distribution("/signals", json!({"recent": {"decodeTttft": {"unknown": "empty"}}}), "recent.decodeTtft")]
#[case::an_unknown_gap("/signals", json!({"decodeKvUsage": {"unknown": "lost"}}), "lost")]
#[case::a_misspelt_role("/roles/decode", json!({"current": 1, "ready": 1, "redy": 1}), "`snapshot.roles.decode.redy` is not known")]
#[case::a_misspelt_limit("/policy/objective/ttft", json!({"limit": "1s", "percentil": 99}), "`snapshot.policy.objective.ttft.percentil` is not known")]
#[case::no_limit("/policy/objective/ttft", json!({"percentile": 99}), "`snapshot.policy.objective.ttft.limit` is missing")]
#[case::no_unit("/policy/objective/ttft", json!({"limit": "1"}), "write a duration such as 500ms")]
#[case::no_replicas("/roles/prefill", json!({"current": 1}), "ready")]
#[case::no_role("/roles", json!({"prefill": {"current": 1, "ready": 1}}), "`snapshot.roles.decode` is missing")]
fn what_is_wrong_is_refused_with_its_place(
    #[case] place: &str,
    #[case] value: Value,
    #[case] want: &str,
) {
    let mut wrong = least();
    wrong["snapshot"]["signals"] = json!({});
    *wrong["snapshot"].pointer_mut(place).unwrap() = value;
    let message = ObservationLine::read(&wrong.to_string()).unwrap_err();
    assert!(message.contains(want), "{message}");
}

#[rstest]
#[case::later(json!(3), "has version `3`: write version 2")]
#[case::none_at_all(Value::Null, "has version `null`")]
#[case::text(json!("2"), "has version `\"2\"`")]
fn a_version_that_nobody_speaks_is_refused(#[case] version: Value, #[case] want: &str) {
    let mut line = least();
    line["version"] = version;
    let message = ObservationLine::read(&line.to_string()).unwrap_err();
    assert!(message.contains(want), "{message}");
}

#[test]
fn a_line_that_is_no_observation_at_all_is_refused() {
    for text in ["{}", "nonsense", "[1]"] {
        let message = ObservationLine::read(text).unwrap_err();
        let begins = format!("`{text}` is not an observation");
        assert!(message.starts_with(&begins), "{message}");
    }
}

#[test]
fn buckets_may_end_without_an_edge() {
    let mut line = least();
    let tpot = json!({"value": {"buckets": [[0.025, 10], ["+Inf", 12]], "count": 12, "sum": 0.3}});
    line["snapshot"]["signals"] = json!({"recent": {"tpot": tpot}});
    let read = ObservationLine::read(&line.to_string()).unwrap();
    let histogram = read.snapshot.signals.recent.tpot;
    let histogram = histogram.with_samples(12.0).unwrap();
    assert_eq!(histogram.cumulative(), [(0.025, 10.0)]);
}

#[test]
fn answers_and_what_is_none() {
    let decided = Answer::read(r#"{"replicas":{"prefill":2,"decode":3}}"#);
    let replicas = PerRole {
        prefill: 2,
        decode: 3,
    };
    assert_eq!(
        decided,
        Ok(Answer::Decided {
            replicas,
            reason: None,
            report: None,
        })
    );
    let failed = Answer::read(r#"{"error":"no"}"#);
    assert_eq!(
        failed,
        Ok(Answer::Failed {
            error: "no".to_owned()
        })
    );
    for line in [
        "",
        "2 3",
        r#"{"replicas":{"prefill":2}}"#,
        r#"{"replicas":{"prefill":-1,"decode":1}}"#,
        r#"{"replicas":{"prefill":1,"decode":1},"reson":"x"}"#,
        r#"{"replicas":{"prefill":1,"decode":1,"both":1}}"#,
    ] {
        assert!(
            Answer::read(line).unwrap_err().contains("is not an answer"),
            "{line}"
        );
    }
}

#[test]
fn every_signal_has_its_place() {
    let mut all = std::collections::BTreeSet::new();
    for &signal in pd_core::signal::name::SignalName::ALL {
        let paths = schema::paths(signal);
        assert!(!paths.is_empty(), "{signal:?}");
        for path in paths {
            assert!(all.insert(path.clone()), "{path}");
        }
    }
    for path in [
        "waitingRequests.prefill",
        "recent.tpot",
        "wide.tpot",
        "tpotAttainment",
    ] {
        assert!(all.contains(path), "{path}");
    }
    assert_eq!(Role::ALL.len(), 2);
}
