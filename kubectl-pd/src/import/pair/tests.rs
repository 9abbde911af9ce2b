//! Pairs of roles, and laws that hold for every pair.

use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::import::{horizontal, manifest, role::TargetFlag, scaled_object};

fn wanted() -> Wanted {
    Wanted {
        ttft: Some(DurationText("500ms".to_owned())),
        tpot: Some(DurationText("50ms".to_owned())),
        ..Wanted::default()
    }
}

fn hpa(name: &str, behavior: &Value) -> RoleImport {
    let object = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": { "name": name },
        "spec": { "scaleTargetRef": { "kind": "Deployment", "name": name, "apiVersion": "apps/v1" },
            "minReplicas": 2, "maxReplicas": 16, "behavior": behavior },
    });
    horizontal::role(&object).unwrap()
}

fn pair(prefill: &Value, decode: &Value) -> PerRole<RoleImport> {
    PerRole {
        prefill: hpa("llama-prefill", prefill),
        decode: hpa("llama-decode", decode),
    }
}

fn fates(imported: &Imported) -> Vec<(Fate, &str)> {
    imported
        .remarks
        .iter()
        .map(|one| (one.fate, one.field.as_str()))
        .collect()
}

#[test]
fn the_mode_is_recommend_and_the_name_is_what_both_have_in_common() {
    let imported = combine(pair(&Value::Null, &Value::Null), &wanted()).unwrap();
    assert_eq!(imported.object.spec.mode, Mode::Recommend);
    assert_eq!(imported.object.metadata.name.as_deref(), Some("llama"));
    // Growth was limited by HorizontalPodAutoscaler's own default.
    assert_eq!(
        fates(&imported),
        [(Fate::Changed, "spec.behavior.scaleUp.policies")]
    );
}

#[rstest]
#[case::start("llama-prefill", "llama-decode", Some("llama"))]
#[case::short("llama-70b-p", "llama-70b-d", Some("llama-70b"))]
#[case::end("prefill-qwen", "decode-qwen", Some("qwen"))]
#[case::same("graph", "graph", Some("graph"))]
#[case::letters_are_no_words("prefill", "predict", None)]
#[case::nothing("a", "b", None)]
fn names_have_whole_words_in_common(
    #[case] one: &str,
    #[case] other: &str,
    #[case] want: Option<&str>,
) {
    assert_eq!(common(one, other).as_deref(), want);
}

#[test]
fn without_an_objective_the_flag_is_named() {
    let error = combine(pair(&Value::Null, &Value::Null), &Wanted::default())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("--ttft=500ms") && error.contains("`llama-prefill`"),
        "{error}"
    );
}

#[test]
fn a_behavior_that_both_share_is_carried_over() {
    let behavior = json!({
        "scaleUp": { "stabilizationWindowSeconds": 30, "selectPolicy": "Min", "tolerance": "0.05",
            "policies": [{ "type": "Pods", "value": 2, "periodSeconds": 60 }] },
        "scaleDown": { "stabilizationWindowSeconds": 600, "selectPolicy": "Disabled" },
    });
    let imported = combine(pair(&behavior, &behavior), &wanted()).unwrap();
    assert_eq!(imported.remarks, []);
    let spec = serde_json::to_value(&imported.object.spec.behavior).unwrap();
    for direction in ["scaleUp", "scaleDown"] {
        for (field, value) in behavior[direction].as_object().unwrap() {
            assert_eq!(&spec[direction][field], value, "{direction}.{field}");
        }
    }
}

#[test]
fn of_two_windows_the_longer_counts_and_policies_that_differ_are_left_out() {
    let rules = |window: i32, pods: i32| {
        let policies = json!([{ "type": "Pods", "value": pods, "periodSeconds": 60 }]);
        json!({ "scaleDown": { "stabilizationWindowSeconds": window, "policies": policies } })
    };
    let imported = combine(pair(&rules(60, 1), &rules(120, 2)), &wanted()).unwrap();
    let down = &imported.object.spec.behavior.scale_down;
    assert_eq!(down.stabilization_window_seconds, 120);
    assert_eq!(down.policies, []);
    let dropped: Vec<&Remark> = imported
        .remarks
        .iter()
        .filter(|one| one.fate == Fate::Dropped)
        .collect();
    assert_eq!(
        dropped[0].value,
        "prefill 1 Pods per 60s, decode 2 Pods per 60s"
    );
}

#[test]
fn a_role_without_an_autoscaler_takes_the_bounds_of_the_other() {
    let target = "Deployment/llama-decode".parse::<TargetFlag>().unwrap().0;
    let roles = PerRole {
        prefill: hpa("llama-prefill", &Value::Null),
        decode: RoleImport::of_target("Deployment `llama-decode`".to_owned(), target),
    };
    let imported = combine(roles, &wanted()).unwrap();
    let decode = &imported.object.spec.decode;
    assert_eq!((decode.min_replicas, decode.max_replicas), (1, 16));
    assert!(fates(&imported).contains(&(Fate::Assumed, "spec.decode.maxReplicas")));
}

