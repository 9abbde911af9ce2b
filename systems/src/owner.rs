//! Who else sets the same replicas.
//!
//! Two masters make replicas jump between two opinions. Whoever else acts is found before a write,
//! named, and left alone: autoscalers that refer to the object, controllers that made it and set
//! its replicas again, and deployers that keep an object as a repository states it. A deployer that
//! acts only when a person calls it, such as Helm, is none of them.

use serde_json::Value;

use crate::{
    json::{self, list, name, text},
    target::{Near, Nearby, ObjectRef, Which, group},
};

/// Somebody else who sets the same replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Who: a kind and a name.
    pub who: String,
    /// The remedy.
    pub remedy: String,
}

impl Owner {
    /// `kind` `name`, and what to do.
    pub fn new(kind: &str, name: &str, remedy: impl Into<String>) -> Self {
        Self {
            who: format!("{kind} `{name}`"),
            remedy: remedy.into(),
        }
    }

    /// A sentence about it, for the target `kind` `name`.
    pub fn sentence(&self, kind: &str, name: &str) -> String {
        format!("{}: {}", self.fact(kind, name), self.remedy)
    }

    /// The sentence without the remedy.
    pub fn fact(&self, kind: &str, name: &str) -> String {
        format!("{} sets the replicas of {kind} `{name}` too", self.who)
    }
}

/// Kinds of autoscalers, by group, version, kind and plural. All refer to what they scale by
/// `scaleTargetRef` or `targetRef` somewhere in their spec.
pub(crate) const AUTOSCALERS: [(&str, &str, &str, &str); 5] = [
    (
        "autoscaling",
        "v2",
        "HorizontalPodAutoscaler",
        "horizontalpodautoscalers",
    ),
    ("keda.sh", "v1alpha1", "ScaledObject", "scaledobjects"),
    (
        "autoscaling.aibrix.ai",
        "v1alpha1",
        "PodAutoscaler",
        "podautoscalers",
    ),
    (
        "workload.serving.volcano.sh",
        "v1alpha1",
        "AutoscalingPolicy",
        "autoscalingpolicies",
    ),
    (
        "llmd.ai",
        "v1alpha1",
        "VariantAutoscaling",
        "variantautoscalings",
    ),
];

/// All autoscalers of the namespace, to be read for every target.
pub(crate) fn autoscalers() -> Vec<Nearby> {
    let nearby = |(group, version, kind, plural)| Nearby {
        group,
        version,
        kind,
        plural,
        which: Which::All,
    };
    AUTOSCALERS.into_iter().map(nearby).collect()
}

/// Whether a ScaledObject, by its annotations and its status, is paused at the replicas that are
/// there: KEDA has deleted its HPA and sets nothing. Paused at a number of its own it sets that
/// again and again, and paused in one direction it goes on in the other. Source: KEDA 2.21,
/// `controllers/keda/scaledobject_controller.go`; any text but a false one pauses.
pub fn is_paused<'a>(annotation: impl Fn(&str) -> Option<&'a str>, status: &Value) -> bool {
    const FALSE: [&str; 6] = ["0", "f", "F", "false", "False", "FALSE"];
    let is_asked = annotation("autoscaling.keda.sh/paused")
        .is_some_and(|text| !FALSE.contains(&text))
        && annotation("autoscaling.keda.sh/paused-replicas").is_none();
    let is_done = |condition: &Value| {
        text(condition, "/type") == Some("Paused") && text(condition, "/status") == Some("True")
    };
    is_asked && list(status, "/conditions").iter().any(is_done)
}

fn is_paused_object(autoscaler: &Value) -> bool {
    let annotations = &autoscaler["metadata"]["annotations"];
    is_paused(|key| annotations[key].as_str(), &autoscaler["status"])
}

/// The autoscalers near that refer to one of `objects`.
pub(crate) fn referring(near: &Near<'_>, objects: &[&ObjectRef]) -> Vec<Owner> {
    let known = |object: &Value| {
        let kind = text(object, "/kind").unwrap_or_default();
        AUTOSCALERS.iter().any(|(_, _, known, _)| *known == kind) && !is_paused_object(object)
    };
    let mut owners: Vec<Owner> = Vec::new();
    for autoscaler in near.related.iter().filter(|object| known(object)) {
        let refers = |object: &&&ObjectRef| refers(&autoscaler["spec"], object);
        if let Some(object) = objects.iter().find(refers) {
            let owner = autoscaler_owner(autoscaler, object);
            if !owners.contains(&owner) {
                owners.push(owner);
            }
        }
    }
    owners
}

/// Whether a reference anywhere in `spec` is to `object`. KEDA leaves out what is a Deployment's.
fn refers(spec: &Value, object: &ObjectRef) -> bool {
    match spec {
        Value::Object(fields) => fields.iter().any(|(field, value)| {
            let reference = field == "scaleTargetRef" || field == "targetRef";
            (reference && is_to(value, object)) || refers(value, object)
        }),
        Value::Array(values) => values.iter().any(|value| refers(value, object)),
        _ => false,
    }
}

fn is_to(reference: &Value, object: &ObjectRef) -> bool {
    let kind = text(reference, "/kind").unwrap_or("Deployment");
    let same_group = text(reference, "/apiVersion")
        .is_none_or(|version| group(version) == group(&object.api_version));
    text(reference, "/name") == Some(object.name.as_str()) && kind == object.kind && same_group
}

