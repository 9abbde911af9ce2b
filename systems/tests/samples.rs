//! Upstream's own manifests, as far as they stand beside the workspace in `../shared/samples` and
//! `../shared/crds`: each resolves or is refused for the reason that it shows, and what is written
//! changes the replicas of its roles alone and keeps to the schema of its CRD.
//!
//! Without that folder these tests say so and pass; the crate's own tests have small fixtures of
//! the same forms.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed step of a test ends it"
)]

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use flate2::read::GzDecoder;
use pd_core::Role;
use pd_systems::{
    edit::{Change, Write, edits},
    place::Place,
    refusal::Refusal,
    target::{Near, Target},
};
use serde_json::{Value, json};

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
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    if path.extension().is_some_and(|end| end == "gz") {
        let mut text = String::new();
        GzDecoder::new(bytes.as_slice())
            .read_to_string(&mut text)
            .unwrap();
        return text;
    }
    String::from_utf8(bytes).unwrap()
}

/// The documents of a YAML file.
fn documents(path: &Path) -> Vec<Value> {
    // Values that upstream fills in stand where numbers belong.
    let text = read(path)
        .replace("${VLLM_REPLICA_COUNT_P}", "2")
        .replace("${VLLM_REPLICA_COUNT_D}", "2");
    let documents: Result<Vec<Value>, _> = serde_saphyr::from_multiple(&text);
    documents.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The object of `kind` in a sample, as the API server would have it.
fn sample(folder: &Path, file: &str, kind: &str) -> Value {
    let found = documents(&folder.join(file))
        .into_iter()
        .find(|object| object["kind"] == kind);
    let mut object = found.unwrap_or_else(|| panic!("{file} has no {kind}"));
    object["metadata"]["resourceVersion"] = json!("7");
    object["metadata"]["uid"] = json!("1");
    object
}

fn place(
    object: &Value,
    related: &[Value],
    side: Role,
    role: Option<&str>,
) -> Result<Place, Refusal> {
    let text = |pointer: &str| {
        object
            .pointer(pointer)
            .unwrap()
            .as_str()
            .unwrap()
            .to_owned()
    };
    let target = Target {
        api_version: text("/apiVersion"),
        kind: text("/kind"),
        name: text("/metadata/name"),
        role: role.map(str::to_owned),
        side,
    };
    let system = pd_systems::system(&target.api_version, &target.kind);
    system.resolve(
        &target,
        &Near {
            object,
            scale: None,
            related,
        },
    )
}

/// Kind, file, kind in it, and what prefill and decode have: replicas, pods of each, GPUs of each.
type Pair = (
    &'static str,
    &'static str,
    &'static str,
    [Option<(u32, u32, Option<u32>)>; 2],
);

/// Samples with both roles in one object.
const PAIRS: [Pair; 11] = [
    (
        "rbg/pd-disagg-leader-worker.yaml",
        "RoleBasedGroup",
        "rbg/workloads.x-k8s.io_rolebasedgroups.yaml.gz",
        [Some((2, 4, Some(4))), Some((4, 2, Some(2)))],
    ),
    (
        "rbg/pd-disagg-standalone.yaml",
        "RoleBasedGroup",
        "rbg/workloads.x-k8s.io_rolebasedgroups.yaml.gz",
        [Some((1, 1, Some(1))), Some((1, 1, Some(1)))],
    ),
    (
        "aibrix/stormservice-pool.yaml",
        "StormService",
        "aibrix/orchestration.aibrix.ai_stormservices.yaml",
        [Some((5, 1, None)), Some((5, 1, None))],
    ),
    (
        "kthena/gpu-pd-disaggregation.yaml",
        "ModelServing",
        "kthena/workload.serving.volcano.sh_modelservings.yaml",
        [Some((1, 1, Some(1))), Some((1, 1, Some(1)))],
    ),
    (
        "kthena/vllm-pd-multinode.yaml",
        "ModelServing",
        "kthena/workload.serving.volcano.sh_modelservings.yaml",
        [Some((1, 2, Some(2))), Some((1, 2, Some(2)))],
    ),
    (
        "dynamo/disagg.yaml",
        "DynamoGraphDeployment",
        "dynamo/nvidia.com_dynamographdeployments.yaml",
        [Some((1, 1, Some(1))), Some((1, 1, Some(1)))],
    ),
    (
        "dynamo/disagg-multinode.yaml",
        "DynamoGraphDeployment",
        "dynamo/nvidia.com_dynamographdeployments.yaml",
        [Some((1, 2, Some(8))), Some((1, 2, Some(8)))],
    ),
    (
        "kserve/llm-inference-service-pd-qwen2-7b-gpu.yaml",
        "LLMInferenceService",
        "kserve/serving.kserve.io_llminferenceservices.yaml.gz",
        [Some((2, 1, Some(1))), Some((1, 1, Some(1)))],
    ),
    (
        "kserve/llm-inference-service-dp-ep-deepseek-r1-pd-gpu-p-deepep-ht-d-pplx.yaml",
        "LLMInferenceService",
        "kserve/serving.kserve.io_llminferenceservices.yaml.gz",
        [Some((1, 2, Some(16))), Some((1, 2, Some(16)))],
    ),
    (
        "lws/disaggregatedset_v1_disaggregatedset.yaml",
        "DisaggregatedSet",
        "lws/disaggregatedset.x-k8s.io_disaggregatedsets.yaml.gz",
        [Some((4, 1, None)), Some((4, 1, None))],
    ),
    // With fields newer than the CRD that stands beside it.
    (
        "llm-d/disaggregatedset.yaml",
        "DisaggregatedSet",
        "",
        [Some((8, 1, Some(1))), Some((2, 1, Some(4)))],
    ),
];

#[test]
fn both_roles_of_a_sample_change_in_one_write_that_keeps_to_the_schema() {
    let (Some(samples), Some(crds)) = (shared("samples"), shared("crds")) else {
        return;
    };
    let mut schema: (&str, Value) = ("", Value::Null);
    for (file, kind, crd, want) in PAIRS {
        let object = sample(&samples, file, kind);
        let places = Role::ALL.map(|side| {
            place(&object, &[], side, None).unwrap_or_else(|why| panic!("{file}: {why}"))
        });
        for (place, want) in places.iter().zip(want) {
            let (replicas, pods, gpus) = want.unwrap();
            assert_eq!(
                (place.desired, place.unit.pods, place.gpus.clone().ok()),
                (replicas, pods, gpus),
                "{file}"
            );
        }
        let to = |place: &Place| place.desired + 3 * place.copies;
        let changes = [&places[0], &places[1]].map(|place| Change {
            place,
            from: place.desired,
            to: to(place),
        });
        // A sample beside an autoscaler is only read.
        let edits = edits(&changes).unwrap_or_else(|why| panic!("{file}: {why}"));
        assert_eq!(edits.len(), 1, "{file}");
        let Write::JsonPatch(operations) = &edits[0].write else {
            panic!("{file}")
        };
        let mut after = object.clone();
        json_patch::patch(&mut after, operations).unwrap_or_else(|why| panic!("{file}: {why}"));
        let pointers = differences("", &object, &after);
        assert_eq!(pointers.len(), 2, "{file}: {pointers:?}");
        assert!(
            pointers
                .iter()
                .all(|pointer| pointer.ends_with("/replicas")),
            "{file}: {pointers:?}"
        );
        if !crd.is_empty() {
            let version = object["apiVersion"]
                .as_str()
                .unwrap()
                .rsplit('/')
                .next()
                .unwrap();
            let key = crd;
            if schema.0 != key {
                schema = (key, documents(&crds.join(crd)).remove(0));
            }
            let versions = schema.1["spec"]["versions"].as_array().unwrap();
            let of = versions.iter().find(|known| known["name"] == version);
            let of = &of.unwrap_or_else(|| panic!("{crd} has no {version}"))["schema"]["openAPIV3Schema"];
            assert_eq!(faults("", of, &after), [""; 0], "{file}");
        }
    }
}

#[test]
fn samples_of_one_role_resolve() {
    let Some(samples) = shared("samples") else {
        return;
    };
    let lws = sample(&samples, "lws/lws.yaml", "LeaderWorkerSet");
    let of = place(&lws, &[], Role::Decode, None).unwrap();
    assert_eq!((of.desired, of.unit.pods, of.gpus.clone()), (2, 2, Ok(2)));
    for (file, kind) in [
        ("llm-d/output-pd.yaml", "Deployment"),
        ("plain/vllm-prefill-deployment.yaml", "Deployment"),
        ("production-stack/prefill-deploy.yaml", "Deployment"),
        ("smg/pd-statefulsets.yaml", "StatefulSet"),
        (
            "production-stack/production-stack_v1alpha1_vllmruntime.yaml",
            "VLLMRuntime",
        ),
    ] {
        let object = sample(&samples, file, kind);
        let of =
            place(&object, &[], Role::Prefill, None).unwrap_or_else(|why| panic!("{file}: {why}"));
        let change = Change {
            place: &of,
            from: of.desired,
            to: of.desired + 1,
        };
        let edits = edits(&[change]).unwrap_or_else(|why| panic!("{file}: {why}"));
        assert!(matches!(edits[0].write, Write::Scale { .. }), "{file}");
    }
}

#[test]
fn samples_with_hazards_are_refused_for_them() {
    let Some(samples) = shared("samples") else {
        return;
    };
    let why = |object: &Value, related: &[Value], side| match place(object, related, side, None) {
        Err(refusal) => refusal.to_string(),
        Ok(place) => {
            let change = Change {
                place: &place,
                from: place.desired,
                to: place.desired + 1,
            };
            edits(&[change]).unwrap_err().to_string()
        }
    };
    let rolling = sample(&samples, "aibrix/stormservice-replica.yaml", "StormService");
    assert!(why(&rolling, &[], Role::Prefill).contains("InPlaceUpdate"));
    let pool = documents(&samples.join("aibrix/stormservice-pool.yaml"));
    let service = sample(&samples, "aibrix/stormservice-pool.yaml", "StormService");
    assert!(why(&service, &pool, Role::Prefill).contains("PodAutoscaler `ss-pool-prefill`"));
    let planned = sample(
        &samples,
        "dynamo/disagg_planner.yaml",
        "DynamoGraphDeployment",
    );
    assert!(why(&planned, &[], Role::Decode).contains("planner"));
    let adapted = "rbg/scaling-adapter-with-hpa.yaml";
    let group = sample(&samples, adapted, "RoleBasedGroup");
    assert!(
        why(&group, &documents(&samples.join(adapted)), Role::Prefill).contains("phase `none`")
    );
    let older = sample(&samples, "rbg/sglang-pd.yaml", "RoleBasedGroup");
    assert!(
        why(&older, &[], Role::Prefill)
            .contains("RoleBasedGroupScalingAdapter `sglang-pd-prefill`")
    );
    let own = "production-stack/production-stack_v1alpha1_vllmruntime_autoscaling.yaml";
    assert!(
        why(&sample(&samples, own, "VLLMRuntime"), &[], Role::Prefill)
            .contains("autoscalingConfig")
    );
    let elastic = sample(&samples, "llmaz/playground.yaml", "Playground");
    assert!(why(&elastic, &[], Role::Prefill).contains("elasticConfig"));
    let policy = sample(
        &samples,
        "kthena/autoscalerPolicy.yaml",
        "AutoscalingPolicy",
    );
    let mut serving = sample(
        &samples,
        "kthena/gpu-pd-disaggregation.yaml",
        "ModelServing",
    );
    serving["metadata"]["name"] = json!("podinfo-pd-ms");
    assert!(
        why(&serving, &[policy], Role::Prefill)
            .contains("AutoscalingPolicy `podinfo-pd-prom-policy`")
    );
    for file in [
        "grove/single-node-disaggregated.yaml",
        "grove/multi-node-disaggregated.yaml",
    ] {
        assert!(
            why(&sample(&samples, file, "PodCliqueSet"), &[], Role::Prefill).contains("PodClique")
        );
    }
}

/// Pointers at which two values differ.
fn differences(at: &str, before: &Value, after: &Value) -> Vec<String> {
    match (before, after) {
        (Value::Object(old), Value::Object(new)) => {
            let keys: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            let below = keys
                .into_iter()
                .flat_map(|key| differences(&format!("{at}/{key}"), &before[key], &after[key]));
            below.collect()
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            let below = old.iter().zip(new).enumerate();
            below
                .flat_map(|(index, (old, new))| differences(&format!("{at}/{index}"), old, new))
                .collect()
        }
        _ if before == after => Vec::new(),
        _ => vec![at.to_owned()],
    }
}

/// The parts of `value` that an `OpenAPI` schema of Kubernetes refuses: types, unknown and missing
/// fields, bounds and choices. Formats and CEL are the API server's.
fn faults(at: &str, schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    if schema["x-kubernetes-int-or-string"] == true
        || schema["x-kubernetes-preserve-unknown-fields"] == true
    {
        return found;
    }
    let fits = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        Some("boolean") => value.is_boolean(),
        _ => true,
    };
    if !fits {
        found.push(format!("{at} is no {}", schema["type"]));
    }
    if schema["minimum"].as_f64() > value.as_f64() && value.is_number() {
        found.push(format!("{at} is below {}", schema["minimum"]));
    }
    if let Some(choices) = schema["enum"]
        .as_array()
        .filter(|choices| !choices.contains(value))
    {
        found.push(format!("{at} is none of {choices:?}"));
    }
    for required in schema["required"].as_array().into_iter().flatten() {
        if value.get(required.as_str().unwrap()).is_none() {
            found.push(format!("{at} lacks {required}"));
        }
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        found.extend(faults(&format!("{at}/{index}"), &schema["items"], item));
    }
    for (field, below) in value.as_object().into_iter().flatten() {
        let at = format!("{at}/{field}");
        match (
            schema["properties"].get(field),
            schema.get("additionalProperties"),
        ) {
            (Some(known), _) => found.extend(faults(&at, known, below)),
            (None, Some(any)) if any.is_object() => found.extend(faults(&at, any, below)),
            // The metadata's own schema is the API server's.
            (None, None) if schema["properties"].is_object() => {
                found.push(format!("{at} is unknown"));
            }
            (None, _) => {}
        }
    }
    found
}
