//! PDAutoscalers under review: their own fields, and what others take.

use serde_json::{Value, json};

use super::*;

/// PDAutoscalers by the workload they take.
#[derive(Default)]
pub(super) struct Known {
    pub(super) takes: Vec<(&'static str, &'static str)>,
    pub(super) is_complete: bool,
}

impl Claimed for Known {
    fn claimant(&self, workload: &Workload, name: &str) -> Option<String> {
        let takes = |(owner, target): &&(&str, &str)| *owner != name && *target == workload.name;
        self.takes
            .iter()
            .find(takes)
            .map(|(owner, _)| (*owner).to_owned())
    }

    fn defaults(&self, _: &Workload) -> Option<Arc<Defaults>> {
        None
    }

    fn is_complete(&self) -> bool {
        self.is_complete
    }
}

fn scaler(name: &str, prefill: &str, decode: &str, most: i32) -> Value {
    let role = |target: &str| json!({ "target": { "apiVersion": "apps/v1", "kind": "Deployment", "name": target }, "maxReplicas": most });
    json!({
        "apiVersion": "pdautoscaler.io/v1alpha1", "kind": "PDAutoscaler", "metadata": { "name": name, "namespace": "ns" },
        "spec": { "prefill": role(prefill), "decode": role(decode), "objective": { "ttft": { "target": "500ms" }, "tpot": { "target": "50ms" } } },
    })
}

fn judged(object: &Value, old: Option<&Value>, known: &Known) -> Value {
    let review = json!({ "apiVersion": "admission.k8s.io/v1", "request": {
        "uid": "u-1", "kind": { "group": "pdautoscaler.io", "version": "v1alpha1", "kind": "PDAutoscaler" }, "namespace": "ns",
        "operation": if old.is_some() { "UPDATE" } else { "CREATE" }, "object": object, "oldObject": old } });
    let body = serde_json::to_vec(&review).unwrap();
    let answer: Value = serde_json::from_slice(&validate(&body, known).unwrap().body).unwrap();
    answer["response"].clone()
}

#[test]
fn no_two_pdautoscalers_take_one_workload() {
    let known = Known {
        takes: vec![("first", "p"), ("first", "d")],
        is_complete: true,
    };
    let says = |response: &Value| {
        response["status"]["message"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    assert_eq!(
        judged(&scaler("first", "p", "d", 4), None, &known)["allowed"],
        true
    );
    assert_eq!(
        judged(&scaler("second", "p2", "d2", 4), None, &known)["allowed"],
        true
    );
    let refused = says(&judged(&scaler("second", "p2", "d", 4), None, &known));
    assert!(
        refused.contains("spec.decode.target.name `d`") && refused.contains("`first`"),
        "{refused}"
    );
    let same = says(&judged(&scaler("one", "x", "x", 4), None, &known));
    assert!(same.contains("spec.decode.target.name `x`"), "{same}");
    let own = says(&judged(&scaler("one", "x", "y", 0), None, &known));
    assert!(
        own.contains("spec.prefill.maxReplicas `0`") && own.contains("; "),
        "{own}"
    );
    // An object that was stored before may be changed elsewhere, but not to a workload that is
    // taken.
    let old = scaler("second", "p2", "d", 4);
    assert_eq!(
        judged(&scaler("second", "p2", "d", 5), Some(&old), &known)["allowed"],
        true
    );
    assert_eq!(
        judged(&scaler("second", "p", "d", 5), Some(&old), &known)["allowed"],
        false
    );
    let bad = scaler("bad", "x", "y", 0);
    assert_eq!(judged(&bad, Some(&bad), &known)["allowed"], true);
    let unknown = judged(&scaler("second", "p", "d", 4), None, &Known::default());
    assert!(
        unknown["warnings"][0]
            .as_str()
            .unwrap()
            .contains("not known yet")
    );
}
