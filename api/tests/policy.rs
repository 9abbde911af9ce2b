//! The meaning of good specs: the policy that the core gets, defaults included.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::time::Duration;

use pd_api::v1alpha1::PDAutoscalerSpec;
use pd_core::{
    PerRole, Ratio,
    operating_point::OperatingPoint,
    policy::{
        AttainmentTarget, Behavior, Bounds, ChangeLimit, Coefficients, DecodeCoefficients,
        Enforcement, LatencyTarget, LeadPolicy, Objective, OnMissingMetrics, OperatingPoints,
        Policy, PrefillCoefficients, RatePolicy, RatioPolicy, ScalingRules, SelectPolicy,
    },
    ratio::RatioBand,
    schedule::{Schedule, ScheduledBounds, TimeZone},
    zero::ScaleToZero,
};
use rstest::rstest;
use serde_json::{Value, json};

fn spec(more: &Value) -> PDAutoscalerSpec {
    let mut spec = json!({
        "prefill": {
            "target": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "p" },
            "maxReplicas": 8,
        },
        "decode": {
            "target": { "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "d" },
            "maxReplicas": 9,
        },
        "objective": { "ttft": { "target": "1.5s" }, "tpot": { "target": "40ms" } },
    });
    spec.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    serde_json::from_value(spec).unwrap()
}

fn policy(more: &Value) -> Policy {
    spec(more).policy().unwrap()
}

#[test]
fn the_least_spec_gets_the_documented_defaults() {
    let latency = |milliseconds| LatencyTarget {
        limit: Duration::from_millis(milliseconds),
        percentile: 95,
    };
    let rules = |seconds, tolerance_ppm| ScalingRules {
        stabilization_window: Duration::from_secs(seconds),
        tolerance_ppm,
        select: SelectPolicy::Max,
        policies: Vec::new(),
    };
    let want = Policy {
        bounds: PerRole {
            prefill: Bounds {
                min_replicas: 1,
                max_replicas: 8,
            },
            decode: Bounds {
                min_replicas: 1,
                max_replicas: 9,
            },
        },
        objective: Objective {
            ttft: latency(1_500),
            tpot: latency(40),
            attainment: AttainmentTarget {
                percent: 99,
                window: Duration::from_hours(1),
            },
        },
        ratio: None,
        budget_gpus: None,
        behavior: Behavior {
            scale_up: rules(0, 0),
            scale_down: rules(300, 100_000),
            drain_timeout: None,
        },
        on_missing_metrics: OnMissingMetrics::Hold,
        schedules: Vec::new(),
        scale_to_zero: None,
        lead: LeadPolicy {
            assumed: Duration::from_mins(2),
            stuck_after: Duration::from_mins(10),
        },
        operating_points: None,
        coefficients: Coefficients::default(),
    };
    assert_eq!(policy(&json!({})), want);
}

#[rstest]
#[case::fixed(json!({ "policy": "Fixed", "target": "2:3" }), "2:3", "2:3", 20, Enforcement::Soft)]
#[case::range(
    json!({ "policy": "Range", "range": { "lowest": "1:4", "highest": "2:1" }, "tolerancePercent": 0 }),
    "1:4", "2:1", 0, Enforcement::Soft,
)]
#[case::chat(json!({ "policy": "Preset", "preset": "ShortPromptLongOutput" }), "1:4", "1:4", 20, Enforcement::Soft)]
#[case::balanced(json!({ "policy": "Preset", "preset": "Balanced" }), "1:2", "1:2", 20, Enforcement::Soft)]
#[case::summary(json!({ "policy": "Preset", "preset": "LongPromptShortOutput" }), "1:1", "1:1", 20, Enforcement::Soft)]
#[case::hard_retrieval(
    json!({ "policy": "Preset", "preset": "RetrievalAugmented", "enforcement": "Hard" }),
    "2:1", "2:1", 20, Enforcement::Hard,
)]
fn ratio_policies_become_bands(
    #[case] ratio: Value,
    #[case] lowest: &str,
    #[case] highest: &str,
    #[case] tolerance_percent: u8,
    #[case] enforcement: Enforcement,
) {
    let parse = |text: &str| text.parse::<Ratio>().unwrap();
    let band = RatioBand {
        lowest: parse(lowest),
        highest: parse(highest),
        tolerance_percent,
    };
    assert_eq!(
        policy(&json!({ "ratio": ratio })).ratio,
        Some(RatioPolicy { band, enforcement })
    );
}

