//! Policies against the webhook: generated templates of every kind are put to an API server with
//! the policies, and to the webhook's own function; what would be stored must be the same, and so
//! must be what is refused.

use std::sync::Arc;

use k8s_openapi::ByteString;
use kube::{
    Client,
    api::{Api, ApiResource, DynamicObject, GroupVersionKind, PostParams},
};
use pd_api::v1alpha1::{NumericTolerationSpec, PDAutoscaler};
use pd_core::Role;
use pd_tests::control_plane::{ControlPlane, eventually};
use pd_tolerations::Comparison;
use pd_webhook::admission::{Claimed, Defaults, Rewriting, Workload, mutate};
use rand::{RngExt as _, SeedableRng as _, seq::IndexedRandom as _};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::{
    DEADLINE,
    objects::{above, llama, workloads},
};

/// How many are put to both, if `PD_GENERATED` says nothing.
const CASES: u64 = 150;
const ANNOTATION: &str = "/metadata/annotations/pdautoscaler.io~1numeric-tolerations";

/// The PDAutoscaler that the policies know: `llama`.
struct Llama(PDAutoscaler);

impl Claimed for Llama {
    fn claimant(&self, _: &Workload, _: &str) -> Option<String> {
        None
    }

    fn defaults(&self, workload: &Workload) -> Option<Arc<Defaults>> {
        let mine = |role: &Role| {
            let target = &self.0.spec.role(*role).target;
            (&target.kind, &target.name) == (&workload.kind, &workload.name)
        };
        let role = Role::ALL.into_iter().find(mine)?;
        let list = self.0.spec.role(role).numeric_tolerations.iter();
        Some(Arc::new(Defaults {
            autoscaler: "llama".to_owned(),
            role,
            tolerations: list.map(NumericTolerationSpec::toleration).collect(),
        }))
    }

    fn is_complete(&self) -> bool {
        true
    }
}

/// The kinds: group, kind, and where the template is.
const KINDS: [(&str, &str, &str); 9] = [
    ("", "Pod", ""),
    ("apps", "Deployment", "/spec/template"),
    ("apps", "ReplicaSet", "/spec/template"),
    ("apps", "StatefulSet", "/spec/template"),
    ("apps", "DaemonSet", "/spec/template"),
    ("batch", "Job", "/spec/template"),
    ("batch", "CronJob", "/spec/jobTemplate/spec/template"),
    ("", "ReplicationController", "/spec/template"),
    ("", "PodTemplate", "/template"),
];

fn place(kind: &str) -> (&'static str, &'static str) {
    let (group, _, path) = KINDS.iter().find(|(_, name, _)| *name == kind).unwrap();
    (group, path)
}

/// Creates an object for nothing.
async fn created(client: &Client, object: &Value) -> Result<Value, String> {
    let kind = object["kind"].as_str().unwrap();
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(place(kind).0, "v1", kind));
    let api = Api::<DynamicObject>::namespaced_with(client.clone(), "default", &resource);
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let object: DynamicObject = serde_json::from_value(object.clone()).unwrap();
    let made = api.create(&dry, &object).await;
    made.map(|made| serde_json::to_value(made).unwrap())
        .map_err(|error| error.to_string())
}

/// The object as the webhook would have it stored.
fn rewritten(object: &Value, llama: &Llama) -> Result<Value, String> {
    let kind = object["kind"].as_str().unwrap();
    let review = json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "u", "kind": { "group": place(kind).0, "version": "v1", "kind": kind }, "namespace": "default",
        "operation": "CREATE", "object": object } });
    // Policies write no preference.
    let rewriting = Rewriting {
        gate: Comparison::Off,
        preferred: None,
    };
    let answer = mutate(&serde_json::to_vec(&review).unwrap(), rewriting, llama).unwrap();
    let answer: Value = serde_json::from_slice(&answer.body).unwrap();
    let response = &answer["response"];
    if response["allowed"] == false {
        return Err(response["status"]["message"].to_string());
    }
    let mut object = object.clone();
    if response["patch"].is_string() {
        let patch: ByteString = serde_json::from_value(response["patch"].clone()).unwrap();
        let patch: json_patch::Patch = serde_json::from_slice(&patch.0).unwrap();
        json_patch::patch(&mut object, &patch).unwrap();
    }
    Ok(object)
}

