//! Workload systems on a real API server with their real CRDs: upstream's samples are created, both
//! roles are scaled up and down, and nothing but their replicas changes; a stale decision and a
//! concurrent writer lose no write of others; hazards are refused.
//!
//! The CRDs stand beside the workspace, where they do at all: `../shared/crds` and
//! `../shared/samples`. Without them the tests of those systems say so and pass, and the one of a
//! small CRD of our own remains. No operator runs: what they would do is not under test.

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
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams},
};
use pd_autoscaler::workload::{
    WorkloadError, read,
    write::{self, Wanted},
};
use pd_core::Role;
use pd_systems::{refusal::Refusal, target::Target};
use pd_tests::control_plane::{ControlPlane, Namespace, shared, until_served};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

/// The folder of that name beside the workspace, or nothing, said aloud.
fn beside(name: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../shared")
        .join(name);
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("skipped: no folder `{name}` with the shared data beside the workspace");
    None
}

fn documents(path: &Path) -> Vec<Value> {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let text = if path.extension().is_some_and(|end| end == "gz") {
        let mut text = String::new();
        GzDecoder::new(bytes.as_slice())
            .read_to_string(&mut text)
            .unwrap();
        text
    } else {
        String::from_utf8(bytes).unwrap()
    };
    serde_saphyr::from_multiple(&text).unwrap()
}

/// Texts for people, which make these CRDs larger than a request may be.
fn without_descriptions(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|field, value| field != "description" || !value.is_string());
            fields.values_mut().for_each(without_descriptions);
        }
        Value::Array(items) => items.iter_mut().for_each(without_descriptions),
        _ => {}
    }
}

/// A CRD as it is installed: `version` alone and stored, for no operator converts here.
fn installable(mut crd: Value, version: &str) -> Value {
    without_descriptions(&mut crd);
    let spec = crd["spec"].as_object_mut().unwrap();
    spec.remove("conversion");
    let versions = spec["versions"].as_array_mut().unwrap();
    versions.retain(|known| known["name"] == version);
    versions[0]["storage"] = json!(true);
    versions[0]["served"] = json!(true);
    crd
}

/// File and version of each CRD under test.
const CRDS: [(&str, &str); 7] = [
    ("lws/leaderworkerset.x-k8s.io_leaderworkersets.yaml", "v1"),
    ("rbg/workloads.x-k8s.io_rolebasedgroups.yaml.gz", "v1alpha2"),
    (
        "rbg/workloads.x-k8s.io_rolebasedgroupscalingadapters.yaml",
        "v1alpha2",
    ),
    ("dynamo/nvidia.com_dynamographdeployments.yaml", "v1alpha1"),
    (
        "kthena/workload.serving.volcano.sh_modelservings.yaml",
        "v1alpha1",
    ),
    (
        "aibrix/orchestration.aibrix.ai_stormservices.yaml",
        "v1alpha1",
    ),
    (
        "production-stack/production-stack.vllm.ai_vllmruntimes.yaml",
        "v1alpha1",
    ),
];

static INSTALLED: OnceCell<bool> = OnceCell::const_new();

/// The shared cluster with the CRDs, if they are at hand.
async fn cluster() -> Option<&'static ControlPlane> {
    let plane = shared().await.unwrap();
    let installed = INSTALLED.get_or_init(async || {
        let Some(folder) = beside("crds") else {
            return false;
        };
        for (file, version) in CRDS {
            let crd = installable(documents(&folder.join(file)).remove(0), version);
            install(plane, &crd).await;
        }
        true
    });
    installed.await.then_some(plane)
}

async fn install(plane: &ControlPlane, crd: &Value) {
    plane.apply(&crd.to_string()).await.unwrap();
    let name = crd["metadata"]["name"].as_str().unwrap();
    until_served(plane, name).await.unwrap();
}

/// An object in a namespace of its own.
struct Scene {
    client: Client,
    namespace: Namespace<'static>,
    api: Api<DynamicObject>,
    kind: GroupVersionKind,
    name: String,
}

impl Scene {
    async fn of(plane: &'static ControlPlane, object: &Value) -> Self {
        let namespace = Namespace::create(plane, "systems").await.unwrap();
        let client = namespace.client().await.unwrap();
        let text = |field: &str| object[field].as_str().unwrap();
        let (group, version) = text("apiVersion").split_once('/').unwrap();
        let kind = GroupVersionKind::gvk(group, version, text("kind"));
        let plural = format!("{}s", kind.kind.to_lowercase());
        let resource = ApiResource::from_gvk_with_plural(&kind, &plural);
        let api = Api::namespaced_with(client.clone(), namespace.name(), &resource);
        let mut object = object.clone();
        object["metadata"]
            .as_object_mut()
            .unwrap()
            .remove("namespace");
        let made: DynamicObject = serde_json::from_value(object).unwrap();
        let name = made.metadata.name.clone().unwrap();
        api.create(&PostParams::default(), &made).await.unwrap();
        Self {
            client,
            namespace,
            api,
            kind,
            name,
        }
    }

