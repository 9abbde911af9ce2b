//! The groups of PDAutoscalers that ask for placement: what is to be done so that each has its own.
//!
//! A group has the name of its PDAutoscaler and is controlled by it, so that it goes with it. It is
//! wholly ours: its spec is what the PDAutoscaler says, and an edit by hand is undone. A group of
//! that name that is not its own is never touched. Pure: objects in, requests and conditions out.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, Time},
    jiff::Timestamp,
};
use kube::ResourceExt as _;
use pd_api::v1alpha1::{PlacementGroup, PlacementGroupSpec};
use strum::IntoStaticStr;

use super::autoscaler::{Asked, PlacingAutoscaler, maker};

/// Type of the condition of a PDAutoscaler.
pub const CONDITION: &str = "PlacementGroup";
/// Longest message of a condition, characters.
const MESSAGE_MAX: usize = 1_024;

/// The state of the group of a PDAutoscaler: reason of the condition, of events, and label of the
/// metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, IntoStaticStr)]
pub enum MadeReason {
    /// It is there and as asked for.
    GroupMade,
    /// It is under way.
    GroupUnderWay,
    /// One of this name is there that is not its own.
    GroupForeign,
    /// The API server does not take it.
    GroupUnwritten,
    /// It asks for something that cannot be done.
    GroupRefused,
    /// It is asked for, and the mode changes nothing.
    GroupIdle,
}

impl MadeReason {
    /// Every reason.
    pub const ALL: [Self; 6] = [
        Self::GroupMade,
        Self::GroupUnderWay,
        Self::GroupForeign,
        Self::GroupUnwritten,
        Self::GroupRefused,
        Self::GroupIdle,
    ];

    /// Its word.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    const fn status(self) -> &'static str {
        match self {
            Self::GroupMade => "True",
            Self::GroupUnderWay => "Unknown",
            Self::GroupForeign | Self::GroupUnwritten | Self::GroupRefused | Self::GroupIdle => {
                "False"
            }
        }
    }

    /// Whether somebody has to act.
    pub const fn is_fault(self) -> bool {
        matches!(
            self,
            Self::GroupForeign | Self::GroupUnwritten | Self::GroupRefused
        )
    }
}

/// A request about a group.
#[derive(Debug, Clone)]
pub(super) enum GroupRequest {
    Create(Box<PlacementGroup>),
    /// Its spec becomes this one.
    Update(Arc<PlacementGroup>, Box<PlacementGroupSpec>),
    Delete(Arc<PlacementGroup>),
}

/// The request for one PDAutoscaler, and how it is.
pub(super) struct Made {
    pub(super) request: Option<GroupRequest>,
    /// Nothing where it asks for no placement.
    pub(super) state: Option<(MadeReason, String)>,
}

/// Decides about one PDAutoscaler. `found` is the group of its name.
pub(super) fn decide(object: &PlacingAutoscaler, found: Option<&Arc<PlacementGroup>>) -> Made {
    let name = object.name_any();
    let maker = found.and_then(|group| maker(group));
    let is_named = maker.is_some_and(|owner| owner.name == name);
    let is_own =
        is_named && maker.is_some_and(|owner| Some(&owner.uid) == object.metadata.uid.as_ref());
    let placement = match object.asked() {
        Asked::Placement(placement) => placement,
        other => return without_placement(object, found.filter(|_| is_own), other),
    };
    let wanted = PlacementGroupSpec::from(&*placement);
    let under_way = |what: &str| {
        let message = format!("PlacementGroup `{name}` {what}");
        Some((MadeReason::GroupUnderWay, message))
    };
    match found {
        None => Made {
            request: Some(GroupRequest::Create(Box::new(group(object, wanted)))),
            state: under_way("is made"),
        },
        Some(group) if !is_named => Made {
            request: None,
            state: Some((MadeReason::GroupForeign, foreign(&name, group))),
        },
        // The garbage collector takes it.
        Some(group) if !is_own || group.metadata.deletion_timestamp.is_some() => Made {
            request: None,
            state: under_way("of before goes first"),
        },
        Some(group) if group.spec != wanted => Made {
            request: Some(GroupRequest::Update(group.clone(), Box::new(wanted))),
            state: under_way("is brought to spec.placement"),
        },
        Some(_) => Made {
            request: None,
            state: Some((
                MadeReason::GroupMade,
                format!(
                    "PlacementGroup `{name}` is as spec.placement says; its status says where pods are"
                ),
            )),
        },
    }
}

/// Decides about one that asks for no placement that can be had. `own` is its group.
fn without_placement(
    object: &PlacingAutoscaler,
    own: Option<&Arc<PlacementGroup>>,
    asked: Asked,
) -> Made {
    let state = match asked {
        Asked::Idle => {
            let message =
                "spec.placement acts in mode Auto alone, so no group is made and no pod is held";
            Some((MadeReason::GroupIdle, message.to_owned()))
        }
        // Whatever was made of a spec of before stays until this one can be read.
        Asked::Wrong(why) => {
            return Made {
                request: None,
                state: Some((MadeReason::GroupRefused, why)),
            };
        }
        Asked::Nothing | Asked::Placement(_) => None,
    };
    // With the object its group goes by itself.
    let leaves = own.filter(|group| {
        let is_going = |metadata: &ObjectMeta| metadata.deletion_timestamp.is_some();
        !is_going(&object.metadata) && !is_going(&group.metadata)
    });
    Made {
        request: leaves.map(|group| GroupRequest::Delete(group.clone())),
        state,
    }
}

fn foreign(name: &str, group: &PlacementGroup) -> String {
    let mut owners = group.owner_references().iter();
    let whose = owners.find(|owner| owner.controller == Some(true));
    let whose = whose.map_or_else(
        || "was made by hand".to_owned(),
        |owner| format!("is controlled by {} `{}`", owner.kind, owner.name),
    );
    format!(
        "PlacementGroup `{name}` {whose} and is left as it is, and pods wait for a group of this PDAutoscaler: \
         delete it, or take spec.placement away and label the pod templates with its name"
    )
}

fn group(object: &PlacingAutoscaler, spec: PlacementGroupSpec) -> PlacementGroup {
    let labels = [("app.kubernetes.io/managed-by", crate::NAME)];
    let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
    PlacementGroup {
        metadata: ObjectMeta {
            name: Some(object.name_any()),
            namespace: object.namespace(),
            labels: Some(BTreeMap::from(labels)),
            owner_references: Some(vec![object.owner()]),
            ..ObjectMeta::default()
        },
        spec,
        status: None,
    }
}

/// The conditions to write, of which there is none or one; nothing if the object has it already.
pub(super) fn conditions(
    object: &PlacingAutoscaler,
    state: Option<&(MadeReason, String)>,
    now: Timestamp,
) -> Option<Vec<Condition>> {
    let before = object.condition(CONDITION);
    let Some((reason, message)) = state else {
        return before.map(|_| Vec::new());
    };
    let status = reason.status();
    let since = before
        .as_ref()
        .filter(|before| before.status == status)
        .map(|before| before.last_transition_time.clone());
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let condition = Condition {
        type_: CONDITION.to_owned(),
        status: status.to_owned(),
        reason: reason.as_str().to_owned(),
        message: message.chars().take(MESSAGE_MAX).collect(),
        observed_generation: object.metadata.generation,
        last_transition_time: since.unwrap_or(Time(now)),
    };
    (before.as_ref() != Some(&condition)).then(|| vec![condition])
}

#[cfg(test)]
mod tests;
