//! llmaz: a Playground makes a Service, which makes a LeaderWorkerSet. Neither holds more than one
//! role, so that prefill and decode are two objects.

use serde_json::Value;

use super::lws::{GROUP, LEADER_WORKER_SET, NAME, group_gpus, rolls, unit};
use crate::{
    build::scaled,
    json::name,
    kind::{Form, Kind, Roles, Victim},
    owner::Owner,
    place::{Place, PodSelector},
    refusal::Refusal,
    selector::Selector,
    system::System,
    target::{Near, Nearby, Target, Which},
};

/// llmaz.
#[derive(Clone, Copy, Debug)]
pub struct Llmaz;

/// Playgrounds.
pub const PLAYGROUND: Kind = Kind {
    group: "inference.llmaz.io",
    version: "v1alpha1",
    kind: "Playground",
    plural: "playgrounds",
    roles: Roles::One,
    form: Form::Scale,
    switch: "llmaz",
    replica: "LeaderWorkerSet group",
    serving: "leader",
    victim: Victim::HighestOrdinal,
    refused: "`elasticConfig`; a role inside the object",
};

/// Services, which share nothing but the name with those of Kubernetes and KServe.
pub const SERVICE: Kind = Kind {
    kind: "Service",
    plural: "services",
    refused: "made by a Playground; a role inside the object",
    ..PLAYGROUND
};

impl System for Llmaz {
    fn name(&self) -> &'static str {
        "llmaz"
    }

    fn kinds(&self) -> &'static [Kind] {
        const KINDS: [Kind; 2] = [PLAYGROUND, SERVICE];
        &KINDS
    }

    fn beside(&self, target: &Target, _: &Value) -> Vec<Nearby> {
        // Both make one of their own name.
        let named = Which::Named(target.name.clone());
        vec![Nearby::of(&LEADER_WORKER_SET, named)]
    }

    fn resolve(&self, target: &Target, near: &Near<'_>) -> Result<Place, Refusal> {
        let object = near.object;
        let kind = if target.kind == SERVICE.kind {
            &SERVICE
        } else {
            &PLAYGROUND
        };
        let mut place = scaled(kind, target, near, "/spec/replicas", &[])?;
        if object
            .pointer("/spec/elasticConfig")
            .is_some_and(Value::is_object)
        {
            let remedy = "its `elasticConfig` makes an autoscaler: remove it";
            place
                .owners
                .push(Owner::new(kind.kind, name(object), remedy));
        }
        let made = near.named(LEADER_WORKER_SET.kind, name(object));
        let stated =
            serde_json::json!({ "leaderWorkerTemplate": object["spec"]["workloadTemplate"] });
        let spec = made.map_or(&stated, |made| &made["spec"]);
        place.pods = PodSelector::labelled(Selector::equal(&[(NAME, name(object))]));
        place.unit = unit(spec, &[&[GROUP]]);
        place.gpus = group_gpus(spec, near);
        place.rolling_out = made.is_some_and(rolls);
        Ok(place)
    }
}

#[cfg(test)]
mod tests;