    async fn now(&self) -> Value {
        serde_json::to_value(self.api.get(&self.name).await.unwrap()).unwrap()
    }

    fn target(&self, side: Role, role: Option<&str>) -> Target {
        Target {
            api_version: self.kind.api_version(),
            kind: self.kind.kind.clone(),
            name: self.name.clone(),
            role: role.map(str::to_owned),
            side,
        }
    }

    async fn replicas(&self, target: &Target) -> u32 {
        let place = read::place(&self.client, self.namespace.name(), target)
            .await
            .unwrap();
        place.desired
    }

    async fn write(&self, wanted: &[Wanted]) -> (Vec<Role>, Result<(), WorkloadError>) {
        write::write(&self.client, self.namespace.name(), wanted, || true).await
    }

    /// Brings both roles to `to`, and gives the JSON pointers of the spec that this changed.
    async fn bring(&self, to: [u32; 2]) -> Vec<String> {
        let before = self.now().await;
        let mut wanted = Vec::new();
        for (side, to) in Role::ALL.into_iter().zip(to) {
            let target = self.target(side, None);
            let from = self.replicas(&target).await;
            wanted.push(Wanted { target, from, to });
        }
        let (_, result) = self.write(&wanted).await;
        result.unwrap();
        for wanted in &wanted {
            assert_eq!(self.replicas(&wanted.target).await, wanted.to);
        }
        differences("/spec", &before["spec"], &self.now().await["spec"])
    }

    async fn change(&self, change: &Value) {
        let params = PatchParams::default();
        self.api
            .patch(&self.name, &params, &Patch::Merge(change))
            .await
            .unwrap();
    }

    async fn refusal(&self, side: Role) -> Refusal {
        let target = self.target(side, None);
        match read::place(&self.client, self.namespace.name(), &target).await {
            Err(WorkloadError::Refused(refusal)) => refusal,
            other => panic!("not refused: {other:?}"),
        }
    }
}

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

fn sample(file: &str, kind: &str) -> Option<Value> {
    let path = beside("samples")?.join(file);
    documents(&path)
        .into_iter()
        .find(|object| object["kind"] == kind)
}

/// Both roles of a sample up, down, and one of them alone.
async fn both_roles(object: Option<Value>, fields: [&str; 2]) -> Option<Scene> {
    let plane = cluster().await?;
    let scene = Scene::of(plane, &object?).await;
    let first = scene.bring([6, 7]).await;
    assert_eq!(first, fields);
    assert_eq!(scene.bring([5, 3]).await, fields);
    assert_eq!(scene.bring([5, 4]).await, &fields[1..]);
    stale_and_raced(&scene).await;
    Some(scene)
}

/// A decision on replicas that are no longer there writes nothing; of two writers at once one wins
/// and the other changes nothing.
async fn stale_and_raced(scene: &Scene) {
    let target = scene.target(Role::Decode, None);
    let now = scene.replicas(&target).await;
    let to = |from, to| Wanted {
        target: target.clone(),
        from,
        to,
    };
    let (written, result) = scene.write(&[to(now + 1, now + 2)]).await;
    let error = result.unwrap_err();
    assert!(
        matches!(error, WorkloadError::Refused(Refusal::Moved { .. })),
        "{error}"
    );
    assert_eq!((written, scene.replicas(&target).await), (Vec::new(), now));
    let (up, down) = ([to(now, now + 3)], [to(now, now - 1)]);
    let (first, second) = futures::join!(scene.write(&up), scene.write(&down));
    let won = [&first, &second].map(|(written, _)| !written.is_empty());
    let after = scene.replicas(&target).await;
    assert!(won[0] != won[1], "{first:?} {second:?}");
    assert_eq!(after, if won[0] { now + 3 } else { now - 1 });
}

#[tokio::test]
async fn a_role_based_group_is_scaled_by_role() {
    let object = sample("rbg/pd-disagg-leader-worker.yaml", "RoleBasedGroup");
    let fields = ["/spec/roles/1/replicas", "/spec/roles/2/replicas"];
    let Some(scene) = both_roles(object, fields).await else {
        return;
    };
    // From now on its adapter would write over it, and there is none.
    let mut roles = scene.now().await["spec"]["roles"].clone();
    roles[1]["scalingAdapter"] = json!({ "enable": true });
    scene.change(&json!({ "spec": { "roles": roles } })).await;
    let refusal = scene.refusal(Role::Prefill).await;
    assert!(matches!(refusal, Refusal::Lacks { .. }), "{refusal}");
}

#[tokio::test]
async fn a_storm_service_is_scaled_by_role_unless_it_would_replace_its_pods() {
    let object = sample("aibrix/stormservice-pool.yaml", "StormService");
    let at = |index: u32| format!("/spec/template/spec/roles/{index}/replicas");
    let Some(scene) = both_roles(object, [&at(0), &at(1)]).await else {
        return;
    };
    scene
        .change(&json!({ "spec": { "updateStrategy": { "type": "RollingUpdate" } } }))
        .await;
    let refusal = scene.refusal(Role::Prefill).await;
    assert!(matches!(refusal, Refusal::ReplacesPods { .. }), "{refusal}");
}

