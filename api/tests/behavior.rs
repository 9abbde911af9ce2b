//! `spec.behavior` of a `HorizontalPodAutoscaler`, pasted: the CRD accepts it, and it means the
//! same.
//!
//! The law draws any `behavior` that the API server accepts in an autoscaling/v2 object: windows of
//! 0 to 3600 seconds, policies of at least 1 in periods of 1 to 1800 seconds, a tolerance that is a
//! quantity of at least zero, and every field left out at will.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{sync::LazyLock, time::Duration};

use k8s_openapi::api::autoscaling::v2::{HPAScalingRules, HorizontalPodAutoscalerBehavior};
use kube_cel::Validator;
use pd_api::v1alpha1::PDAutoscaler;
use pd_core::policy::{Behavior, ChangeLimit, RatePolicy, ScalingRules, SelectPolicy};
use proptest::{option, prelude::*, sample::select};
use rstest::rstest;
use serde_json::{Value, json};

/// An object with this `behavior`.
fn object(behavior: &Value) -> Value {
    let role = |name: &str| {
        json!({
            "target": { "apiVersion": "apps/v1", "kind": "Deployment", "name": name },
            "minReplicas": 1, "maxReplicas": 8,
        })
    };
    json!({
        "apiVersion": "pdautoscaler.io/v1alpha1", "kind": "PDAutoscaler", "metadata": { "name": "x" },
        "spec": {
            "prefill": role("p"), "decode": role("d"),
            "objective": { "ttft": { "target": "1s" }, "tpot": { "target": "40ms" } },
            "behavior": behavior,
        },
    })
}

fn meant(behavior: &Value) -> Behavior {
    let object: PDAutoscaler = serde_json::from_value(object(behavior)).unwrap();
    object.spec.policy().unwrap().behavior
}

/// The meaning of `rules` by autoscaling/v2's documentation, with our defaults where they leave
/// something out.
fn documented(
    rules: Option<&HPAScalingRules>,
    ours: ScalingRules,
    tolerance_ppm: Option<u32>,
) -> ScalingRules {
    let Some(rules) = rules else { return ours };
    let policies = rules.policies.iter().flatten().map(|policy| RatePolicy {
        change: match policy.type_.as_str() {
            "Pods" => ChangeLimit::Replicas(policy.value.unsigned_abs()),
            _ => ChangeLimit::Percent(policy.value.unsigned_abs()),
        },
        period: Duration::from_secs(policy.period_seconds.unsigned_abs().into()),
    });
    ScalingRules {
        stabilization_window: rules
            .stabilization_window_seconds
            .map_or(ours.stabilization_window, |seconds| {
                Duration::from_secs(seconds.unsigned_abs().into())
            }),
        tolerance_ppm: tolerance_ppm.unwrap_or(ours.tolerance_ppm),
        select: match rules.select_policy.as_deref() {
            Some("Min") => SelectPolicy::Min,
            Some("Disabled") => SelectPolicy::Disabled,
            _ => SelectPolicy::Max,
        },
        policies: policies.collect(),
    }
}

fn ours(seconds: u64, tolerance_ppm: u32) -> ScalingRules {
    ScalingRules {
        stabilization_window: Duration::from_secs(seconds),
        tolerance_ppm,
        select: SelectPolicy::Max,
        policies: Vec::new(),
    }
}

/// A tolerance as people write it, and the same in millionths.
fn tolerance() -> impl Strategy<Value = (Value, u32)> {
    (0u32..2_000, 0usize..4).prop_map(|(permille, form)| {
        let share = f64::from(permille) / 1e3;
        let written = match form {
            0 => json!(format!("{permille}m")),
            1 => json!(share.to_string()),
            2 => json!(share),
            _ => json!(format!("{permille}e-3")),
        };
        (written, permille * 1_000)
    })
}

/// Rules as JSON, and their tolerance in millionths.
fn rules() -> impl Strategy<Value = (Value, Option<u32>)> {
    let policy = (select(vec!["Pods", "Percent"]), 1..=i32::MAX, 1..=1_800).prop_map(
        |(kind, value, period)| json!({ "type": kind, "value": value, "periodSeconds": period }),
    );
    (
        option::of(0..=3_600),
        option::of(select(vec!["Max", "Min", "Disabled"])),
        option::of(prop::collection::vec(policy, 1..6)),
        option::of(tolerance()),
    )
        .prop_map(|(window, select, policies, tolerance)| {
            let mut rules = serde_json::Map::new();
            let mut put = |name: &str, value: Option<Value>| {
                if let Some(value) = value {
                    rules.insert(name.to_owned(), value);
                }
            };
            put("stabilizationWindowSeconds", window.map(Value::from));
            put("selectPolicy", select.map(Value::from));
            put("policies", policies.map(Value::from));
            put(
                "tolerance",
                tolerance.as_ref().map(|(written, _)| written.clone()),
            );
            (Value::from(rules), tolerance.map(|(_, ppm)| ppm))
        })
}