#[test]
fn scaling_policies_keep_their_order_and_units() {
    let behavior = json!({ "behavior": { "scaleUp": { "policies": [
        { "type": "Percent", "value": 100, "periodSeconds": 15 },
        { "type": "Pods", "value": 4, "periodSeconds": 60 },
    ] } } });
    let rate = |change, seconds| RatePolicy {
        change,
        period: Duration::from_secs(seconds),
    };
    assert_eq!(
        policy(&behavior).behavior.scale_up.policies,
        vec![
            rate(ChangeLimit::Percent(100), 15),
            rate(ChangeLimit::Replicas(4), 60)
        ]
    );
}

#[test]
fn a_partly_written_direction_keeps_the_defaults_of_that_direction() {
    let behavior = policy(&json!({ "behavior": {
        "scaleUp": { "selectPolicy": "Min" },
        "scaleDown": { "selectPolicy": "Disabled" },
    } }))
    .behavior;
    assert_eq!(behavior.scale_up.select, SelectPolicy::Min);
    assert_eq!(behavior.scale_up.stabilization_window, Duration::ZERO);
    assert_eq!(behavior.scale_down.select, SelectPolicy::Disabled);
    assert_eq!(
        behavior.scale_down.stabilization_window,
        Duration::from_mins(5)
    );
    assert_eq!(behavior.scale_down.tolerance_ppm, 100_000);
}

#[test]
fn fallback_and_budget_reach_the_core() {
    let policy = policy(&json!({
        "budget": { "gpus": 64 },
        "onMissingMetrics": { "behavior": "Fallback", "fallback": { "prefill": 2, "decode": 5 } },
    }));
    assert_eq!(policy.budget_gpus, Some(64));
    assert_eq!(
        policy.on_missing_metrics,
        OnMissingMetrics::Fallback {
            replicas: PerRole {
                prefill: 2,
                decode: 5
            },
            after: Duration::from_mins(10),
        }
    );
}

#[test]
fn schedules_reach_the_core_with_their_zone() {
    let policy = policy(&json!({ "schedules": [
        { "cron": "0 8 * * MON-FRI", "timeZone": "Asia/Kolkata", "duration": "10h",
          "prefill": { "minReplicas": 4 }, "decode": { "minReplicas": 12, "maxReplicas": 20 } },
        { "cron": "0 0 1 * *", "duration": "30m", "decode": { "maxReplicas": 2 } },
    ] }));
    let bounds = |min_replicas, max_replicas| ScheduledBounds {
        min_replicas,
        max_replicas,
    };
    let want = [
        Schedule {
            cron: "0 8 * * MON-FRI".parse().unwrap(),
            time_zone: "Asia/Kolkata".parse().unwrap(),
            duration: Duration::from_hours(10),
            replicas: PerRole {
                prefill: bounds(Some(4), None),
                decode: bounds(Some(12), Some(20)),
            },
        },
        Schedule {
            cron: "0 0 1 * *".parse().unwrap(),
            time_zone: TimeZone::UTC,
            duration: Duration::from_mins(30),
            replicas: PerRole {
                prefill: bounds(None, None),
                decode: bounds(None, Some(2)),
            },
        },
    ];
    assert_eq!(policy.schedules, want);
}

/// Faults that only the Rust validation can find.
#[rstest]
#[case::unknown_zone(json!({ "timeZone": "Europe/Bonn" }), "spec.schedules[0].timeZone", "`Europe/Bonn` must be a time zone of the IANA database")]
#[case::range_backwards(json!({ "cron": "0 18-8 * * *" }), "spec.schedules[0].cron", "ends before it starts; swap its ends")]
#[case::february(json!({ "cron": "0 8 30 2 *" }), "spec.schedules[0].cron", "none of its months has such a day")]
#[case::which_field(json!({ "cron": "0 24 * * *" }), "spec.schedules[0].cron", "it has `24` for the hour; write 0 to 23")]
fn schedules_that_the_crd_lets_pass_are_refused(
    #[case] more: Value,
    #[case] path: &str,
    #[case] says: &str,
) {
    let mut schedule =
        json!({ "cron": "0 8 * * *", "duration": "1h", "decode": { "minReplicas": 2 } });
    let fields = schedule.as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    let errors = spec(&json!({ "schedules": [schedule] }))
        .policy()
        .unwrap_err();
    assert_eq!(errors.len(), 1, "{errors:#?}");
    assert_eq!(errors[0].path, path);
    assert!(errors[0].to_string().contains(says), "{}", errors[0]);
}

