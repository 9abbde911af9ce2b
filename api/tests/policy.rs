//! What good specs mean: the policy that the core gets, defaults included.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::time::Duration;

use pd_api::v1alpha1::PDAutoscalerSpec;
use pd_core::{
    PerRole, Ratio,
    policy::{
        AttainmentTarget, Behavior, Bounds, Change, Enforcement, LatencyTarget, Objective,
        OnMissingMetrics, Policy, RatePolicy, RatioPolicy, ScalingRules, SelectPolicy,
    },
    ratio::RatioBand,
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
    let rules = |seconds, tolerance_percent| ScalingRules {
        stabilization_window: Duration::from_secs(seconds),
        tolerance_percent,
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
            scale_down: rules(300, 10),
        },
        on_missing_metrics: OnMissingMetrics::Hold,
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
fn rate_policies_keep_their_order_and_units() {
    let behavior = json!({ "behavior": { "scaleUp": { "policies": [
        { "type": "Percent", "value": 100, "period": "15s" },
        { "type": "Replicas", "value": 4, "period": "1m" },
    ] } } });
    let rate = |change, seconds| RatePolicy {
        change,
        period: Duration::from_secs(seconds),
    };
    assert_eq!(
        policy(&behavior).behavior.scale_up.policies,
        vec![
            rate(Change::Percent(100), 15),
            rate(Change::Replicas(4), 60)
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
    assert_eq!(behavior.scale_down.tolerance_percent, 10);
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
fn a_spec_read_and_written_again_is_the_same() {
    let first = spec(&json!({ "ratio": { "policy": "Fixed", "target": "1:2" } }));
    let written = serde_json::to_value(&first).unwrap();
    assert!(!written.to_string().contains("null"), "{written}");
    assert_eq!(
        serde_json::from_value::<PDAutoscalerSpec>(written).unwrap(),
        first
    );
}
