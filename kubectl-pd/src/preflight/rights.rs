//! The rights that the plugin's user and the controller need, as questions to the API server.
//!
//! The controller's are those of the chart: what every PDAutoscaler takes, and for each kind of
//! target what its system takes, which a switch of the chart grants. Pure.

use std::collections::BTreeSet;

use pd_api::{Resource, v1alpha1::GROUP};
use pd_systems::kind::Form;

/// A right.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Right {
    /// The verb.
    pub verb: &'static str,
    /// The API group, empty for the core's.
    pub group: &'static str,
    /// The resource.
    pub resource: &'static str,
    /// The subresource, empty for the object itself.
    pub subresource: &'static str,
    /// The namespace; all when empty.
    pub namespace: String,
    /// The use of it, as the end of a sentence.
    pub purpose: &'static str,
    /// `targets.<switch>.enabled` of the chart grants it; empty where it is always granted.
    pub switch: &'static str,
}

impl Right {
    /// The right in a few words, as `kubectl auth can-i` takes it.
    pub fn named(&self) -> String {
        let group = match self.group {
            "" => String::new(),
            group => format!(".{group}"),
        };
        let subresource = match self.subresource {
            "" => String::new(),
            subresource => format!("/{subresource}"),
        };
        format!("{} {}{group}{subresource}", self.verb, self.resource)
    }
}

fn right(
    verb: &'static str,
    (group, resource, subresource): (&'static str, &'static str, &'static str),
    namespace: &str,
    purpose: &'static str,
) -> Right {
    Right {
        verb,
        group,
        resource,
        subresource,
        namespace: namespace.to_owned(),
        purpose,
        switch: "",
    }
}

/// The rights that the plugin's user needs in `namespace`; in all when empty.
pub fn of_user(namespace: &str) -> Vec<Right> {
    let objects = (GROUP, Resource::Autoscaler.plural(), "");
    vec![
        right("list", objects, namespace, "status"),
        right("get", objects, namespace, "explain and why-not"),
        right("patch", objects, namespace, "pause and resume"),
        right("create", objects, namespace, "apply what import gives"),
    ]
}

/// The rights that a controller needs where PDAutoscalers are: in `namespace`, or in all when it
/// is empty; and for targets of `kinds`, each an `apiVersion` and a kind.
pub fn of_controller(namespace: &str, kinds: &BTreeSet<(String, String)>) -> Vec<Right> {
    let objects = (GROUP, Resource::Autoscaler.plural(), "");
    let status = (GROUP, Resource::Autoscaler.plural(), "status");
    let checkpoints = (GROUP, Resource::Checkpoint.plural(), "");
    let mut rights = vec![
        right("list", objects, namespace, "find PDAutoscalers"),
        right("watch", objects, namespace, "find PDAutoscalers"),
        right("patch", status, namespace, "report decisions"),
        right("get", checkpoints, namespace, "remember"),
        right("patch", checkpoints, namespace, "remember"),
        right("list", ("", "pods", ""), namespace, "count replicas"),
        right(
            "list",
            ("apps", "deployments", ""),
            namespace,
            "find workloads",
        ),
        right(
            "list",
            ("autoscaling", "horizontalpodautoscalers", ""),
            namespace,
            "stand back from other autoscalers",
        ),
        right(
            "create",
            ("events.k8s.io", "events", ""),
            namespace,
            "emit events",
        ),
    ];
    for (api_version, kind) in kinds {
        rights.extend(of_target(api_version, kind, namespace));
    }
    rights
}

/// The rights on targets of one kind; none for a kind whose resource is not known here.
fn of_target(api_version: &str, kind: &str, namespace: &str) -> Vec<Right> {
    let Some((_, known)) = pd_systems::find(api_version, kind) else {
        return Vec::new();
    };
    let object = (known.group, known.plural, "");
    // Deployments and StatefulSets are watched as a whole; others are read one by one.
    let read = if known.switch.is_empty() {
        "list"
    } else {
        "get"
    };
    let mut rights = vec![right(read, object, namespace, "read its targets")];
    match known.form {
        Form::Scale => rights.extend(["get", "patch"].map(|verb| {
            right(
                verb,
                (known.group, known.plural, "scale"),
                namespace,
                "scale its targets",
            )
        })),
        Form::JsonPatch => rights.push(right("patch", object, namespace, "scale its targets")),
    }
    for right in &mut rights {
        right.switch = known.switch;
    }
    rights
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(kind: (&str, &str)) -> Vec<String> {
        let rights = of_target(kind.0, kind.1, "");
        rights.iter().map(Right::named).collect()
    }

    #[test]
    fn kinds_that_are_scaled_need_their_scale_and_others_a_patch() {
        let deployments = [
            "list deployments.apps",
            "get deployments.apps/scale",
            "patch deployments.apps/scale",
        ];
        assert_eq!(named(("apps/v1", "Deployment")), deployments);
        let graphs = [
            "get dynamographdeployments.nvidia.com",
            "patch dynamographdeployments.nvidia.com",
        ];
        assert_eq!(
            named(("nvidia.com/v1beta1", "DynamoGraphDeployment")),
            graphs
        );
        assert_eq!(named(("example.com/v1", "Pool")), Vec::<String>::new());
    }

    #[test]
    fn every_right_on_a_switched_kind_names_its_switch() {
        for system in pd_systems::ALL {
            for kind in system.kinds() {
                for right in of_target(&kind.api_version(), kind.kind, "n") {
                    assert_eq!(right.switch, kind.switch, "{}", right.named());
                }
            }
        }
    }
}
