//! RoleBasedGroups and their scaling adapters.
//!
//! A role with `scalingAdapter.enable` follows its RoleBasedGroupScalingAdapter: once bound, the
//! adapter writes its replicas over those of the role, and when it binds for the first time the
//! role's over its own. So such a role is written through its adapter, and only while that is
//! bound. Other roles are written in the group, both in one write.

use serde_json::Value;

use super::lws::{GROUP, WORKER};
use crate::{
    build::{Entry, adapted, entry, listed, template_gpus},
    drain::Leaving,
    gpus::{GpusUnknown, sum},
    json::{condition, count, is_true, list, name, role_has_older, text},
    kind::{Form, Kind, Roles, Victim},
    owner::referring,
    place::{Place, PodSelector, Serving, Unit},
    refusal::{CREATE, Refusal},
    selector::Selector,
    system::System,
    target::{Near, Nearby, ObjectRef, Target, Which},
};

/// RoleBasedGroup.
#[derive(Clone, Copy, Debug)]
pub struct RoleBasedGroups;

/// RoleBasedGroups.
pub const ROLE_BASED_GROUP: Kind = Kind {
    group: "workloads.x-k8s.io",
    version: "v1alpha2",
    kind: "RoleBasedGroup",
    plural: "rolebasedgroups",
    roles: Roles::Several,
    form: Form::JsonPatch,
    switch: "roleBasedGroups",
    replica: "RoleInstance: 1 pod, a leader and its workers, or all components",
    serving: "leader, or first component",
    victim: Victim::DeleteLabel,
    refused: "a role whose scaling adapter is missing or not bound",
};

/// RoleBasedGroups of the older version.
pub const ROLE_BASED_GROUP_V1ALPHA1: Kind = Kind {
    version: "v1alpha1",
    ..ROLE_BASED_GROUP
};

/// Scaling adapters.
pub const ADAPTER: Kind = Kind {
    kind: "RoleBasedGroupScalingAdapter",
    plural: "rolebasedgroupscalingadapters",
    roles: Roles::One,
    form: Form::Scale,
    refused: "an adapter that is not bound",
    ..ROLE_BASED_GROUP
};

/// Scaling adapters of the older version.
pub const ADAPTER_V1ALPHA1: Kind = Kind {
    version: "v1alpha1",
    ..ADAPTER
};

/// Phase of an adapter that sets its role's replicas.
const BOUND: &str = "Bound";

/// RoleInstance, or the group of a LeaderWorkerSet, or the pod.
const KEY: &[&[&str]] = &[&["rbg.workloads.x-k8s.io/role-instance-name", GROUP]];

impl System for RoleBasedGroups {
    fn name(&self) -> &'static str {
        "RBG RoleBasedGroup"
    }

    fn kinds(&self) -> &'static [Kind] {
        const KINDS: [Kind; 4] = [
            ROLE_BASED_GROUP,
            ROLE_BASED_GROUP_V1ALPHA1,
            ADAPTER,
            ADAPTER_V1ALPHA1,
        ];
        &KINDS
    }

    fn beside(&self, target: &Target, object: &Value) -> Vec<Nearby> {
        if target.kind == ADAPTER.kind {
            let group = text(object, "/spec/scaleTargetRef/name").unwrap_or_default();
            let named = Which::Named(group.to_owned());
            return vec![Nearby::of(&ROLE_BASED_GROUP, named)];
        }
        vec![Nearby::of(&ADAPTER, Which::All)]
    }

    fn resolve(&self, target: &Target, near: &Near<'_>) -> Result<Place, Refusal> {
        if target.kind == ADAPTER.kind {
            return of_adapter(target, near);
        }
        let group = near.object;
        let entry = entry(target, list(group, "/spec/roles"), |_| None)?;
        if is_true(entry.value, "/scalingAdapter/enable") {
            return through_adapter(target, near, &entry);
        }
        let kind = target.version_of([&ROLE_BASED_GROUP, &ROLE_BASED_GROUP_V1ALPHA1]);
        let place = listed(kind, near, "/spec/roles", &entry, "/replicas");
        Ok(of_role(place, group, &entry, target, near))
    }
}

/// The role of `entry` by the adapter that the group made for it, or another that names it.
fn through_adapter(target: &Target, near: &Near<'_>, entry: &Entry<'_>) -> Result<Place, Refusal> {
    let group = near.object;
    let mut adapters = near.of_kind(ADAPTER.kind).filter(|adapter| {
        text(adapter, "/spec/scaleTargetRef/name") == Some(name(group))
            && text(adapter, "/spec/scaleTargetRef/role") == Some(entry.name)
    });
    let own = format!("{}-{}", name(group), entry.name);
    let remedy =
        "its controller makes it: see that it runs, or set `scalingAdapter.enable` to false";
    let adapter = adapters
        .next()
        .ok_or_else(|| target.lacks(&ADAPTER, &own, remedy))?;
    bound(adapter)?;
    let place = adapter_place(adapter, near);
    Ok(of_role(place, group, entry, target, near))
}

