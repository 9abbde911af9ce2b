//! Would more replicas of a group find a place now? Nothing is changed by the question.
//!
//! It is put to the cluster as the next step would plan it: pods that are on their way have their
//! places, and every group has what it was planned.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    Seen,
    composition::GroupView,
    facts::Standings,
    planned::{in_turn, is_planned},
};
use crate::{
    explain::Explanation,
    what_if::{WhatIf, WhatIfError},
};

/// The room for more replicas of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Room {
    /// Whether all of them would have places.
    pub fits: bool,
    /// Replicas that would have one, by role.
    pub granted: BTreeMap<String, u32>,
    /// How many times all of them together would have places; at most
    /// [`SETS_MAX`](crate::what_if::SETS_MAX).
    pub sets_at_most: u32,
    /// Why not all of them would, in words; empty if they do.
    pub message: String,
    /// The same in values: levels, the nearest domains, the resources that are short, and the pods
    /// that would have to move.
    pub explanation: Option<Explanation>,
}

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RoomError {
    /// No such group.
    #[error("group: there is no PlacementGroup `{0}`: name one that there is")]
    NoGroup(String),
    /// It cannot be planned now, whatever is asked.
    #[error("group: `{group}` is not planned now: {why}")]
    NotPlanned {
        /// The group.
        group: String,
        /// Why.
        why: String,
    },
    /// The question itself.
    #[error(transparent)]
    Question(#[from] WhatIfError),
}

/// The room for `more` replicas of `group`, by role, beside those that it has or is planned.
///
/// # Errors
///
/// Where there is no such group, it is not planned now, or the question names no replica or an
/// unknown role.
pub fn room(seen: &Seen, group: &str, more: &BTreeMap<String, u32>) -> Result<Room, RoomError> {
    let nodes = seen.nodes_by_name();
    let standings = Standings::read(seen, &nodes);
    let views = GroupView::all(seen, &standings);
    let view = views.iter().find(|view| view.seen.rules.name == group);
    let view = view.ok_or_else(|| RoomError::NoGroup(group.to_owned()))?;
    let not_planned = || RoomError::NotPlanned {
        group: group.to_owned(),
        why: why_not_planned(view),
    };
    if !is_planned(view, seen) {
        return Err(not_planned());
    }
    let (asked, beyond) = within_most(view, more);
    let mut answer = None;
    in_turn(seen, &views, &standings, |session, placement| {
        if placement.groups.contains_key(group) {
            let is_nothing_left = asked.values().all(|replicas| *replicas == 0);
            answer = Some(if is_nothing_left && beyond.is_some() {
                Ok(WhatIf::default())
            } else {
                session.what_if(group, &asked)
            });
        }
    });
    let found = answer.ok_or_else(not_planned)??;
    Ok(answered(found, beyond))
}

fn why_not_planned(view: &GroupView<'_>) -> String {
    let topology = view.seen.topology.as_ref().err().cloned();
    let why = topology.or_else(|| view.fault.clone());
    let why = why.or_else(|| view.lacks());
    let why = why.or_else(|| {
        let named = view.directed()?;
        Some(format!(
            "the pods of {} name nodes of their own",
            named.rules.name
        ))
    });
    why.unwrap_or_else(|| view.seen.record.message.clone())
}

/// The replicas that are asked about, without those beyond the most that a role may have, and the
/// first role of which there are such.
fn within_most(
    view: &GroupView<'_>,
    more: &BTreeMap<String, u32>,
) -> (BTreeMap<String, u32>, Option<String>) {
    let (mut asked, mut beyond) = (more.clone(), None);
    for role in &view.roles {
        let (name, most) = (&role.rules.name, role.rules.desired);
        let Some(replicas) = asked.get_mut(name).filter(|_| most > 0) else {
            continue;
        };
        let allowed = most.saturating_sub(role.there());
        if *replicas > allowed {
            *replicas = allowed;
            beyond
                .get_or_insert_with(|| format!("{name} has at most {most} replicas in its group"));
        }
    }
    (asked, beyond)
}

fn answered(found: WhatIf, beyond: Option<String>) -> Room {
    let fits = found.fits && beyond.is_none();
    let told = found.explanation.as_ref().map(ToString::to_string);
    let message = [beyond, told].into_iter().flatten();
    Room {
        fits,
        granted: found.granted,
        sets_at_most: if fits { found.sets_at_most } else { 0 },
        message: message.collect::<Vec<String>>().join("; "),
        explanation: found.explanation,
    }
}