#[test]
fn zero_and_lead_times_reach_the_core() {
    let query = "sum(gateway_queue)";
    let zero = |more: Value| policy(&json!({ "scaleToZero": more })).scale_to_zero;
    let after = |minutes| {
        Some(ScaleToZero {
            idle_after: Duration::from_mins(minutes),
        })
    };
    assert_eq!(zero(json!({ "wakeSignal": query })), after(30));
    assert_eq!(
        zero(json!({ "wakeSignal": query, "idleAfter": "1h" })),
        after(60)
    );
    let lead = policy(&json!({ "behavior": { "lead": { "assumed": "5m" } } })).lead;
    let want = LeadPolicy {
        assumed: Duration::from_mins(5),
        stuck_after: Duration::from_mins(10),
    };
    assert_eq!(lead, want);
}

#[test]
fn operating_points_reach_the_core_with_their_band() {
    let policy = policy(&json!({ "ratio": {
        "policy": "OperatingPoints",
        "operatingPoints": [
            { "name": "chat", "prefill": 1, "decode": 3, "inputTokens": 1000, "outputTokens": 500 },
        ],
        "enforcement": "Hard",
    } }));
    let point = OperatingPoint {
        name: "chat".to_owned(),
        prefill: 1,
        decode: 3,
        input_tokens: 1_000.0,
        output_tokens: 500.0,
        request_rate_rps: None,
    };
    let want = OperatingPoints {
        points: vec![point],
        tolerance_percent: 20,
        enforcement: Enforcement::Hard,
    };
    assert_eq!(policy.operating_points, Some(want));
    assert_eq!(policy.ratio, None);
}

#[test]
fn coefficients_reach_the_core_and_profiles_are_left_to_the_controller() {
    let capacity = json!({ "capacity": {
        "prefill": { "coefficients": { "perTokenNanos": 60000 } },
        "decode": { "coefficients": { "baseMicros": 9000, "perRequestNanos": 40000, "batchMax": 256 } },
    } });
    let want = Coefficients {
        prefill: Some(PrefillCoefficients {
            base_micros: 0,
            per_token_nanos: 60_000,
            per_token_squared_picos: 0,
        }),
        decode: Some(DecodeCoefficients {
            base_micros: 9_000,
            per_request_nanos: 40_000,
            per_context_token_picos: 0,
            kv_capacity_tokens: None,
            batch_max: Some(256),
        }),
    };
    assert_eq!(policy(&capacity).coefficients, want);
    let profile = json!({ "capacity": {
        "decode": { "profileRef": { "kind": "ConfigMap", "name": "llama" } },
    } });
    assert_eq!(policy(&profile).coefficients, Coefficients::default());
}

#[test]
fn numeric_tolerations_mean_what_the_annotation_means() {
    let mut more = spec(&json!({}));
    more.decode.numeric_tolerations = serde_json::from_value(json!([
        { "key": "node.kubernetes.io/sla", "operator": "Gt", "value": "800", "effect": "NoExecute", "tolerationSeconds": 60 },
        { "key": "sla", "operator": "Range", "value": "-5..990", "mustBePresent": true },
    ]))
    .unwrap();
    more.policy().unwrap();
    let tolerations = more.decode.numeric_tolerations.iter();
    let texts: Vec<String> = tolerations
        .map(|one| serde_json::to_string(&one.toleration()).unwrap())
        .collect();
    let want = [
        r#"{"key":"node.kubernetes.io/sla","operator":"Gt","value":"800","effect":"NoExecute","tolerationSeconds":60}"#,
        r#"{"key":"sla","operator":"Range","value":"-5..990","mustBePresent":true}"#,
    ];
    assert_eq!(texts, want);
}

#[test]
fn tolerations_that_no_pod_could_carry_are_refused() {
    let mut more = spec(&json!({}));
    let keys = ["a", "b", "c", "d"];
    let every = keys.map(|key| json!({ "key": key, "operator": "Gt", "value": "1" }));
    more.decode.numeric_tolerations = serde_json::from_value(json!(every)).unwrap();
    let errors = more.policy().unwrap_err();
    assert!(
        errors[0].to_string().contains("more than 128 terms"),
        "{errors:?}"
    );
    let narrow = keys
        .map(|key| json!({ "key": key, "operator": "Gt", "value": "1", "effect": "NoExecute" }));
    more.decode.numeric_tolerations = serde_json::from_value(json!(narrow)).unwrap();
    more.policy().unwrap();
}

#[test]
fn a_spec_read_and_written_again_is_the_same() {
    let first = spec(&json!({ "ratio": { "policy": "Fixed", "target": "1:2" } }));
    let written = serde_json::to_value(&first).unwrap();
    assert!(!written.to_string().contains("null"), "{written}");
    assert_eq!(
        serde_json::from_value::<PDAutoscalerSpec>(written).unwrap(),
        first
    );
}
