//! Bad PDAutoscalers at the real API server: the table of pd-api is refused there too, with the
//! same words, and every example is taken.

#![expect(clippy::unwrap_used, reason = "a failed step of a test ends it")]

use kube::{
    Api,
    api::{ApiResource, DynamicObject, PostParams},
};
use pd_api::v1alpha1::PDAutoscaler;
use pd_tests::{
    control_plane::Namespace,
    stage::{merge, prepared_cluster},
};
use serde_json::{Value, json};

fn yaml(path: &str) -> Value {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(path);
    serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Puts `object` to the API server without keeping it; gives what it says when it refuses.
async fn refusal(api: &Api<DynamicObject>, mut object: Value) -> Option<String> {
    object["metadata"]
        .as_object_mut()
        .unwrap()
        .remove("namespace");
    let object: DynamicObject = serde_json::from_value(object).unwrap();
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    api.create(&dry_run, &object)
        .await
        .err()
        .map(|error| error.to_string())
}

/// Every example of a PDAutoscaler, each of which is taken as it is.
const EXAMPLES: [&str; 13] = [
    "minimal",
    "full",
    "statefulset",
    "disaggregatedset",
    "dynamo",
    "grove",
    "kserve",
    "kthena",
    "llmaz",
    "lws",
    "rbg",
    "storm",
    "vllmruntime",
];

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_refuses_the_table_and_takes_the_examples() {
    let plane = prepared_cluster().await.unwrap();
    let namespace = Namespace::create(plane, "refusals").await.unwrap();
    let kind = ApiResource::erase::<PDAutoscaler>(&());
    let api = Api::default_namespaced_with(namespace.client().await.unwrap(), &kind);
    let mut wrong = Vec::new();
    let table = yaml("api/tests/refusals.yaml");
    let table = table.as_array().unwrap();
    assert!(table.len() >= 50, "{} refusals", table.len());
    for case in table {
        let mut object = yaml("examples/pdautoscaler-full.yaml");
        merge(&mut object["spec"], &case["patch"]);
        let text = |key: &str| case[key].as_str().unwrap_or_default().to_owned();
        // A schema's bound is told at the field; a rule is told in our words.
        let said = if text("says").is_empty() {
            text("path")
        } else {
            text("says")
        };
        match refusal(&api, object).await {
            Some(message) if message.contains(&said) => {}
            other => wrong.push(format!("{}: wanted `{said}`, got {other:?}", text("name"))),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    for example in EXAMPLES {
        let object = yaml(&format!("examples/pdautoscaler-{example}.yaml"));
        assert_eq!(refusal(&api, object).await, None, "{example}");
    }
    let unknown = json!({ "spec": { "prefil": {} } });
    let mut object = yaml("examples/pdautoscaler-minimal.yaml");
    merge(&mut object, &unknown);
    // Unknown fields are pruned by the API server and told by kubectl, which validates strictly.
    let error = namespace
        .apply(&object.to_string())
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("prefil"), "{error}");
}