fn of_adapter(target: &Target, near: &Near<'_>) -> Result<Place, Refusal> {
    let adapter = near.object;
    target.without_role()?;
    bound(adapter)?;
    let group_name = text(adapter, "/spec/scaleTargetRef/name").unwrap_or_default();
    let group = near
        .named(ROLE_BASED_GROUP.kind, group_name)
        .ok_or_else(|| target.lacks(&ROLE_BASED_GROUP, group_name, CREATE))?;
    let role = text(adapter, "/spec/scaleTargetRef/role").unwrap_or_default();
    let of_group = Target {
        role: Some(role.to_owned()),
        ..target.clone()
    };
    let entry = entry(&of_group, list(group, "/spec/roles"), |_| None)?;
    let place = adapter_place(adapter, near);
    Ok(of_role(place, group, &entry, target, near))
}

fn bound(adapter: &Value) -> Result<(), Refusal> {
    match text(adapter, "/status/phase") {
        Some(BOUND) => Ok(()),
        phase => Err(Refusal::AdapterNotBound {
            kind: ADAPTER.kind,
            name: name(adapter).to_owned(),
            phase: phase.unwrap_or("none").to_owned(),
        }),
    }
}

fn adapter_place(adapter: &Value, near: &Near<'_>) -> Place {
    let kind = match text(adapter, "/apiVersion") {
        Some("workloads.x-k8s.io/v1alpha1") => &ADAPTER_V1ALPHA1,
        _ => &ADAPTER,
    };
    adapted(kind, near, adapter)
}

fn of_role(
    mut place: Place,
    group: &Value,
    entry: &Entry<'_>,
    target: &Target,
    near: &Near<'_>,
) -> Place {
    let role = entry.value;
    let parts = parts(role);
    place.role = Some(entry.name.to_owned());
    let selector = if text(group, "/apiVersion") == Some("workloads.x-k8s.io/v1alpha1") {
        [
            "rolebasedgroup.workloads.x-k8s.io/name",
            "rolebasedgroup.workloads.x-k8s.io/role",
        ]
    } else {
        [
            "rbg.workloads.x-k8s.io/group-name",
            "rbg.workloads.x-k8s.io/role-name",
        ]
    };
    place.pods = PodSelector::labelled(Selector::equal(&[
        (selector[0], name(group)),
        (selector[1], entry.name),
    ]));
    place.unit = Unit {
        pods: parts.iter().map(|(times, _)| times).sum::<u32>().max(1),
        key: KEY,
        serving: serving(role),
    };
    let gpus = parts
        .iter()
        .map(|(times, template)| (*times, template_gpus(template, near)));
    place.gpus = sum(gpus);
    if parts.iter().any(|(_, template)| template.is_null()) {
        // The template is elsewhere (`templateRef`): the pods show what it asks for.
        place.gpus = Err(GpusUnknown::NoneAsked);
    }
    if let Some((_, template)) = parts.first() {
        place.leaving = Leaving::of(template, target.side);
    }
    let set = ObjectRef::new(&ROLE_BASED_GROUP, name(group));
    if place.object != set {
        place.owners.extend(referring(near, &[&set]));
    }
    place.rolling_out =
        condition(group, "RollingUpdateInProgress") || role_has_older(group, entry.name);
    place
}

/// The templates of one replica's pods, each with how many there are, the serving one first.
fn parts(role: &Value) -> Vec<(u32, &Value)> {
    let components = ["/customComponentsPattern/components", "/components"];
    if let Some(components) = components
        .iter()
        .map(|at| list(role, at))
        .find(|c| !c.is_empty())
    {
        let part = |component| {
            (
                count(component, "/size").unwrap_or(1),
                &component["template"],
            )
        };
        return components.iter().map(part).collect();
    }
    // Patches of the leader's and the workers' template change no limits that matter here: both
    // have the role's.
    let template = [
        "/leaderWorkerPattern/template",
        "/standalonePattern/template",
        "/template",
    ]
    .iter()
    .find_map(|at| role.pointer(at));
    let size = count(role, "/leaderWorkerPattern/size").or_else(|| {
        let of_lws = text(role, "/workload/kind") == Some("LeaderWorkerSet");
        of_lws
            .then(|| count(role, "/leaderWorkerSet/size"))
            .flatten()
    });
    vec![(size.unwrap_or(1).max(1), template.unwrap_or(&Value::Null))]
}

fn serving(role: &Value) -> Serving {
    let components = ["/customComponentsPattern/components", "/components"];
    let first = components.iter().find_map(|at| list(role, at).first());
    if let Some(first) = first {
        let component = text(first, "/name").unwrap_or_default().to_owned();
        return Serving::Suffix("rbg.workloads.x-k8s.io/component-name", component);
    }
    let has_workers = role.get("leaderWorkerPattern").is_some()
        || text(role, "/workload/kind") == Some("LeaderWorkerSet");
    if has_workers {
        return Serving::Any(vec![
            Serving::Label("rbg.workloads.x-k8s.io/component-index", "0"),
            Serving::Label(WORKER, "0"),
        ]);
    }
    Serving::Every
}

#[cfg(test)]
mod tests;
