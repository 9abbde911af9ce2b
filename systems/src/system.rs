//! A workload system, as the autoscaler needs it.
//!
//! A system knows one thing that others do not: where in its objects a role's replicas are, and
//! what must hold for them to be written. It says so as a [`Place`]; counting replicas and writing
//! them follow from that and are the same for all.

use std::fmt::Debug;

use serde_json::Value;

use crate::{
    kind::Kind,
    owner::autoscalers,
    place::Place,
    refusal::Refusal,
    target::{Near, Nearby, Target, Which},
};

/// Templates of claims, by which pods get their devices.
const CLAIM_TEMPLATES: Nearby = Nearby {
    group: "resource.k8s.io",
    version: "v1",
    kind: "ResourceClaimTemplate",
    plural: "resourceclaimtemplates",
    which: Which::All,
};

/// Whether a pod template anywhere in `object` claims devices by a template.
fn claims(object: &Value) -> bool {
    match object {
        Value::Object(fields) => {
            fields.contains_key("resourceClaimTemplateName") || fields.values().any(claims)
        }
        Value::Array(values) => values.iter().any(claims),
        _ => false,
    }
}

/// A workload system.
pub trait System: Debug + Sync {
    /// The system's name, as people write it.
    fn name(&self) -> &'static str;

    /// The kinds that can be targets.
    fn kinds(&self) -> &'static [Kind];

    /// Objects that have to be read beside the target's object, besides every autoscaler of the
    /// namespace. None for most.
    fn beside(&self, _target: &Target, _object: &Value) -> Vec<Nearby> {
        Vec::new()
    }

    /// Whether the target's `scale` has to be read.
    fn reads_scale(&self) -> bool {
        false
    }

    /// Where the replicas of the target's role are.
    fn resolve(&self, target: &Target, near: &Near<'_>) -> Result<Place, Refusal>;

    /// Everything that has to be read beside the target's object.
    fn nearby(&self, target: &Target, object: &Value) -> Vec<Nearby> {
        let mut nearby = autoscalers();
        if claims(object) {
            nearby.push(CLAIM_TEMPLATES);
        }
        nearby.extend(self.beside(target, object));
        nearby
    }
}