fn looked_at(object: &Value) -> [Value; 3] {
    let (_, path) = place(object["kind"].as_str().unwrap());
    let at = |below: &str| {
        object
            .pointer(&format!("{path}{below}"))
            .cloned()
            .unwrap_or_default()
    };
    let mut affinity = at("/spec/affinity");
    // The API server keeps an empty place where the last requirement was removed.
    if affinity == json!({ "nodeAffinity": {} }) {
        affinity = Value::Null;
    }
    // Policies hold no pods.
    let terms = "/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms";
    if let Some(terms) = affinity.pointer_mut(terms).and_then(Value::as_array_mut) {
        terms.retain(|term| !term.to_string().contains("held.taint.pdautoscaler.io/"));
    }
    let (tolerations, annotation) = without_defaults(&at("/spec/tolerations"), &at(ANNOTATION));
    [tolerations, annotation, affinity]
}

/// Tolerations and annotation as if the API server had added none for nodes that are away: a policy
/// may come after it.
fn without_defaults(tolerations: &Value, annotation: &Value) -> (Value, Value) {
    let is_default = |one: &Value| {
        let key = one["key"].as_str().unwrap_or_default();
        ["not-ready", "unreachable"]
            .map(|away| format!("node.kubernetes.io/{away}"))
            .contains(&key.to_owned())
    };
    let Some(list) = tolerations.as_array() else {
        return (tolerations.clone(), annotation.clone());
    };
    let kept: Vec<&Value> = list.iter().filter(|one| !is_default(one)).collect();
    let entries = annotation
        .as_str()
        .and_then(|text| serde_json::from_str::<Value>(text).ok());
    let Some(mut entries) = entries else {
        return (json!(kept), annotation.clone());
    };
    for entry in entries.as_array_mut().into_iter().flatten() {
        if let Some(index) = entry["index"].as_u64() {
            let before = list.iter().take(usize::try_from(index).unwrap());
            entry["index"] = json!(before.filter(|one| !is_default(one)).count());
        }
    }
    (json!(kept), entries)
}

