//! Whether a workload is replacing its pods, so that old and new ones exist side by side.
//!
//! Only a change of the pods themselves counts: replicas that are added or removed change no pod.
//! Both kinds show it in their status, each in its own way; a status that is older than the spec
//! shows nothing, so that counts as a change. Pure: objects in, yes or no out.

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};

/// Whether a Deployment has pods of an older template beside those of the newest.
pub fn deployment(object: &Deployment) -> bool {
    let Some(status) = &object.status else {
        return false;
    };
    let unseen = behind(object.metadata.generation, status.observed_generation);
    // Of `replicas`, those that are not updated are of an older template; a surge is among them or
    // makes them.
    unseen || status.updated_replicas.unwrap_or(0) < status.replicas.unwrap_or(0)
}

/// Whether a StatefulSet is on its way to another revision. Pods that its partition holds back, and
/// those that wait to be deleted by hand, are not on their way.
pub fn stateful_set(object: &StatefulSet) -> bool {
    let (Some(spec), Some(status)) = (&object.spec, &object.status) else {
        return false;
    };
    let strategy = spec.update_strategy.as_ref();
    if strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("OnDelete") {
        return false;
    }
    let partition = strategy
        .and_then(|strategy| strategy.rolling_update.as_ref()?.partition)
        .unwrap_or(0);
    let revisions_differ = status.update_revision != status.current_revision;
    let moving = spec.replicas.unwrap_or(1).saturating_sub(partition);
    let unseen = behind(object.metadata.generation, status.observed_generation);
    let updated = status.updated_replicas.unwrap_or(0);
    unseen || (revisions_differ && (partition == 0 || updated < moving))
}

fn behind(generation: Option<i64>, observed: Option<i64>) -> bool {
    generation.unwrap_or(0) > observed.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    #[rstest]
    #[case::steady(json!({ "observedGeneration": 3, "replicas": 4, "updatedReplicas": 4 }), false)]
    #[case::scaling_up(json!({ "observedGeneration": 3, "replicas": 2, "updatedReplicas": 2 }), false)]
    #[case::surge(json!({ "observedGeneration": 3, "replicas": 5, "updatedReplicas": 1 }), true)]
    #[case::old_ones_left(json!({ "observedGeneration": 3, "replicas": 4, "updatedReplicas": 3 }), true)]
    #[case::not_seen_yet(json!({ "observedGeneration": 2, "replicas": 4, "updatedReplicas": 4 }), true)]
    #[case::at_zero(json!({ "observedGeneration": 3 }), false)]
    fn a_deployment_rolls_out_while_it_has_older_pods(#[case] status: Value, #[case] want: bool) {
        let object = json!({ "metadata": { "generation": 3 }, "status": status });
        let object: Deployment = serde_json::from_value(object).unwrap();
        assert_eq!(deployment(&object), want);
    }

    #[rstest]
    #[case::steady("a", "a", json!({}), 4, false)]
    #[case::rolling("a", "b", json!({}), 2, true)]
    #[case::last_one_starts("a", "b", json!({}), 4, true)]
    #[case::held_by_a_partition("a", "b", json!({ "rollingUpdate": { "partition": 3 } }), 1, false)]
    #[case::on_the_way_to_a_partition("a", "b", json!({ "rollingUpdate": { "partition": 2 } }), 1, true)]
    #[case::by_hand("a", "b", json!({ "type": "OnDelete" }), 1, false)]
    fn a_stateful_set_rolls_out_between_two_revisions(
        #[case] current: &str,
        #[case] update: &str,
        #[case] strategy: Value,
        #[case] updated: i32,
        #[case] want: bool,
    ) {
        let object = json!({
            "metadata": { "generation": 1 },
            "spec": {
                "replicas": 4, "selector": {}, "serviceName": "x",
                "template": {}, "updateStrategy": strategy,
            },
            "status": {
                "observedGeneration": 1, "replicas": 4, "updatedReplicas": updated,
                "currentRevision": current, "updateRevision": update,
            },
        });
        let object: StatefulSet = serde_json::from_value(object).unwrap();
        assert_eq!(stateful_set(&object), want);
    }

    #[test]
    fn a_workload_without_a_status_does_not_roll_out() {
        assert!(!deployment(&Deployment::default()));
        assert!(!stateful_set(&StatefulSet::default()));
    }
}