static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    let crd = serde_json::to_value(pd_api::Resource::Autoscaler.crd().unwrap()).unwrap();
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
});

proptest! {
    // Every case compiles all rules of the CRD.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_behavior_of_a_horizontal_pod_autoscaler_means_the_same_here(
        up in option::of(rules()), down in option::of(rules()),
    ) {
        let mut behavior = serde_json::Map::new();
        for (name, rules) in [("scaleUp", &up), ("scaleDown", &down)] {
            if let Some((rules, _)) = rules {
                behavior.insert(name.to_owned(), rules.clone());
            }
        }
        let behavior = Value::from(behavior);
        prop_assert!(Validator::new().validate(&SCHEMA, &object(&behavior), None).is_ok());
        let hpa: HorizontalPodAutoscalerBehavior = serde_json::from_value(without_tolerance(&behavior)).unwrap();
        let ppm = |rules: &Option<(Value, Option<u32>)>| rules.as_ref().and_then(|(_, ppm)| *ppm);
        let want = Behavior {
            scale_up: documented(hpa.scale_up.as_ref(), ours(0, 0), ppm(&up)),
            scale_down: documented(hpa.scale_down.as_ref(), ours(300, 100_000), ppm(&down)),
            drain_timeout: None,
        };
        prop_assert_eq!(meant(&behavior), want);
    }
}

/// A number is a quantity to the API server, and none to the client's type.
fn without_tolerance(behavior: &Value) -> Value {
    let mut behavior = behavior.clone();
    for rules in behavior.as_object_mut().unwrap().values_mut() {
        rules.as_object_mut().unwrap().remove("tolerance");
    }
    behavior
}

#[rstest]
// The example of the Kubernetes documentation: at most 4 pods or 10 % a minute go.
#[case::documented(
    "scaleDown: { policies: [{ type: Pods, value: 4, periodSeconds: 60 }, { type: Percent, value: 10, periodSeconds: 60 }] }",
    ours(0, 0),
    ScalingRules {
        policies: vec![
            RatePolicy { change: ChangeLimit::Replicas(4), period: Duration::from_mins(1) },
            RatePolicy { change: ChangeLimit::Percent(10), period: Duration::from_mins(1) },
        ],
        ..ours(300, 100_000)
    },
)]
#[case::disabled(
    "scaleDown: { selectPolicy: Disabled }",
    ours(0, 0),
    ScalingRules { select: SelectPolicy::Disabled, ..ours(300, 100_000) },
)]
// KEP-4951: 1 % up and 5 % down, as a number and as a text.
#[case::tolerances(
    "scaleUp: { tolerance: 0.01 }\nscaleDown: { tolerance: 50m }",
    ours(0, 10_000),
    ours(300, 50_000)
)]
// As the API server completes it, and `kubectl get hpa -o yaml` prints it.
#[case::with_the_defaults_of_the_api_server(
    "scaleDown: { policies: [{ periodSeconds: 15, type: Percent, value: 100 }], selectPolicy: Max, stabilizationWindowSeconds: 60 }
scaleUp: { policies: [{ periodSeconds: 15, type: Pods, value: 4 }, { periodSeconds: 15, type: Percent, value: 100 }], selectPolicy: Max, stabilizationWindowSeconds: 0 }",
    ScalingRules {
        policies: vec![
            RatePolicy { change: ChangeLimit::Replicas(4), period: Duration::from_secs(15) },
            RatePolicy { change: ChangeLimit::Percent(100), period: Duration::from_secs(15) },
        ],
        ..ours(0, 0)
    },
    ScalingRules {
        policies: vec![RatePolicy { change: ChangeLimit::Percent(100), period: Duration::from_secs(15) }],
        ..ours(60, 100_000)
    },
)]
fn known_behaviors_are_read(
    #[case] yaml: &str,
    #[case] scale_up: ScalingRules,
    #[case] scale_down: ScalingRules,
) {
    let behavior: Value = serde_saphyr::from_str(yaml).unwrap();
    assert_eq!(
        meant(&behavior),
        Behavior {
            scale_up,
            scale_down,
            drain_timeout: None,
        }
    );
}
