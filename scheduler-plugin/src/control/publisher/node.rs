//! The publisher's side of a node: its taint as it is, the times of its changes, and the patch that
//! makes another one.
//!
//! Only the value of a taint is replaced, at its place in the list: `timeAdded` says since when a
//! key is on the node, which another value does not change. It is set when a `NoExecute` taint is
//! added.

use json_patch::{AddOperation, Patch, PatchOperation, ReplaceOperation, jsonptr::PointerBuf};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use pd_tolerations::{Effect, canonical_int64};
use serde_json::{Value, json};

use super::{
    config::{ANNOTATION_PREFIX, Publisher},
    decide::{Current, MINUTE, TaintChange, within},
};
use crate::control::objects::WatchedNode;

/// Most times that an annotation keeps.
const TIMES_MAX: usize = 16;

/// Where the publisher's taint is in the list.
fn position(publisher: &Publisher, node: &WatchedNode) -> Option<usize> {
    let mut taints = node.taints().iter();
    taints.position(|taint| (&taint.key, &taint.effect) == (&publisher.key, &publisher.effect))
}

pub(super) fn current(publisher: &Publisher, node: &WatchedNode) -> Current {
    let Some(index) = position(publisher, node) else {
        return Current::Missing;
    };
    match canonical_int64(&node.taints()[index].value) {
        Ok(number) => Current::Number(number),
        Err(_) => Current::NoNumber,
    }
}

/// When the publisher last changed the node.
pub(super) fn last_change(publisher: &Publisher, node: &WatchedNode) -> Option<Timestamp> {
    times(node.annotations().get(&publisher.annotation())?).last()
}

/// When publishers changed the node, as far as it matters.
pub(super) fn changes_shown(node: &WatchedNode) -> Vec<Timestamp> {
    let annotations = node.annotations().iter();
    annotations
        .filter(|(key, _)| key.starts_with(ANNOTATION_PREFIX))
        .flat_map(|(_, text)| times(text))
        .collect()
}

/// The times in an annotation; others' texts have none.
fn times(text: &str) -> impl Iterator<Item = Timestamp> {
    text.split(' ').filter_map(|at| at.parse().ok())
}

/// The annotation after a change at `now`: its time, after those that still count for the rate.
fn times_kept(publisher: &Publisher, node: &WatchedNode, now: Timestamp) -> String {
    let before = node.annotations().get(&publisher.annotation());
    let mut kept: Vec<Timestamp> = before
        .into_iter()
        .flat_map(|text| times(text))
        .filter(|at| within(MINUTE, *at, now))
        .chain([whole_seconds(now)])
        .collect();
    kept.drain(..kept.len().saturating_sub(TIMES_MAX));
    let texts: Vec<String> = kept.iter().map(Timestamp::to_string).collect();
    texts.join(" ")
}