fn with_max(prefill: i32, decode: i32) -> Wanted {
    Wanted {
        max_replicas: Some(PerRole { prefill, decode }),
        ..wanted()
    }
}

fn named(prefill: &str, decode: &str) -> PerRole<RoleImport> {
    let role = |target: &str| RoleImport::named(&target.parse::<TargetFlag>().unwrap().0);
    PerRole {
        prefill: role(prefill),
        decode: role(decode),
    }
}

fn maxima(imported: &Imported) -> (i32, i32) {
    let spec = &imported.object.spec;
    (spec.prefill.max_replicas, spec.decode.max_replicas)
}

#[test]
fn a_maximum_of_the_command_line_counts_before_the_sources() {
    let imported = combine(pair(&Value::Null, &Value::Null), &with_max(24, 8)).unwrap();
    assert_eq!(maxima(&imported), (24, 8));
    let named: Vec<(&str, &str)> = imported
        .remarks
        .iter()
        .filter(|one| one.fate == Fate::Changed && one.remark.contains("--max-replicas"))
        .map(|one| (one.field.as_str(), one.value.as_str()))
        .collect();
    assert_eq!(
        named,
        [
            (
                "maximum of prefill by HorizontalPodAutoscaler `llama-prefill`",
                "16"
            ),
            (
                "maximum of decode by HorizontalPodAutoscaler `llama-decode`",
                "16"
            ),
        ]
    );
}

#[test]
fn a_maximum_that_the_source_has_too_is_not_remarked() {
    let without = combine(pair(&Value::Null, &Value::Null), &wanted()).unwrap();
    let with = combine(pair(&Value::Null, &Value::Null), &with_max(16, 16)).unwrap();
    assert_eq!(with, without);
}

#[test]
fn workloads_that_nobody_scaled_have_the_maximum_of_the_command_line() {
    let roles = named("Deployment/llama-prefill", "Deployment/llama-decode");
    let imported = combine(roles.clone(), &with_max(4, 12)).unwrap();
    assert_eq!((maxima(&imported), imported.remarks), ((4, 12), vec![]));
    let error = combine(roles, &wanted()).unwrap_err().to_string();
    assert!(
        error.contains("Deployment `llama-prefill`: maxReplicas `unset`")
            && error.contains("--max-replicas=16"),
        "{error}"
    );
}

#[test]
fn a_maximum_below_the_minimum_of_a_source_is_refused_with_both() {
    let error = combine(pair(&Value::Null, &Value::Null), &with_max(16, 1))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("--max-replicas `1`")
            && error.contains("minimum 2 of HorizontalPodAutoscaler `llama-decode`"),
        "{error}"
    );
}

#[test]
fn what_a_source_wants_above_the_maximum_of_the_command_line_is_lowered() {
    let spec = json!({
        "fallback": { "failureThreshold": 2, "replicas": 7, "behavior": "currentReplicasIfHigher" },
        "triggers": [{ "type": "cron", "metadata": { "timezone": "Europe/Berlin",
            "start": "0 8 * * 1-5", "end": "0 18 * * 1-5", "desiredReplicas": "6" } }],
    });
    let roles = PerRole {
        prefill: scaled_object("llama-prefill", &spec),
        decode: scaled_object("llama-decode", &spec),
    };
    let imported = combine(roles, &with_max(4, 8)).unwrap();
    let spec = &imported.object.spec;
    assert_eq!(maxima(&imported), (4, 8));
    let [schedule] = spec.schedules.as_slice() else {
        panic!("{:?}", spec.schedules);
    };
    assert_eq!(schedule.bounds(Role::Prefill).min_replicas, Some(4));
    assert_eq!(schedule.bounds(Role::Decode).min_replicas, Some(6));
    let fallback = spec.on_missing_metrics.fallback.as_ref().unwrap();
    assert_eq!((fallback.prefill, fallback.decode), (4, 7));
    assert!(
        fates(&imported).contains(&(
            Fate::Changed,
            "spec.fallback.replicas of ScaledObject `llama-prefill`"
        )),
        "{:?}",
        imported.remarks
    );
}

fn scaled_object(name: &str, spec: &Value) -> RoleImport {
    let mut object = json!({
        "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": { "name": name },
        "spec": spec,
    });
    object["spec"]["scaleTargetRef"] = json!({ "name": name });
    object["spec"]["minReplicaCount"] = json!(1);
    object["spec"]["maxReplicaCount"] = json!(8);
    scaled_object::role(&object).unwrap()
}

