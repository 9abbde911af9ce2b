//! The steps that systems have in common when they make a place of an object.

use pd_core::Role;
use serde_json::Value;

use crate::{
    drain::Leaving,
    gpus::{GpusUnknown, of_pod},
    json::{count, name, text},
    kind::{Kind, Roles},
    owner::{Step, controller, deployer, referring},
    place::{Field, Floor, Place, PodSelector, Unit},
    refusal::Refusal,
    target::{Near, ObjectRef, Target},
};

/// A place that is written through `scale`: the replicas at `replicas` of the target's object, one
/// where that field is absent. Its controllers may be of the kinds in `leave_alone`, which set no
/// replicas. Systems add what is theirs.
pub(crate) fn scaled(
    kind: &Kind,
    target: &Target,
    near: &Near<'_>,
    replicas: &str,
    leave_alone: &[&str],
) -> Result<Place, Refusal> {
    if kind.roles == Roles::One {
        target.without_role()?;
    }
    let mut place = bare(kind, near, count(near.object, replicas));
    place.owners.extend(controller(near.object, leave_alone));
    place
        .owners
        .extend(deployer(near.object, &fields(replicas)));
    Ok(place)
}

/// A role in a list of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<'a> {
    /// Its place in the list.
    pub(crate) index: usize,
    /// Its name.
    pub(crate) name: &'a str,
    /// The role.
    pub(crate) value: &'a Value,
}

/// The role of the list that the target names, or the only one that is for the target's side: of
/// that type, or else of that name.
pub(crate) fn entry<'a>(
    target: &Target,
    roles: &'a [Value],
    side: impl Fn(&Value) -> Option<Role>,
) -> Result<Entry<'a>, Refusal> {
    let entries = roles.iter().enumerate().map(|(index, value)| Entry {
        index,
        name: text(value, "/name").unwrap_or_default(),
        value,
    });
    let entries: Vec<Entry<'a>> = entries.collect();
    let have = || entries.iter().map(|entry| entry.name.to_owned()).collect();
    let (kind, name) = (target.kind.clone(), target.name.clone());
    if let Some(role) = &target.role {
        let named = entries.iter().find(|entry| entry.name == role);
        return named.copied().ok_or_else(|| Refusal::RoleUnknown {
            kind,
            name,
            role: role.clone(),
            have: have(),
        });
    }
    let of_side = |entry: &&Entry<'a>| match side(entry.value) {
        Some(side) => side == target.side,
        None => entry.name == target.side.as_str(),
    };
    let fitting: Vec<&Entry<'a>> = entries.iter().filter(of_side).collect();
    match fitting.as_slice() {
        [one] => Ok(**one),
        _ => Err(Refusal::RoleMissing {
            kind,
            name,
            have: have(),
        }),
    }
}

/// A place that is written by a JSON patch: field `replicas` of one role of the list at `roles`.
pub(crate) fn listed(
    kind: &Kind,
    near: &Near<'_>,
    roles: &str,
    entry: &Entry<'_>,
    replicas: &str,
) -> Place {
    let at = format!("{roles}/{}", entry.index);
    let mut place = bare(kind, near, count(entry.value, replicas));
    place.role = Some(entry.name.to_owned());
    place.field = Field::Path {
        pointer: format!("{at}{replicas}"),
        tests: vec![(format!("{at}/name"), Value::from(entry.name))],
    };
    place.owners.extend(controller(near.object, &[]));
    let mut steps = fields(roles);
    steps.push(Step::Named(entry.name));
    steps.extend(fields(replicas));
    place.owners.extend(deployer(near.object, &steps));
    place
}

/// A place in the target's object, of which nothing but the replicas is known.
pub(crate) fn bare(kind: &Kind, near: &Near<'_>, stated: Option<u32>) -> Place {
    let object = ObjectRef::new(kind, name(near.object));
    let version = text(near.object, "/metadata/resourceVersion");
    Place {
        owners: referring(near, &[&object]),
        object,
        role: None,
        field: Field::Scale,
        resource_version: version.map(str::to_owned),
        stated,
        copies: 1,
        desired: stated.unwrap_or(1),
        floor: Floor::default(),
        gang: None,
        zero_together: Vec::new(),
        pods: PodSelector::default(),
        unit: Unit::POD,
        gpus: Err(GpusUnknown::NoneAsked),
        rolling_out: false,
        create_failure: None,
        leaving: Leaving::default(),
        victim: kind.victim,
        past_pods: None,
    }
}

/// A place in `object`, an adapter that holds the replicas of another object's role.
pub(crate) fn adapted(kind: &Kind, near: &Near<'_>, adapter: &Value) -> Place {
    let own = Near {
        object: adapter,
        ..*near
    };
    let mut place = bare(kind, &own, count(adapter, "/spec/replicas"));
    place
        .owners
        .extend(deployer(adapter, &fields("/spec/replicas")));
    place
}

impl Place {
    /// With so many copies, each with the replicas that the field counts.
    pub(crate) fn copied(mut self, copies: u32) -> Self {
        self.copies = copies;
        self.desired = self.stated.unwrap_or(1).saturating_mul(copies);
        self
    }

    /// With the GPUs and traps of pods that are all made of `template`.
    pub(crate) fn made_of(mut self, template: &Value, target: &Target, near: &Near<'_>) -> Self {
        self.gpus = template_gpus(template, near);
        self.leaving = Leaving::of(template, target.side);
        self
    }
}

/// GPUs of a pod made of `template`.
pub(crate) fn template_gpus(template: &Value, near: &Near<'_>) -> Result<u32, GpusUnknown> {
    let claims: Vec<&Value> = near.of_kind("ResourceClaimTemplate").collect();
    of_pod(&template["spec"], claims)
}

/// A pointer as the steps of managed fields.
fn fields(pointer: &str) -> Vec<Step<'_>> {
    pointer.split('/').skip(1).map(Step::Field).collect()
}
