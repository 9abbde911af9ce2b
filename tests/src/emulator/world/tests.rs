//! The world in virtual time: no cluster, no clock.

use pd_sim::{exposition::Dialect, time::SECOND};
use serde_json::{Value, json};

use super::*;
use crate::meter::Page;

fn key(name: &str) -> PodKey {
    PodKey {
        namespace: "inference".into(),
        name: name.into(),
    }
}

fn pod(role: Role, uid: &str) -> ServingPod {
    ServingPod {
        uid: uid.into(),
        role,
        model_name: "llama".into(),
        instance: "10.0.0.1:8000".into(),
        dialect: Dialect::Current,
    }
}

fn world(prefill: usize, decode: usize) -> World {
    let mut world = World::new(EmulatorOptions::default());
    for index in 0..prefill {
        world.pod(0, key(&format!("p-{index}")), Some(pod(Role::Prefill, "u")));
    }
    for index in 0..decode {
        world.pod(0, key(&format!("d-{index}")), Some(pod(Role::Decode, "u")));
    }
    world
}

fn change(value: Value) -> LoadChange {
    serde_json::from_value(value).unwrap()
}

#[test]
fn more_prefill_pods_bring_ttft_down() {
    let mut world = world(1, 2);
    world
        .set_load(
            0,
            &change(
                json!({ "requestsPerSecond": 11.5, "inputTokensMean": 1500.0,
                "inputTokensCv": 0.2, "outputTokensMean": 50 }),
            ),
        )
        .unwrap();
    let ttft = |world: &mut World, at| {
        let state = world.state(at * SECOND);
        state.namespaces["inference"].ttft_seconds.unwrap().p50
    };
    let alone = ttft(&mut world, 120);
    world.pod(120 * SECOND, key("p-1"), Some(pod(Role::Prefill, "u")));
    let helped = ttft(&mut world, 300);
    assert!(helped < alone, "{helped} s is not less than {alone} s");
    assert!(helped < 0.2, "{helped} s");
}

#[test]
fn discovery_lists_serving_pods_only() {
    let mut world = world(1, 1);
    world.pod(0, key("d-0"), None);
    let targets = world.targets(SECOND, "127.0.0.1:9");
    let seen = serde_json::to_value(&targets).unwrap();
    assert_eq!(
        seen,
        json!([{
            "targets": ["127.0.0.1:9"],
            "labels": {
                "__meta_model_name": "llama",
                "__metrics_path__": "/pods/inference/p-0/metrics",
                "instance": "10.0.0.1:8000",
                "namespace": "inference",
                "pod": "p-0",
                "role": "prefill",
            },
        }])
    );
    assert!(world.metrics(SECOND, "inference", "p-0").is_some());
    assert!(world.metrics(SECOND, "inference", "d-0").is_none());
    assert!(world.metrics(SECOND, "elsewhere", "p-0").is_none());
}

#[test]
fn a_replaced_pod_starts_from_zero() {
    let mut world = world(1, 1);
    world
        .set_load(0, &change(json!({ "requestsPerSecond": 5.0 })))
        .unwrap();
    let count = |world: &mut World, at| {
        let text = world.metrics(at, "inference", "p-0").unwrap();
        let page = Page::parse(&text).unwrap();
        page.value("vllm:prompt_tokens_total", &[]).unwrap()
    };
    let before = count(&mut world, 60 * SECOND);
    world.pod(60 * SECOND, key("p-0"), Some(pod(Role::Prefill, "other")));
    let after = count(&mut world, 61 * SECOND);
    assert!(after < before / 5.0, "{after} after {before}");
}

#[test]
fn a_start_up_delay_keeps_a_pod_out() {
    let options = EmulatorOptions {
        startup_seconds: 30.0,
        ..Default::default()
    };
    let mut world = World::new(options);
    world.pod(0, key("p-0"), Some(pod(Role::Prefill, "u")));
    assert!(world.targets(29 * SECOND, "a").is_empty());
    assert_eq!(world.targets(30 * SECOND, "a").len(), 1);
}

#[test]
fn pods_missing_from_a_complete_list_are_gone() {
    let mut world = world(2, 1);
    assert!(!world.state(0).synced);
    world.keep_only(SECOND, &BTreeSet::from([key("p-1"), key("d-0")]));
    let state = world.state(SECOND);
    assert!(state.synced);
    assert_eq!(state.namespaces["inference"].prefill.ready, 1);
}

#[test]
fn load_changes_keep_what_they_do_not_name() {
    let mut world = world(1, 1);
    world
        .set_load(0, &change(json!({ "requestsPerSecond": 3.0 })))
        .unwrap();
    let more = json!({ "namespace": "inference", "inputTokensMean": 4000.0 });
    world.set_load(SECOND, &change(more)).unwrap();
    let slower = json!({ "profile": { "decodeBaseMilliseconds": 20.0 }, "dialect": "0.8.5" });
    world.set_load(SECOND, &change(slower)).unwrap();
    let service = &world.namespaces["inference"];
    let kept = Load {
        requests_per_second: 3.0,
        input_tokens_mean: 4000.0,
        ..World::new(EmulatorOptions::default()).stated.load
    };
    assert_eq!(service.stated.load, kept);
    let slower = Profile {
        decode_base_milliseconds: 20.0,
        ..Profile::default()
    };
    assert_eq!(service.service.profile(), &slower);
    let text = world.metrics(SECOND, "inference", "p-0").unwrap();
    assert!(text.contains("vllm:gpu_cache_usage_perc{"));
}

#[test]
fn impossible_loads_change_nothing() {
    let mut world = world(1, 1);
    let negative = change(json!({ "requestsPerSecond": -3.0 }));
    assert!(world.set_load(0, &negative).is_err());
    let misspelt = change(json!({ "profile": { "decodeBase": 20.0 } }));
    assert!(world.set_load(0, &misspelt).is_err());
    assert_eq!(world.namespaces["inference"].stated.curve, None);

    let options = EmulatorOptions {
        namespace: Some("a".into()),
        ..Default::default()
    };
    let other = change(json!({ "namespace": "b", "requestsPerSecond": 1.0 }));
    let error = World::new(options)
        .set_load(0, &other)
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "namespace `b` is not played: this emulator plays `a` only"
    );
}

#[test]
fn requests_wait_while_no_pod_is_ready() {
    let mut world = World::new(EmulatorOptions::default());
    let stated = change(json!({ "namespace": "inference", "requestsPerSecond": 10.0 }));
    world.set_load(0, &stated).unwrap();
    let waiting = world.state(10 * SECOND).namespaces["inference"]
        .prefill
        .waiting_at_router;
    assert!(waiting > 50, "{waiting}");
}
