//! AIBrix StormServices: roles of RoleSets, in the service's template.
//!
//! A change of a role's replicas changes the template's revision. Only with `InPlaceUpdate` are the
//! RoleSets edited; otherwise they are made again, all running pods with them. With several
//! RoleSets every role exists as many times, so that roles are scaled only in the pooled mode of
//! one RoleSet.

use serde_json::Value;

use crate::{
    build::{entry, listed},
    json::{count, list, name, role_has_older, text},
    kind::{Form, Kind, Roles, Victim},
    place::{Floor, Gang, Place, PodSelector, Serving, Unit},
    refusal::Refusal,
    selector::Selector,
    system::System,
    target::{Near, Target},
};

/// StormService.
#[derive(Clone, Copy, Debug)]
pub struct StormServices;

/// StormServices.
pub const STORM_SERVICE: Kind = Kind {
    group: "orchestration.aibrix.ai",
    version: "v1alpha1",
    kind: "StormService",
    plural: "stormservices",
    roles: Roles::Several,
    form: Form::JsonPatch,
    switch: "stormServices",
    replica: "1 pod, or a PodSet of `podGroupSize` pods",
    serving: "pod 0 of the PodSet",
    victim: Victim::Own,
    refused: "`updateStrategy.type` other than InPlaceUpdate; several RoleSets; fewer pods than a gang's `minMember`",
};

const ROLES: &str = "/spec/template/spec/roles";
/// PodSet, or the pod, within its RoleSet.
const KEY: &[&[&str]] = &[
    &["roleset-name"],
    &["stormservice.orchestration.aibrix.ai/podset-name"],
];

impl System for StormServices {
    fn name(&self) -> &'static str {
        "AIBrix StormService"
    }

    fn kinds(&self) -> &'static [Kind] {
        const KINDS: [Kind; 1] = [STORM_SERVICE];
        &KINDS
    }

    fn resolve(&self, target: &Target, near: &Near<'_>) -> Result<Place, Refusal> {
        let service = near.object;
        let roles = list(service, ROLES);
        let entry = entry(target, roles, |_| None)?;
        let strategy = text(service, "/spec/updateStrategy/type").unwrap_or("RollingUpdate");
        if strategy != "InPlaceUpdate" {
            return Err(Refusal::ReplacesPods {
                name: target.name.clone(),
                strategy: strategy.to_owned(),
            });
        }
        let copies = count(service, "/spec/replicas").unwrap_or(1);
        if copies != 1 {
            return Err(Refusal::Copies {
                kind: target.kind.clone(),
                name: target.name.clone(),
                field: "spec.replicas",
                copies,
            });
        }
        let mut place = listed(&STORM_SERVICE, near, ROLES, &entry, "/replicas");
        place.pods = PodSelector::labelled(Selector::equal(&[
            ("storm-service-name", name(service)),
            ("role-name", entry.name),
        ]));
        let size = group_size(entry.value);
        let (key, serving) = if size > 1 {
            let leader =
                Serving::Label("stormservice.orchestration.aibrix.ai/pod-group-index", "0");
            (KEY, leader)
        } else {
            (Unit::POD.key, Serving::Every)
        };
        place.unit = Unit {
            pods: size,
            key,
            serving,
        };
        place.floor = floor(entry.value, size);
        place.gang = gang(service, roles);
        place.rolling_out = role_has_older(service, entry.name);
        let mut place = place.made_of(&entry.value["template"], target, near);
        place.gpus = place.gpus.map(|gpus| gpus.saturating_mul(size));
        Ok(place)
    }
}

fn group_size(role: &Value) -> u32 {
    count(role, "/podGroupSize").unwrap_or(1).max(1)
}

/// Pods that a scheduling strategy starts together or not at all. The number is the user's and does
/// not follow the replicas.
fn min_member(strategy: &Value) -> Option<u32> {
    ["coscheduling", "godel", "volcano"]
        .iter()
        .find_map(|scheduler| {
            count(
                strategy,
                &format!("/{scheduler}SchedulingStrategy/minMember"),
            )
        })
}

fn floor(role: &Value, size: u32) -> Floor {
    let pods = min_member(&role["schedulingStrategy"]);
    pods.map_or_else(Floor::default, |pods| Floor {
        replicas: pods.div_ceil(size),
        cause: "schedulingStrategy.minMember of the role",
    })
}

/// The gang of a RoleSet: all of its roles.
fn gang(service: &Value, roles: &[Value]) -> Option<Gang> {
    let pods_min = min_member(&service["spec"]["template"]["spec"]["schedulingStrategy"])?;
    let pods_now = roles.iter().fold(0_u32, |sum, role| {
        let replicas = count(role, "/replicas").unwrap_or(1);
        sum.saturating_add(replicas.saturating_mul(group_size(role)))
    });
    Some(Gang {
        pods_min,
        pods_now,
        cause: "spec.template.spec.schedulingStrategy.minMember",
    })
}

#[cfg(test)]
mod tests;
