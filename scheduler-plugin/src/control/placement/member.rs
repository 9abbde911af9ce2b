//! The labels by which workload systems mark the pods of one replica.
//!
//! Sources, by the label's prefix: kubernetes-sigs/lws `api/leaderworkerset/v1`; sgl-project/rbg
//! `api/workloads/constants`; vllm-project/aibrix `pkg/controller/constants`; volcano-sh/kthena
//! `pkg/apis/workload/v1alpha1`; ai-dynamo/grove `operator/api/common`.

use std::collections::BTreeMap;

/// How a system marks a replica.
struct Marks {
    /// Labels that are alike in the pods of one replica and in no other pod.
    replica: &'static [&'static str],
    kind: KindMark,
}

/// How a system marks what a pod is within its replica.
enum KindMark {
    /// The leader has this value of a label, all others are workers.
    Leader(&'static str, &'static str),
    /// The value of a label is the kind.
    Named(&'static str),
    /// The value of a label begins with the values of `replica`, and the rest is the kind.
    Within(&'static str),
}

const SYSTEMS: [Marks; 5] = [
    Marks {
        replica: &[
            "leaderworkerset.sigs.k8s.io/name",
            "leaderworkerset.sigs.k8s.io/group-index",
        ],
        kind: KindMark::Leader("leaderworkerset.sigs.k8s.io/worker-index", "0"),
    },
    Marks {
        replica: &["rbg.workloads.x-k8s.io/role-instance-name"],
        kind: KindMark::Named("rbg.workloads.x-k8s.io/component-name"),
    },
    Marks {
        replica: &[
            "roleset-name",
            "stormservice.orchestration.aibrix.ai/podset-name",
        ],
        kind: KindMark::Leader("stormservice.orchestration.aibrix.ai/pod-group-index", "0"),
    },
    Marks {
        replica: &[
            "modelserving.volcano.sh/group-name",
            "modelserving.volcano.sh/role",
            "modelserving.volcano.sh/role-id",
        ],
        kind: KindMark::Leader("modelserving.volcano.sh/entry", "true"),
    },
    Marks {
        replica: &[
            "grove.io/podcliquescalinggroup",
            "grove.io/podcliquescalinggroup-replica-index",
        ],
        kind: KindMark::Within("grove.io/podclique"),
    },
];

/// The replica of a pod and its kind within it, by its labels. A pod of no known system is a
/// replica of its own.
pub(super) fn replica(labels: &BTreeMap<String, String>, name: &str) -> (String, String) {
    let marked = SYSTEMS.iter().find_map(|marks| {
        let values = marks.replica.iter().map(|label| labels.get(*label));
        let values: Vec<&str> = values
            .map(|value| value.map(String::as_str))
            .collect::<Option<_>>()?;
        Some((values.join("/"), kind(marks, labels, &values)))
    });
    marked.unwrap_or_else(|| (name.to_owned(), "pod".to_owned()))
}

fn kind(marks: &Marks, labels: &BTreeMap<String, String>, values: &[&str]) -> String {
    match marks.kind {
        KindMark::Leader(label, value) => {
            let is_leader = labels.get(label).is_some_and(|found| found == value);
            if is_leader { "leader" } else { "worker" }.to_owned()
        }
        KindMark::Named(label) => labels
            .get(label)
            .map_or_else(|| "pod".to_owned(), Clone::clone),
        KindMark::Within(label) => {
            let found = labels.get(label).map_or("pod", String::as_str);
            let prefix = format!("{}-", values.join("-"));
            found.strip_prefix(&prefix).unwrap_or(found).to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::leader(&[("leaderworkerset.sigs.k8s.io/name", "d"), ("leaderworkerset.sigs.k8s.io/group-index", "3"), ("leaderworkerset.sigs.k8s.io/worker-index", "0")], ("d/3", "leader"))]
    #[case::worker(&[("leaderworkerset.sigs.k8s.io/name", "d"), ("leaderworkerset.sigs.k8s.io/group-index", "3"), ("leaderworkerset.sigs.k8s.io/worker-index", "1")], ("d/3", "worker"))]
    #[case::rbg(&[("rbg.workloads.x-k8s.io/role-instance-name", "g-decode-1"), ("rbg.workloads.x-k8s.io/component-name", "router")], ("g-decode-1", "router"))]
    #[case::storm_without_pod_sets(&[("roleset-name", "r")], ("p", "pod"))]
    #[case::storm(&[("roleset-name", "r"), ("stormservice.orchestration.aibrix.ai/podset-name", "s"), ("stormservice.orchestration.aibrix.ai/pod-group-index", "0")], ("r/s", "leader"))]
    #[case::kthena(&[("modelserving.volcano.sh/group-name", "m-0"), ("modelserving.volcano.sh/role", "decode"), ("modelserving.volcano.sh/role-id", "decode-1"), ("modelserving.volcano.sh/entry", "true")], ("m-0/decode/decode-1", "leader"))]
    #[case::grove(&[("grove.io/podcliquescalinggroup", "a-0-decode"), ("grove.io/podcliquescalinggroup-replica-index", "2"), ("grove.io/podclique", "a-0-decode-2-big-worker")], ("a-0-decode/2", "big-worker"))]
    #[case::lws_by_hash(&[("leaderworkerset.sigs.k8s.io/name", "d"), ("leaderworkerset.sigs.k8s.io/group-index", "5f2c"), ("leaderworkerset.sigs.k8s.io/worker-index", "2")], ("d/5f2c", "worker"))]
    #[case::disaggregated_set(&[("disaggregatedset.x-k8s.io/name", "s"), ("disaggregatedset.x-k8s.io/role", "decode"), ("disaggregatedset.x-k8s.io/slice", "1"), ("leaderworkerset.sigs.k8s.io/name", "s-1-decode-5f"), ("leaderworkerset.sigs.k8s.io/group-index", "0"), ("leaderworkerset.sigs.k8s.io/worker-index", "0")], ("s-1-decode-5f/0", "leader"))]
    #[case::llm_d(&[("llm-d.ai/role", "decode"), ("llm-d.ai/model", "q"), ("leaderworkerset.sigs.k8s.io/name", "ms-decode"), ("leaderworkerset.sigs.k8s.io/group-index", "1"), ("leaderworkerset.sigs.k8s.io/worker-index", "1")], ("ms-decode/1", "worker"))]
    #[case::llm_d_on_a_deployment(&[("llm-d.ai/role", "decode"), ("llm-d.ai/model", "q"), ("pod-template-hash", "5f")], ("p", "pod"))]
    #[case::older_rbg_on_lws(&[("rolebasedgroup.workloads.x-k8s.io/name", "g"), ("rolebasedgroup.workloads.x-k8s.io/role", "decode"), ("leaderworkerset.sigs.k8s.io/name", "g-decode"), ("leaderworkerset.sigs.k8s.io/group-index", "2"), ("leaderworkerset.sigs.k8s.io/worker-index", "0")], ("g-decode/2", "leader"))]
    #[case::older_rbg(&[("rolebasedgroup.workloads.x-k8s.io/name", "g"), ("rolebasedgroup.workloads.x-k8s.io/role", "decode")], ("p", "pod"))]
    #[case::dynamo_on_grove(&[("nvidia.com/dynamo-graph-deployment-name", "g"), ("nvidia.com/dynamo-component", "decode"), ("grove.io/podcliquescalinggroup", "g-0-decode"), ("grove.io/podcliquescalinggroup-replica-index", "1"), ("grove.io/podclique", "g-0-decode-1-decode-ldr")], ("g-0-decode/1", "decode-ldr"))]
    #[case::dynamo_on_lws(&[("nvidia.com/dynamo-graph-deployment-name", "g"), ("nvidia.com/dynamo-component", "decode"), ("leaderworkerset.sigs.k8s.io/name", "g-decode"), ("leaderworkerset.sigs.k8s.io/group-index", "0"), ("leaderworkerset.sigs.k8s.io/worker-index", "3")], ("g-decode/0", "worker"))]
    #[case::dynamo_on_one_node(&[("nvidia.com/dynamo-graph-deployment-name", "g"), ("nvidia.com/dynamo-component", "decode")], ("p", "pod"))]
    #[case::kserve_on_lws(&[("app.kubernetes.io/name", "q"), ("kserve.io/component", "workload"), ("llm-d.ai/role", "prefill"), ("leaderworkerset.sigs.k8s.io/name", "q-kserve-mn-prefill"), ("leaderworkerset.sigs.k8s.io/group-index", "0"), ("leaderworkerset.sigs.k8s.io/worker-index", "0")], ("q-kserve-mn-prefill/0", "leader"))]
    #[case::kserve(&[("app.kubernetes.io/name", "q"), ("kserve.io/component", "workload"), ("llm-d.ai/role", "both")], ("p", "pod"))]
    #[case::grove_clique(&[("grove.io/podclique", "s-0-decode")], ("p", "pod"))]
    #[case::plain(&[("app", "x")], ("p", "pod"))]
    fn pods_of_a_replica_are_known_by_their_labels(
        #[case] labels: &[(&str, &str)],
        #[case] want: (&str, &str),
    ) {
        let labels = labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let (key, kind) = replica(&labels, "p");
        assert_eq!((key.as_str(), kind.as_str()), want);
    }
}