/// Whole seconds, as Kubernetes writes times.
pub(super) fn whole_seconds(now: Timestamp) -> Timestamp {
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

/// The JSON patch that makes a change to a node as it was seen.
pub(super) fn patch(
    publisher: &Publisher,
    node: &WatchedNode,
    change: TaintChange,
    now: Timestamp,
) -> Patch {
    let add = |path: PointerBuf, value: Value| PatchOperation::Add(AddOperation { path, value });
    let at = |tokens: &[&str]| PointerBuf::from_tokens(tokens.iter().copied());
    // Whoever changed the node in between wins, for the patch replaces the version that was seen.
    let seen = PatchOperation::Replace(ReplaceOperation {
        path: at(&["metadata", "resourceVersion"]),
        value: json!(node.metadata.resource_version),
    });
    let value = if let Some(index) = position(publisher, node) {
        let path = at(&["spec", "taints", &index.to_string(), "value"]);
        add(path, json!(change.to.to_string()))
    } else {
        let mut taint = publisher.taint(change.to);
        taint.time_added =
            (taint.effect == Effect::NoExecute).then(|| whole_seconds(now).to_string());
        if node.taints().is_empty() {
            add(at(&["spec", "taints"]), json!([taint]))
        } else {
            add(at(&["spec", "taints", "-"]), json!(taint))
        }
    };
    let annotation = publisher.annotation();
    let times = times_kept(publisher, node, now);
    let kept = if node.metadata.annotations.is_some() {
        add(at(&["metadata", "annotations", &annotation]), json!(times))
    } else {
        add(
            at(&["metadata", "annotations"]),
            json!({ annotation: times }),
        )
    };
    Patch(vec![seen, value, kept])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{super::config::Config, *};

    fn publisher() -> Publisher {
        let text = "publishers: [{name: p, key: sla, effect: NoExecute, query: up}]";
        Config::parse(text).unwrap().publishers.remove(0)
    }

    fn node(extra: &Value) -> WatchedNode {
        let mut node = json!({ "metadata": { "name": "n", "resourceVersion": "7" } });
        node["spec"] = extra["spec"].clone();
        if extra["annotated"] == json!(true) {
            node["metadata"]["annotations"] = json!({ "a": "b" });
        }
        serde_json::from_value(node).unwrap()
    }

    fn patched(extra: &Value) -> Value {
        let change = TaintChange {
            from: Current::Missing,
            to: 950,
        };
        let now = "2026-01-01T00:00:00.25Z".parse().unwrap();
        let patch = patch(&publisher(), &node(extra), change, now);
        let mut patch = json!(patch);
        assert_eq!(patch[0]["value"], "7");
        patch.as_array_mut().unwrap().remove(0);
        patch
    }

    #[test]
    fn a_known_taint_keeps_its_place_and_everything_but_its_value() {
        let taints = json!({ "spec": { "taints": [
            { "key": "sla", "value": "1", "effect": "NoSchedule" },
            { "key": "sla", "value": "900", "effect": "NoExecute", "timeAdded": "2025-01-01T00:00:00Z" },
        ] }, "annotated": true });
        assert_eq!(current(&publisher(), &node(&taints)), Current::Number(900));
        assert_eq!(
            patched(&taints),
            json!([
                { "op": "add", "path": "/spec/taints/1/value", "value": "950" },
                { "op": "add", "path": "/metadata/annotations/publisher.pdautoscaler.io~1p", "value": "2026-01-01T00:00:00Z" },
            ])
        );
    }

    #[test]
    fn a_new_taint_says_since_when_and_others_stay() {
        let taint = json!({ "key": "sla", "value": "950", "effect": "NoExecute", "timeAdded": "2026-01-01T00:00:00Z" });
        let alone = patched(&json!({ "spec": {} }));
        assert_eq!(
            alone[0],
            json!({ "op": "add", "path": "/spec/taints", "value": [taint] })
        );
        assert_eq!(alone[1]["path"], "/metadata/annotations");
        let beside = json!({ "spec": { "taints": [{ "key": "sla", "value": "1", "effect": "NoSchedule" }] } });
        assert_eq!(current(&publisher(), &node(&beside)), Current::Missing);
        assert_eq!(
            patched(&beside)[0],
            json!({ "op": "add", "path": "/spec/taints/-", "value": taint })
        );
    }

    #[test]
    fn times_are_kept_while_they_count_for_the_rate() {
        let mut node = node(&json!({ "spec": {} }));
        let annotation = publisher().annotation();
        let text = "2026-01-01T00:00:00Z 2026-01-01T00:01:30Z";
        node.metadata.annotations = Some(BTreeMap::from([(annotation, text.to_owned())]));
        let now = "2026-01-01T00:02:00Z".parse().unwrap();
        assert_eq!(
            times_kept(&publisher(), &node, now),
            "2026-01-01T00:01:30Z 2026-01-01T00:02:00Z"
        );
        assert_eq!(changes_shown(&node).len(), 2);
        let last = last_change(&publisher(), &node).unwrap();
        assert_eq!(last.to_string(), "2026-01-01T00:01:30Z");
    }
}
