//! Grove without Dynamo: PodCliques and PodCliqueScalingGroups of a PodCliqueSet.
//!
//! The replicas in a PodCliqueSet's template count when its parts are created and never again, so
//! that the parts are the targets. Below `minAvailable` Grove ends the whole gang.

use serde_json::Value;

use super::lws::literal;
use crate::{
    build::{scaled, template_gpus},
    drain::Leaving,
    gpus::sum,
    json::{count, has_older, list, name, text},
    kind::{Form, Kind, Roles, Victim},
    owner::{Owner, controller},
    place::{Floor, Place, PodSelector, Serving, Unit},
    refusal::Refusal,
    selector::Selector,
    system::System,
    target::{Near, Nearby, Target, Which},
};

/// Grove.
#[derive(Clone, Copy, Debug)]
pub struct Grove;

/// PodCliques of their own.
pub const POD_CLIQUE: Kind = Kind {
    group: "grove.io",
    version: "v1alpha1",
    kind: "PodClique",
    plural: "podcliques",
    roles: Roles::One,
    form: Form::Scale,
    switch: "grove",
    replica: "1 pod",
    serving: "every pod",
    victim: Victim::Own,
    refused: "below `minAvailable`; a part of a scaling group or of a DynamoGraphDeployment",
};

/// Scaling groups.
pub const SCALING_GROUP: Kind = Kind {
    kind: "PodCliqueScalingGroup",
    plural: "podcliquescalinggroups",
    replica: "all pods of its cliques",
    serving: "leader clique, or the first",
    refused: "below `minAvailable`; a part of a DynamoGraphDeployment",
    ..POD_CLIQUE
};

const SET: &str = "PodCliqueSet";
const GROUP: &str = "grove.io/podcliquescalinggroup";
const CLIQUE: &str = "grove.io/podclique";
/// A scaling group's replica.
const KEY: &[&[&str]] = &[&["grove.io/podcliquescalinggroup-replica-index"]];
/// Parts of names that say that a clique leads the others.
const LEADERS: [&str; 4] = ["leader", "ldr", "head", "master"];

impl System for Grove {
    fn name(&self) -> &'static str {
        "Grove"
    }

    fn kinds(&self) -> &'static [Kind] {
        const KINDS: [Kind; 2] = [POD_CLIQUE, SCALING_GROUP];
        &KINDS
    }

    fn beside(&self, _: &Target, object: &Value) -> Vec<Nearby> {
        let set = set_of(object).map(|set| Nearby {
            group: POD_CLIQUE.group,
            version: POD_CLIQUE.version,
            kind: SET,
            plural: "podcliquesets",
            which: Which::Named(set.to_owned()),
        });
        set.into_iter().collect()
    }

    fn resolve(&self, target: &Target, near: &Near<'_>) -> Result<Place, Refusal> {
        let part = near.object;
        let is_group = target.kind == SCALING_GROUP.kind;
        let kind = if is_group {
            &SCALING_GROUP
        } else {
            &POD_CLIQUE
        };
        let mut place = scaled(kind, target, near, "/spec/replicas", &[SET])?;
        let set = set_of(part).and_then(|set| near.named(SET, set));
        let least = count(part, "/spec/minAvailable");
        // A clique without it keeps all that its template has; a scaling group one replica.
        let least = least.unwrap_or(if is_group { 1 } else { place.desired });
        place.floor = Floor {
            replicas: least,
            cause: "minAvailable",
        };
        if let Some(set) = set {
            place.owners.extend(controller(set, &[]));
        }
        if part
            .pointer("/spec/autoScalingConfig")
            .is_some_and(Value::is_object)
        {
            place.owners.push(own_autoscaler(kind.kind, name(part)));
        }
        place.rolling_out =
            has_older(part, "/status") && part.pointer("/status/updateProgress").is_some();
        if is_group {
            return Ok(group(place, target, near, set.unwrap_or(&Value::Null)));
        }
        place.pods = PodSelector::labelled(Selector::equal(&[(CLIQUE, name(part))]));
        let template = serde_json::json!({
            "metadata": part["metadata"],
            "spec": part["spec"]["podSpec"],
        });
        place.past_pods = Some(format!("{}-[a-z0-9]+", literal(name(part))));
        Ok(place.made_of(&template, target, near))
    }
}

/// The set that a part belongs to.
fn set_of(part: &Value) -> Option<&str> {
    let owners = list(part, "/metadata/ownerReferences").iter();
    let mut sets = owners.filter(|owner| text(owner, "/kind") == Some(SET));
    let owner = sets.next().and_then(|owner| text(owner, "/name"));
    owner.or_else(|| text(part, "/metadata/labels/app.kubernetes.io~1part-of"))
}

fn own_autoscaler(kind: &str, name: &str) -> Owner {
    let remedy = "it has an autoscaler of its own: remove `scaleConfig` from the PodCliqueSet";
    Owner::new(kind, name, remedy)
}

fn group(mut place: Place, target: &Target, near: &Near<'_>, set: &Value) -> Place {
    let group = near.object;
    let names: Vec<&str> = list(group, "/spec/cliqueNames")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let template = |clique: &&str| {
        let mut cliques = list(set, "/spec/template/cliques").iter();
        cliques.find(|known| text(known, "/name") == Some(clique))
    };
    let cliques: Vec<&Value> = names.iter().filter_map(template).collect();
    let pods = |clique: &&Value| count(clique, "/spec/replicas").unwrap_or(1);
    place.pods = PodSelector::labelled(Selector::equal(&[(GROUP, name(group))]));
    let leads = |clique: &&&str| LEADERS.iter().any(|word| clique.contains(word));
    let leader = names.iter().find(leads).or_else(|| names.first());
    place.unit = Unit {
        // Without the set every clique has at least one pod.
        pods: match cliques.iter().map(pods).sum() {
            0 => u32::try_from(names.len()).unwrap_or(u32::MAX).max(1),
            pods => pods,
        },
        key: KEY,
        serving: leader.map_or(Serving::Every, |leader| {
            Serving::Suffix(CLIQUE, format!("-{leader}"))
        }),
    };
    let spec = |clique: &Value| serde_json::json!({ "spec": clique["spec"]["podSpec"] });
    let parts = cliques
        .iter()
        .map(|clique| (pods(clique), template_gpus(&spec(clique), near)));
    place.gpus = sum(parts);
    if let Some(leader) = leader.and_then(template) {
        place.leaving = Leaving::of(&spec(leader), target.side);
    }
    let of_set = list(set, "/spec/template/podCliqueScalingGroups").iter();
    let mut own = of_set.filter(|config| {
        let end = format!("-{}", text(config, "/name").unwrap_or_default());
        name(group).ends_with(&end) && config.get("scaleConfig").is_some_and(Value::is_object)
    });
    if own.next().is_some() {
        place
            .owners
            .push(own_autoscaler(SCALING_GROUP.kind, name(group)));
    }
    place
}

#[cfg(test)]
mod tests;