#[test]
fn schedules_of_the_same_times_become_one() {
    let cron = |replicas: &str| {
        json!({ "triggers": [{ "type": "cron", "metadata": { "timezone": "Europe/Berlin",
            "start": "0 8 * * 1-5", "end": "0 18 * * 1-5", "desiredReplicas": replicas } }] })
    };
    let roles = PerRole {
        prefill: scaled_object("llama-prefill", &cron("4")),
        decode: scaled_object("llama-decode", &cron("12")),
    };
    let imported = combine(roles, &wanted()).unwrap();
    let [schedule] = imported.object.spec.schedules.as_slice() else {
        panic!("{:?}", imported.object.spec.schedules);
    };
    assert_eq!(schedule.duration.0, "10h");
    assert_eq!(schedule.bounds(Role::Prefill).min_replicas, Some(4));
    // 12 is above the maximum of 8.
    assert_eq!(schedule.bounds(Role::Decode).min_replicas, Some(8));
}

#[test]
fn fallbacks_of_both_roles_become_one_after_the_longer_time() {
    let fallback = |failures: i64| json!({ "fallback": { "failureThreshold": failures, "replicas": 3, "behavior": "currentReplicasIfHigher" } });
    let roles = PerRole {
        prefill: scaled_object("llama-prefill", &fallback(2)),
        decode: scaled_object("llama-decode", &fallback(6)),
    };
    let imported = combine(roles, &wanted()).unwrap();
    let fallback = imported.object.spec.on_missing_metrics.fallback.unwrap();
    assert_eq!(
        (fallback.prefill, fallback.decode, fallback.after.0.as_str()),
        (3, 3, "3m")
    );
}

#[test]
fn workloads_in_two_namespaces_are_refused() {
    let mut roles = pair(&Value::Null, &Value::Null);
    roles.prefill.namespace = Some("a".to_owned());
    roles.decode.namespace = Some("b".to_owned());
    let error = combine(roles, &wanted()).unwrap_err().to_string();
    assert!(error.contains("`b`") && error.contains("`a`"), "{error}");
}

#[test]
fn a_limit_that_the_api_refuses_is_refused_here() {
    let mut wanted = wanted();
    wanted.ttft = Some(DurationText("1h".to_owned()));
    let error = combine(pair(&Value::Null, &Value::Null), &wanted)
        .unwrap_err()
        .to_string();
    assert!(error.contains("spec.objective.ttft.target `1h`"), "{error}");
}

#[rstest]
#[case::a_fraction(211.655, Some("211655us"))]
#[case::whole(600.0, Some("600ms"))]
#[case::a_minute(60_000.0, Some("1m"))]
#[case::more_digits_than_mean_anything(1_500.000_001, Some("1500ms"))]
#[case::a_microsecond(0.001, Some("1us"))]
#[case::below_a_microsecond(0.000_9, None)]
#[case::negative(-1.0, None)]
#[case::no_number(f64::NAN, None)]
#[case::endless(f64::INFINITY, None)]
fn limits_are_written_to_the_microsecond(#[case] limit: f64, #[case] want: Option<&str>) {
    let text = milliseconds(limit);
    assert_eq!(text.as_ref().map(|text| text.0.as_str()), want);
}

fn rules() -> impl Strategy<Value = Value> {
    let window = prop::option::of(0..=3_600_i32);
    let select = prop::option::of(prop::sample::select(&["Max", "Min", "Disabled"][..]));
    let policy = (
        prop::sample::select(&["Pods", "Percent"][..]),
        1..200_i32,
        1..=1_800_i32,
    );
    let policies = prop::option::of(prop::collection::vec(policy, 1..3));
    (window, select, policies).prop_map(|(window, select, policies)| {
        let policies = policies.map(|all| {
            let one = |(kind, value, period): &(&str, i32, i32)| {
                json!({ "type": kind, "value": value, "periodSeconds": period })
            };
            all.iter().map(one).collect::<Vec<Value>>()
        });
        json!({ "stabilizationWindowSeconds": window, "selectPolicy": select, "policies": policies })
    })
}

proptest! {
    // Each case writes and reads a manifest.
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever two HPAs say, the result is one that the API takes, writes nothing, changes
    /// replicas no sooner than either, and reads back as it was written.
    #[test]
    fn every_pair_of_hpas_makes_a_valid_recommendation(
        [prefill_up, prefill_down, decode_up, decode_down] in [rules(), rules(), rules(), rules()],
    ) {
        let behavior = |up: &Value, down: &Value| json!({ "scaleUp": up, "scaleDown": down });
        let roles = pair(&behavior(&prefill_up, &prefill_down), &behavior(&decode_up, &decode_down));
        let imported = combine(roles, &wanted()).unwrap();
        let spec = &imported.object.spec;
        prop_assert_eq!(spec.mode, Mode::Recommend);
        let window = spec.behavior.scale_down.stabilization_window_seconds;
        for rules in [&prefill_down, &decode_down] {
            prop_assert!(i64::from(window) >= rules["stabilizationWindowSeconds"].as_i64().unwrap_or(300));
        }
        let text = manifest::yaml(&imported).unwrap();
        let read: PDAutoscaler = serde_saphyr::from_str(&text).unwrap();
        prop_assert_eq!(&read.spec, spec);
    }
}