#[tokio::test]
async fn a_model_serving_is_scaled_by_role() {
    let object = sample("kthena/gpu-pd-disaggregation.yaml", "ModelServing");
    let fields = [
        "/spec/template/roles/0/replicas",
        "/spec/template/roles/1/replicas",
    ];
    let Some(scene) = both_roles(object, fields).await else {
        return;
    };
    scene.change(&json!({ "spec": { "replicas": 0 } })).await;
    let refusal = scene.refusal(Role::Decode).await;
    assert!(matches!(refusal, Refusal::NotATarget { .. }), "{refusal}");
}

#[tokio::test]
async fn an_older_dynamo_graph_is_scaled_by_service() {
    let service = |side: &str| {
        json!({ "componentType": "worker", "subComponentType": side, "replicas": 2,
            "resources": { "limits": { "gpu": "1" } } })
    };
    let object = json!({
        "apiVersion": "nvidia.com/v1alpha1", "kind": "DynamoGraphDeployment", "metadata": { "name": "g" },
        "spec": { "services": {
            "Frontend": { "componentType": "frontend", "replicas": 1 },
            "decode": service("decode"), "prefill": service("prefill"),
        } },
    });
    let fields = [
        "/spec/services/decode/replicas",
        "/spec/services/prefill/replicas",
    ];
    let Some(plane) = cluster().await else {
        return;
    };
    let scene = Scene::of(plane, &object).await;
    assert_eq!(scene.bring([6, 7]).await, fields);
    assert_eq!(scene.bring([1, 3]).await, fields);
    stale_and_raced(&scene).await;
    let adapter =
        json!({ "spec": { "services": { "prefill": { "scalingAdapter": { "enabled": true } } } } });
    scene.change(&adapter).await;
    let refusal = scene.refusal(Role::Prefill).await;
    assert!(matches!(refusal, Refusal::ByAdapter { .. }), "{refusal}");
}

#[tokio::test]
async fn kinds_with_scale_are_written_through_it_alone() {
    let Some(plane) = cluster().await else {
        return;
    };
    let groups = sample("lws/lws.yaml", "LeaderWorkerSet").unwrap();
    let file = "production-stack/production-stack_v1alpha1_vllmruntime.yaml";
    let runtime = sample(file, "VLLMRuntime").unwrap();
    let cases = [
        (groups, "/spec/replicas"),
        (runtime, "/spec/deploymentConfig/replicas"),
    ];
    for (object, field) in cases {
        let scene = Scene::of(plane, &object).await;
        let before = scene.now().await;
        let target = scene.target(Role::Decode, None);
        for to in [5, 3] {
            let from = scene.replicas(&target).await;
            let (written, result) = scene
                .write(&[Wanted {
                    target: target.clone(),
                    from,
                    to,
                }])
                .await;
            result.unwrap();
            assert_eq!(written, [Role::Decode]);
        }
        assert_eq!(
            differences("/spec", &before["spec"], &scene.now().await["spec"]),
            [field]
        );
        stale_and_raced(&scene).await;
    }
}

/// A kind of our own: what `scale` says is all that is known of it.
fn pools() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": "pools.systems.example.com" },
        "spec": {
            "group": "systems.example.com", "scope": "Namespaced",
            "names": { "kind": "Pool", "plural": "pools" },
            "versions": [{ "name": "v1", "served": true, "storage": true,
                "schema": { "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } },
                "subresources": { "scale": {
                    "specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size",
                    "labelSelectorPath": ".status.selector" } },
            }],
        },
    })
}

#[tokio::test]
async fn a_kind_that_comes_later_is_absent_first_and_scaled_then() {
    let plane = shared().await.unwrap();
    let namespace = Namespace::create(plane, "systems").await.unwrap();
    let client = namespace.client().await.unwrap();
    let target = |kind: &str| Target {
        api_version: "systems.example.com/v1".into(),
        kind: kind.into(),
        name: "p".into(),
        role: None,
        side: Role::Decode,
    };
    let before = read::place(&client, namespace.name(), &target("Pool"))
        .await
        .unwrap_err();
    assert!(
        matches!(before, WorkloadError::KindAbsent { .. }),
        "{before}"
    );
    install(plane, &pools()).await;
    let object = json!({ "apiVersion": "systems.example.com/v1", "kind": "Pool",
        "metadata": { "name": "p" }, "spec": { "size": 2, "color": "blue" } });
    let missing = read::place(&client, namespace.name(), &target("Pool"))
        .await
        .unwrap_err();
    assert!(
        matches!(missing, WorkloadError::NotFound { .. }),
        "{missing}"
    );
    let scene = Scene::of(plane, &object).await;
    let pool = scene.target(Role::Decode, None);
    let wanted = Wanted {
        target: pool,
        from: 2,
        to: 5,
    };
    let (_, result) = scene.write(&[wanted]).await;
    result.unwrap();
    assert_eq!(
        scene.now().await["spec"],
        json!({ "size": 5, "color": "blue" })
    );
}
