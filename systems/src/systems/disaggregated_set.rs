//! DisaggregatedSets of LWS: roles of one set, each a LeaderWorkerSet in every slice.
//!
//! A role's scaling is `Static`, with replicas in the set, or `External`, with replicas in a
//! DisaggregatedSetRoleScaler. Static roles go to zero only together, which the set itself
//! enforces. The LeaderWorkerSets below change their names with every revision and are never
//! targets.

use serde_json::Value;

use super::lws::{GROUP, NAME, group_gpus, leader, unit, victim};
use crate::{
    build::{Entry, adapted, entry, listed},
    drain::Leaving,
    json::{condition, controller, count, list, name, role_has_older, text},
    kind::{Form, Kind, Roles, Victim},
    place::{Place, PodSelector},
    refusal::{CREATE, Refusal},
    selector::Selector,
    system::System,
    target::{Near, Nearby, Target, Which},
};

/// DisaggregatedSet.
#[derive(Clone, Copy, Debug)]
pub struct DisaggregatedSets;

/// DisaggregatedSets.
pub const DISAGGREGATED_SET: Kind = Kind {
    group: "disaggregatedset.x-k8s.io",
    version: "v1",
    kind: "DisaggregatedSet",
    plural: "disaggregatedsets",
    roles: Roles::Several,
    form: Form::JsonPatch,
    switch: "disaggregatedSets",
    replica: "LeaderWorkerSet group, in every slice",
    serving: "leader",
    victim: Victim::HighestOrdinal,
    refused: "one static role alone to zero; a role with External scaling (its scaler is the target); a scaler that its set has not made",
};

/// Scalers of roles with External scaling.
pub const ROLE_SCALER: Kind = Kind {
    kind: "DisaggregatedSetRoleScaler",
    plural: "disaggregatedsetrolescalers",
    roles: Roles::One,
    form: Form::Scale,
    replica: "LeaderWorkerSet group",
    refused: "a scaler that its set has not made; a set with several slices",
    ..DISAGGREGATED_SET
};

/// Role and, of it, the group: slices have LeaderWorkerSets of their own.
const KEY: &[&[&str]] = &[&[NAME], &[GROUP]];

impl System for DisaggregatedSets {
    fn name(&self) -> &'static str {
        "DisaggregatedSet (llm-d too)"
    }

    fn kinds(&self) -> &'static [Kind] {
        const KINDS: [Kind; 2] = [DISAGGREGATED_SET, ROLE_SCALER];
        &KINDS
    }

    fn beside(&self, target: &Target, object: &Value) -> Vec<Nearby> {
        if target.kind != ROLE_SCALER.kind {
            return Vec::new();
        }
        let named = |set: &str| Nearby::of(&DISAGGREGATED_SET, Which::Named(set.to_owned()));
        let set = set_of(object).map(named);
        set.into_iter().collect()
    }

    fn resolve(&self, target: &Target, near: &Near<'_>) -> Result<Place, Refusal> {
        if target.kind == ROLE_SCALER.kind {
            return scaler(target, near);
        }
        let set = near.object;
        let roles = list(set, "/spec/roles");
        let entry = entry(target, roles, |_| None)?;
        if is_external(entry.value) {
            return Err(Refusal::ByAdapter {
                kind: target.kind.clone(),
                name: target.name.clone(),
                role: entry.name.to_owned(),
                adapter_kind: ROLE_SCALER.kind,
                adapter: format!("{}-{}", name(set), entry.name),
            });
        }
        let place = listed(
            &DISAGGREGATED_SET,
            near,
            "/spec/roles",
            &entry,
            "/spec/replicas",
        );
        let mut place = place.copied(slices(set));
        place.zero_together = zero_together(roles, entry.index);
        Ok(of_role(place, set, &entry, target, near))
    }
}

/// Copies of all roles.
fn slices(set: &Value) -> u32 {
    count(set, "/spec/slices").unwrap_or(1)
}

fn is_external(role: &Value) -> bool {
    text(role, "/scaling/mode") == Some("External")
}

/// The other static roles' fields and replicas.
fn zero_together(roles: &[Value], own: usize) -> Vec<(String, u32)> {
    let others = roles.iter().enumerate();
    others
        .filter(|(index, role)| *index != own && !is_external(role))
        .map(|(index, role)| {
            let replicas = count(role, "/spec/replicas").unwrap_or(1);
            (format!("/spec/roles/{index}/spec/replicas"), replicas)
        })
        .collect()
}

/// The set that made a scaler.
fn set_of(scaler: &Value) -> Option<&str> {
    let owner = controller(scaler)?;
    let is_set = text(owner, "/kind") == Some(DISAGGREGATED_SET.kind);
    text(owner, "/name").filter(|_| is_set)
}

fn scaler(target: &Target, near: &Near<'_>) -> Result<Place, Refusal> {
    let scaler = near.object;
    let lacks = |other: &str, remedy| target.lacks(&DISAGGREGATED_SET, other, remedy);
    // A scaler that somebody else made is not adopted, and its replicas move nothing.
    let set_name = set_of(scaler).ok_or_else(|| {
        lacks(
            "",
            "delete this scaler, so that its set makes one of that name",
        )
    })?;
    let set = near
        .named(DISAGGREGATED_SET.kind, set_name)
        .ok_or_else(|| lacks(set_name, CREATE))?;
    let role = name(scaler)
        .strip_prefix(set_name)
        .and_then(|rest| rest.strip_prefix('-'));
    let of_set = Target {
        role: Some(role.unwrap_or_default().to_owned()),
        ..target.clone()
    };
    let entry = entry(&of_set, list(set, "/spec/roles"), |_| None)?;
    if slices(set) > 1 {
        // Whether the scaler counts one slice or all is not settled upstream.
        return Err(Refusal::Copies {
            kind: DISAGGREGATED_SET.kind.to_owned(),
            name: set_name.to_owned(),
            field: "spec.slices",
            copies: slices(set),
        });
    }
    let mut place = adapted(&ROLE_SCALER, near, scaler);
    place.desired = place.stated.unwrap_or(0);
    Ok(of_role(place, set, &entry, target, near))
}

fn of_role(
    mut place: Place,
    set: &Value,
    entry: &Entry<'_>,
    target: &Target,
    near: &Near<'_>,
) -> Place {
    let spec = &entry.value["spec"];
    place.role = Some(entry.name.to_owned());
    place.pods = PodSelector::labelled(Selector::equal(&[
        ("disaggregatedset.x-k8s.io/name", name(set)),
        ("disaggregatedset.x-k8s.io/role", entry.name),
    ]));
    place.unit = unit(spec, KEY);
    place.gpus = group_gpus(spec, near);
    place.leaving = Leaving::of(leader(&spec["leaderWorkerTemplate"]), target.side);
    place.victim = victim(spec);
    place.rolling_out = condition(set, "UpdateInProgress") || role_has_older(set, entry.name);
    place
}

#[cfg(test)]
mod tests;