fn autoscaler_owner(autoscaler: &Value, object: &ObjectRef) -> Owner {
    let kind = text(autoscaler, "/kind").unwrap_or_default();
    let name = name(autoscaler);
    let managed = text(autoscaler, "/metadata/annotations/llm-d.ai~1managed") == Some("true");
    if managed {
        return Owner::new(
            kind,
            name,
            "llm-d's workload variant autoscaler decides for it (annotation `llm-d.ai/managed`): \
             remove the annotation and the object, or set spec.mode to Recommend",
        );
    }
    // KEDA makes an HPA for each ScaledObject, and makes it again when it is deleted.
    if let Some(by) = json::controller(autoscaler) {
        let (by_kind, by_name) = (text(by, "/kind"), text(by, "/name"));
        return Owner::new(
            by_kind.unwrap_or_default(),
            by_name.unwrap_or_default(),
            format!(
                "it made {kind} `{name}`: remove its own scaling, or set spec.mode to Recommend"
            ),
        );
    }
    let remedy = match kind {
        "AutoscalingPolicy" => format!(
            "take {} `{}` out of it, or set spec.mode to Recommend",
            object.kind, object.name
        ),
        _ => "delete it, or set spec.mode to Recommend".to_owned(),
    };
    Owner::new(kind, name, remedy)
}

/// The controller that made `object` and sets its replicas again, unless it is of a kind that
/// leaves them alone.
pub(crate) fn controller(object: &Value, leave_alone: &[&str]) -> Option<Owner> {
    let owner = json::controller(object)?;
    let kind = text(owner, "/kind").unwrap_or_default();
    if leave_alone.contains(&kind) {
        return None;
    }
    let remedy = match kind {
        "DisaggregatedSet"
        | "RoleBasedGroup"
        | "ModelServing"
        | "DynamoGraphDeployment"
        | "StormService"
        | "RoleSet" => "it sets them by role: name it and its role as target",
        "DynamoComponentDeployment" => "name its DynamoGraphDeployment and the component as target",
        "RoleInstanceSet" => "name its RoleBasedGroup and the role as target",
        "ModelBooster" => "set them there, or set spec.mode to Recommend",
        "RoleBasedGroupSet" => {
            "it makes whole groups: set its replicas to 1 group of its own, or spec.mode to Recommend"
        }
        "Service"
        | "Playground"
        | "LLMInferenceService"
        | "VLLMRuntime"
        | "LeaderWorkerSet"
        | "Deployment"
        | "PodCliqueScalingGroup" => "it sets them: name it as target",
        _ => {
            "it sets them again when they are changed: name it as target if it has a `scale` subresource, \
              or set spec.mode to Recommend"
        }
    };
    Some(Owner::new(
        kind,
        text(owner, "/name").unwrap_or_default(),
        remedy,
    ))
}

/// A step from a field to one below it, as `managedFields` has it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step<'a> {
    /// A field.
    Field(&'a str),
    /// The element of a list with that name.
    Named(&'a str),
}

/// Deployers that keep an object as a repository states it, by the beginning of their field
/// manager's name.
const DEPLOYERS: [(&str, &str); 4] = [
    ("argocd", "Argo CD"),
    ("kustomize-controller", "Flux's Kustomization"),
    ("helm-controller", "Flux's HelmRelease"),
    ("fleet", "Fleet"),
];

/// The name of the deployer whose field manager is `manager`, if it is one.
fn deployer_name(manager: &str) -> Option<&'static str> {
    let known = |(beginning, _): &&(&str, &'static str)| manager.starts_with(beginning);
    DEPLOYERS.iter().find(known).map(|(_, who)| *who)
}

/// Whether an entry of `managedFields` is a deployer's; the others say nothing here.
pub fn is_deployers(entry: &Value) -> bool {
    text(entry, "/manager").is_some_and(|manager| deployer_name(manager).is_some())
}

/// Who else sets `spec.replicas` of a plain workload, by its metadata: the controller that made it,
/// or a deployer.
pub fn of_metadata(metadata: &Value) -> Option<Owner> {
    let object = serde_json::json!({ "metadata": metadata });
    let replicas = [Step::Field("spec"), Step::Field("replicas")];
    controller(&object, &[]).or_else(|| deployer(&object, &replicas))
}

/// The deployer that keeps the field at `path` of `object` as a repository states it.
pub(crate) fn deployer(object: &Value, path: &[Step<'_>]) -> Option<Owner> {
    list(object, "/metadata/managedFields")
        .iter()
        .find_map(|entry| {
            let manager = text(entry, "/manager")?;
            let who = deployer_name(manager)?;
            // A write through `scale` of a deployer is not a manifest of its own.
            let own = text(entry, "/subresource").is_none_or(str::is_empty);
            (own && has(&entry["fieldsV1"], path)).then(|| Owner {
                who: format!("{who} (field manager `{manager}`)"),
                remedy: "take the replicas out of the manifest, or have it ignore that field"
                    .to_owned(),
            })
        })
}

/// Whether a set of managed fields has the one at `path`. A list that is managed as a whole has all
/// of its elements.
fn has(fields: &Value, path: &[Step<'_>]) -> bool {
    let Some((step, rest)) = path.split_first() else {
        return true;
    };
    let Some(fields) = fields.as_object() else {
        return false;
    };
    match step {
        Step::Field(field) => fields.get(&format!("f:{field}")).is_some_and(|below| {
            let whole = below.as_object().is_some_and(serde_json::Map::is_empty);
            whole || has(below, rest)
        }),
        Step::Named(element) => {
            let key = format!("k:{}", serde_json::json!({ "name": element }));
            fields.get(&key).is_some_and(|below| has(below, rest))
        }
    }
}

#[cfg(test)]
mod tests;
