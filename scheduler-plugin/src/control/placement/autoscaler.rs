//! PDAutoscalers as placing reads them: their targets, and the placement that they ask for.

use std::cmp::Reverse;

use k8s_openapi::{
    api::core::v1::ObjectReference,
    apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, OwnerReference},
};
use kube::{Resource, ResourceExt as _};
use pd_api::v1alpha1::{
    Mode, PDAutoscaler, PlacementGroup, PlacementSpec, TargetReference, placement::NAME_LENGTH_MAX,
};
use pd_core::Role;
use pd_systems::{
    member::{Controller, is_of},
    target::Target,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::control::cache::Cached;

/// A PDAutoscaler.
#[derive(Debug, Clone, Default, Serialize, Deserialize, Resource)]
#[resource(inherit = PDAutoscaler)]
pub struct PlacingAutoscaler {
    /// Its name, UID and deletion.
    pub metadata: ObjectMeta,
    // One that cannot be read must not keep the others from being listed.
    #[serde(default)]
    spec: Value,
    #[serde(default)]
    status: Value,
    /// The targets of its roles, of one that says something of placement.
    #[serde(skip)]
    targets: Vec<Target>,
}

/// The placement that a PDAutoscaler asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked {
    /// Nothing.
    Nothing,
    /// Something that acts in another mode alone.
    Idle,
    /// Something that cannot be done. Holds why, and the remedy.
    Wrong(String),
    /// This.
    Placement(Box<PlacementSpec>),
}

impl PlacingAutoscaler {
    /// The placement that it asks for.
    pub(super) fn asked(&self) -> Asked {
        let placement = &self.spec["placement"];
        if placement.is_null() || self.metadata.deletion_timestamp.is_some() {
            return Asked::Nothing;
        }
        let unread = |error: serde_json::Error| {
            Asked::Wrong(format!(
                "spec cannot be read by this version of control: {error}; correct it, or upgrade"
            ))
        };
        let mode = match &self.spec["mode"] {
            Value::Null => Ok(Mode::default()),
            mode => serde_json::from_value(mode.clone()),
        };
        match mode {
            Ok(Mode::Auto) => {}
            Ok(Mode::Off | Mode::Recommend) => return Asked::Idle,
            Err(error) => return unread(error),
        }
        let name = self.name_any();
        if name.len() > NAME_LENGTH_MAX {
            return Asked::Wrong(format!(
                "metadata.name `{name}` is longer than {NAME_LENGTH_MAX} characters, which a label of its pods cannot hold: \
                 create it under a shorter name, or take spec.placement away"
            ));
        }
        match serde_json::from_value(placement.clone()) {
            Ok(placement) => Asked::Placement(Box::new(placement)),
            Err(error) => unread(error),
        }
    }

    /// The role of a pod with this controller and these labels, if it is of one of its targets.
    pub(super) fn role_of<'a>(
        &self,
        controller: Option<Controller<'a>>,
        label: impl Fn(&str) -> Option<&'a str>,
    ) -> Option<Role> {
        let mut targets = self.targets.iter();
        let found = targets.find(|target| is_of(target, controller, &label));
        found.map(|target| target.side)
    }

    /// Its place in the order in which PDAutoscalers count: the oldest first.
    pub(super) fn rank(&self) -> (Reverse<bool>, i64, String) {
        let created = self.creation_timestamp().map(|time| time.0.as_second());
        (
            Reverse(created.is_some()),
            created.unwrap_or(0),
            self.name_any(),
        )
    }

    /// The reference by which a group is its.
    pub(super) fn owner(&self) -> OwnerReference {
        OwnerReference {
            api_version: PDAutoscaler::api_version(&()).into_owned(),
            kind: PDAutoscaler::kind(&()).into_owned(),
            name: self.name_any(),
            uid: self.uid().unwrap_or_default(),
            controller: Some(true),
            block_owner_deletion: None,
        }
    }

    /// A reference for events about it.
    pub(super) fn reference(&self) -> ObjectReference {
        self.object_ref(&())
    }

    /// The condition of a type.
    pub(super) fn condition(&self, type_: &str) -> Option<Condition> {
        let mut conditions = self.status["conditions"].as_array()?.iter();
        let found = conditions.find(|condition| condition["type"] == type_)?;
        serde_json::from_value(found.clone()).ok()
    }
}

/// The PDAutoscaler that a group was made for, by the group's controller.
pub(super) fn maker(group: &PlacementGroup) -> Option<&OwnerReference> {
    let mut owners = group.owner_references().iter();
    owners.find(|owner| {
        let group = owner.api_version.split_once('/').map(|(group, _)| group);
        owner.controller == Some(true)
            && owner.kind == PDAutoscaler::kind(&())
            && group == Some(&PDAutoscaler::group(&()))
    })
}

impl Cached for PlacingAutoscaler {
    fn prune(&mut self) {
        self.meta_mut().managed_fields = None;
        self.meta_mut().annotations = None;
        let conditions = self.status["conditions"].take();
        self.status = json!({ "conditions": conditions });
        let (mode, placement) = (self.spec["mode"].take(), self.spec["placement"].take());
        let target = |role: Role| {
            let target = &self.spec[role.as_str()]["target"];
            let target: TargetReference = serde_json::from_value(target.clone()).ok()?;
            Some(target.of_side(role))
        };
        self.targets = Role::ALL.into_iter().filter_map(target).collect();
        self.spec = json!({ "mode": mode, "placement": placement });
    }
}