/// A template's tolerations, affinity and controller, by chance.
fn chance(object: &mut Value, random: &mut ChaCha8Rng) {
    let kind = object["kind"].as_str().unwrap().to_owned();
    let (_, path) = place(&kind);
    let some = |random: &mut ChaCha8Rng, list: &[&str]| (*list.choose(random).unwrap()).to_owned();
    let mut tolerations = Vec::new();
    for _ in 0..random.random_range(0..5) {
        let mut one =
            json!({ "key": some(random, &["a/sla", "cost", "a/sla", "cost", "a/sla", ""]) });
        let operator = some(
            random,
            &["Gt", "Lt", "Gt", "Lt", "Gt", "Equal", "Exists", ""],
        );
        if operator != "Exists" {
            one["value"] = json!(some(
                random,
                &[
                    "950",
                    "0",
                    "7",
                    "950",
                    "7",
                    "800",
                    "-1",
                    "07",
                    "",
                    "9223372036854775808"
                ]
            ));
        }
        one["operator"] = json!(operator);
        one["effect"] = json!(some(
            random,
            &["", "NoSchedule", "NoExecute", "PreferNoSchedule"]
        ));
        if one["effect"] == "NoExecute" && random.random_bool(0.5) {
            one["tolerationSeconds"] = json!(random.random_range(-1..400));
        }
        tolerations.push(one);
    }
    let zone = json!({ "key": "zone", "operator": "In", "values": ["a", "b"] });
    let name = json!({ "key": "metadata.name", "operator": "In", "values": ["n"] });
    let terms = match random.random_range(0..5) {
        0 => json!([{ "matchExpressions": [zone] }]),
        1 => {
            json!([{ "matchExpressions": [zone], "matchFields": [name] }, { "matchFields": [name] }])
        }
        2 => json!([{}, { "matchExpressions": [{ "key": "gpu", "operator": "Exists" }] }]),
        _ => Value::Null,
    };
    let preferred = json!([{ "weight": 1, "preference": { "matchExpressions": [zone] } }]);
    let template = object.pointer_mut(path).unwrap();
    template["spec"]["tolerations"] = json!(tolerations);
    if !terms.is_null() {
        template["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
            ["nodeSelectorTerms"] = terms;
    } else if random.random_bool(0.3) {
        template["spec"]["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"] =
            preferred;
    }
    if random.random_bool(0.3) {
        template["metadata"]["annotations"] = json!({ "other": "kept" });
    }
    if kind == "Pod" && random.random_bool(0.5) {
        let (kind, name) = [
            ("ReplicaSet", "role-prefill-6f4"),
            ("StatefulSet", "role-decode"),
        ][random.random_range(0..2)];
        object["metadata"]["labels"] = json!({ "pod-template-hash": "6f4" });
        object["metadata"]["ownerReferences"] = json!([{ "apiVersion": "apps/v1", "kind": kind, "name": name, "uid": "u", "controller": true }]);
    }
}

/// Objects of every kind, renamed so that they meet no others.
fn bases() -> Vec<Value> {
    let all = workloads().into_values().map(|mut object| {
        object["metadata"]["name"] = json!("generated");
        object
    });
    all.collect()
}

pub(crate) async fn until_all_kinds_are_rewritten(plane: &ControlPlane) {
    let client = plane.client().await.unwrap();
    for mut object in bases() {
        let kind = object["kind"].as_str().unwrap().to_owned();
        let (_, path) = place(&kind);
        object.pointer_mut(path).unwrap()["spec"]["tolerations"] = above("950");
        eventually(&format!("{kind} to be rewritten"), DEADLINE, async || {
            created(&client, &object).await.map(drop)
        })
        .await
        .unwrap();
    }
}

pub(crate) async fn policies_write_what_the_webhook_writes(client: &Client) {
    let llama = Llama(serde_json::from_value(llama()).unwrap());
    let cases = std::env::var("PD_GENERATED").map_or(CASES, |cases| cases.parse().unwrap());
    let seed = std::env::var("PD_SEED").map_or(6, |seed| seed.parse().unwrap());
    eprintln!("{cases} generated cases, seed {seed}");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let (mut taken, mut refused) = (0, 0);
    for number in 0..cases {
        let mut object = bases().choose(&mut random).unwrap().clone();
        chance(&mut object, &mut random);
        let by_policy = created(client, &object).await;
        // Everything that the webhook leaves over is the API server's to judge: the policies find
        // nothing more to do.
        let by_webhook = match rewritten(&object, &llama) {
            Ok(object) => created(client, &object)
                .await
                .map(|stored| (object, stored)),
            Err(reason) => Err(reason),
        };
        match (by_policy, by_webhook) {
            (Ok(by_policy), Ok((object, by_webhook))) => {
                taken += 1;
                let (got, want) = (looked_at(&by_policy), looked_at(&by_webhook));
                assert_eq!(got, want, "case {number} of seed {seed}: {object}");
                let [_, annotation, _] = looked_at(&object);
                assert_eq!(got[1], annotation, "case {number} of seed {seed}: {object}");
            }
            (Err(_), Err(_)) => refused += 1,
            (got, want) => panic!("case {number} of seed {seed}: {got:?}\n{want:?}\n{object}"),
        }
    }
    eprintln!("{taken} taken and {refused} refused by both alike");
}
