//! One look at everything: the next record of each group, and what is to be done now.

use std::collections::BTreeMap;

use super::{
    Action, Assignment, GateSettings, GroupState, PodState, Record, Seen, SeenGroup, SeenPod,
    TEXT_MAX,
    assign::assign,
    composition::GroupView,
    directed::Directed,
    facts::{Standing, Standings},
    planned::{Plans, plans},
    window,
};
use crate::plan::{GroupPlan, Outcome};

/// The things to do next. Actions of one group follow each other in the order given; a failed one
/// makes those after it void until everything is seen again.
pub fn step(seen: &Seen) -> Vec<Action> {
    let nodes = seen.nodes_by_name();
    let standings = Standings::read(seen, &nodes);
    let views = GroupView::all(seen, &standings);
    let plans = plans(seen, &views, &standings);
    let mut actions = Vec::new();
    for view in &views {
        let group = view.seen;
        let closed = window::close(view, &nodes, seen.now_seconds, &seen.settings);
        let next = match closed {
            Some(mut record) => {
                record.state = GroupState::BackingOff;
                record.message = closed_in_words(&record, group);
                cut(record)
            }
            None => next(view, &plans, seen),
        };
        actions.extend(touch(view, &next, &standings));
        actions.extend(mark(view, &next, seen));
        if next != group.record {
            actions.push(Action::Write {
                group: group.rules.name.clone(),
                record: Box::new(next),
            });
        }
    }
    actions
}

/// Pods of the plan that was read back are released, and those that have to end are ended.
fn touch(view: &GroupView<'_>, next: &Record, standings: &Standings) -> Vec<Action> {
    let group = view.seen;
    let (name, record) = (&group.rules.name, &group.record);
    let mut actions = Vec::new();
    for planned in &record.assignments {
        let pod = group.pods.iter().find(|pod| pod.uid == planned.uid);
        let pod = pod.filter(|pod| pod.state == PodState::Gated && !pod.is_ending);
        let still_holds = |pod: &&SeenPod| {
            next.assignments.contains(planned)
                && matches!(standings.of(pod), Standing::Member { .. })
        };
        if let Some(pod) = pod.filter(still_holds) {
            actions.push(Action::Release {
                group: name.clone(),
                plan: record.plan,
                pod: pod.version(),
                node: planned.node.clone(),
            });
        }
    }
    for ending in &record.ending {
        let pod = group.pods.iter().find(|pod| pod.uid == ending.uid);
        let ended = |pod: &&SeenPod| pod.is_ending || matches!(pod.state, PodState::Ended { .. });
        if let Some(pod) = pod.filter(|pod| !ended(pod)) {
            actions.push(Action::End {
                group: name.clone(),
                pod: pod.version(),
                is_bound: pod.is_bound(),
            });
        }
    }
    actions
}

/// Pods that wait carry the state of their group, and those that were placed carry that. A pod that
/// is about to be released is not touched, for it would not be the one that was seen any more.
fn mark(view: &GroupView<'_>, next: &Record, seen: &Seen) -> Vec<Action> {
    let state = view.seen.record.state;
    let wanted = |pod: &SeenPod| match &pod.state {
        PodState::Gated => {
            let is_unplanned = next.planned(pod).is_none();
            let from_seconds = pod
                .created_seconds
                .saturating_add(seen.settings.mark_seconds);
            let is_due = pod.marked.is_some() || seen.now_seconds >= from_seconds;
            (state.is_waiting() && is_unplanned && is_due).then_some(state)
        }
        PodState::Bound { .. } => {
            let waited = pod.marked.is_some_and(GroupState::is_waiting);
            waited.then_some(GroupState::Placed)
        }
        _ => None,
    };
    let pods = view.seen.pods.iter().filter(|pod| !pod.is_ending);
    let unlike = pods.filter_map(|pod| {
        let state = wanted(pod).filter(|state| pod.marked != Some(*state))?;
        Some(Action::Mark {
            group: view.seen.rules.name.clone(),
            pod: pod.version(),
            state,
        })
    });
    unlike.collect()
}

/// The record of a group whose window is open, or that has none.
fn next(view: &GroupView<'_>, plans: &Plans, seen: &Seen) -> Record {
    let (name, now_seconds) = (&view.seen.rules.name, seen.now_seconds);
    let mut next = view.seen.record.clone();
    tidy(&mut next, view, seen);
    next.holds.clear();
    let (state, message) = if let Some((plan, drains)) = plans.planned.get(name) {
        next.holds.clone_from(drains);
        follow(&mut next, view, plan, seen)
    } else if let Some(directed) = plans.directed.get(name) {
        follow_directed(&mut next, view, directed, seen)
    } else {
        unplanned(view)
    };
    // A part that is held without a window, for it was not seen when the last one ended.
    if next.deadline_seconds.is_none() && !window::part(view).is_empty() {
        next.deadline_seconds = Some(now_seconds + seen.settings.window_seconds);
    }
    let changes = is_settled(state) != is_settled(next.state);
    if next.since_seconds == 0 || changes || next.since_seconds > now_seconds {
        next.since_seconds = now_seconds.max(1);
    }
    next.state = state;
    next.message = message;
    cut(next)
}

/// The record with texts that fit.
fn cut(mut record: Record) -> Record {
    for text in [&mut record.message, &mut record.domain] {
        if let Some((end, _)) = text.char_indices().nth(TEXT_MAX) {
            text.truncate(end);
        }
    }
    record
}

/// Takes off the record whatever is over.
fn tidy(next: &mut Record, view: &GroupView<'_>, seen: &Seen) {
    let group = view.seen;
    let now_seconds = seen.now_seconds;
    let is_there = |uid: &str| {
        let mut pods = group.pods.iter();
        pods.any(|pod| pod.uid == uid && !matches!(pod.state, PodState::Ended { .. }))
    };
    next.ending.retain(|ending| is_there(&ending.uid));
    let latest = now_seconds.saturating_add(seen.settings.exclude_seconds);
    next.excluded
        .retain(|_, until| now_seconds < *until && *until <= latest);
    if next.retry_seconds.is_some_and(|retry| {
        now_seconds >= retry || retry > now_seconds + seen.settings.retry_max_seconds
    }) {
        next.retry_seconds = None;
    }
    // A clock that was set back must not lengthen a window.
    let last = now_seconds.saturating_add(seen.settings.window_seconds);
    next.deadline_seconds = next.deadline_seconds.map(|end| end.min(last));
    let has_least = window::has_least(view);
    // The window of a group that never had its least stays open until it has, or ends.
    let is_closed = has_least || next.was_placed || !view.has_members();
    if next.deadline_seconds.is_some() && window::is_done(group) && is_closed {
        next.assignments.clear();
        next.deadline_seconds = None;
        if has_least {
            next.was_placed = true;
            next.failures = 0;
        }
    }
    if next.deadline_seconds.is_none() {
        remember(next, view, &seen.settings, now_seconds);
    }
}

/// Replicas that the group has; those that it had are remembered for a while.
fn remember(next: &mut Record, view: &GroupView<'_>, settings: &GateSettings, now_seconds: u64) {
    let have: BTreeMap<String, u32> = view
        .roles
        .iter()
        .map(|role| (role.rules.name.clone(), role.bound()))
        .collect();
    let is_short = have
        .iter()
        .any(|(role, count)| next.replicas.get(role).is_some_and(|had| had > count));
    next.was_placed |= !view.roles.is_empty() && window::has_least(view);
    let since = next.short_since_seconds.map(|since| since.min(now_seconds));
    let is_over = since.is_some_and(|since| now_seconds >= since + settings.protect_seconds);
    if !is_short || is_over {
        next.replicas = have;
        next.short_since_seconds = None;
    } else {
        for (role, count) in have {
            let had = next.replicas.entry(role).or_default();
            *had = (*had).max(count);
        }
        next.short_since_seconds = Some(since.unwrap_or(now_seconds));
    }
}

/// A plan is taken over: its new pods are on their way, or pods have to move.
fn follow(
    next: &mut Record,
    view: &GroupView<'_>,
    plan: &GroupPlan,
    seen: &Seen,
) -> (GroupState, String) {
    let why = plan
        .explanation
        .as_ref()
        .map_or_else(String::new, ToString::to_string);
    next.domain = plan
        .domain
        .as_ref()
        .map_or_else(String::new, ToString::to_string);
    match &plan.outcome {
        Outcome::Refused(faults) => {
            let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
            return (GroupState::Refused, faults.join("; "));
        }
        Outcome::Waiting if window::has_least(view) => return (GroupState::PlacedInPart, why),
        Outcome::Waiting => return (GroupState::WaitingForRoom, why),
        Outcome::Placed | Outcome::Degraded => {}
    }
    let moves = plan.slots.iter().any(|slot| slot.pod.is_none()) && !plan.ends.is_empty();
    if moves && view.seen.rules.on_loss == crate::group::OnLoss::Relocate {
        return relocate(next, view, plan);
    }
    // Pods that have to end and still run would be in another domain than the new ones.
    let may_assign = next.retry_seconds.is_none() && !has_to_end(view);
    let assigned = if may_assign {
        assign(view, &plan.slots)
    } else {
        Vec::new()
    };
    if !assigned.is_empty() && has_least_with(view, plan) {
        send(next, view, assigned, seen);
    }
    if next.deadline_seconds.is_some() {
        return on_their_way(next);
    }
    let state = match (&plan.outcome, window::has_least(view)) {
        (Outcome::Degraded, _) => GroupState::Degraded,
        (_, false) => return pods_are_lost(),
        _ if plan.explanation.is_some() => GroupState::PlacedInPart,
        _ => GroupState::Placed,
    };
    (state, why)
}

/// A plan of pods with places of their own is taken over, as far as there is one.
fn follow_directed(
    next: &mut Record,
    view: &GroupView<'_>,
    directed: &Directed,
    seen: &Seen,
) -> (GroupState, String) {
    let may_assign = next.retry_seconds.is_none() && !has_to_end(view);
    if may_assign && !directed.assignments.is_empty() {
        next.domain.clear();
        send(next, view, directed.assignments.clone(), seen);
    }
    if next.deadline_seconds.is_some() {
        return on_their_way(next);
    }
    match &directed.waits {
        Some(why) if window::has_least(view) => (GroupState::PlacedInPart, why.clone()),
        Some(why) => (GroupState::WaitingForRoom, why.clone()),
        None if window::has_least(view) => (GroupState::Placed, String::new()),
        None => pods_are_lost(),
    }
}

/// A group that had its least replicas, and not all of them are there.
fn pods_are_lost() -> (GroupState, String) {
    let lost = "pods are lost, and their places are kept until they are made again";
    (GroupState::WaitingForPods, lost.to_owned())
}

/// These pods are on their way, too, and the window is open.
fn send(next: &mut Record, view: &GroupView<'_>, assigned: Vec<Assignment>, seen: &Seen) {
    let is_open = next.deadline_seconds.filter(|_| !next.was_placed);
    next.assignments
        .retain(|planned| is_member(view, &planned.uid));
    next.assignments.extend(assigned);
    next.plan += 1;
    next.deadline_seconds =
        Some(is_open.unwrap_or(seen.now_seconds + seen.settings.window_seconds));
}

fn on_their_way(next: &Record) -> (GroupState, String) {
    let pods = next.assignments.len();
    let message = match next.domain.as_str() {
        "" => format!("{pods} pods go to nodes that each of them names"),
        domain => format!("{pods} pods go to nodes of {domain}"),
    };
    (GroupState::Placing, message)
}

/// Whether pods that have to end run as if they did not.
fn has_to_end(view: &GroupView<'_>) -> bool {
    let record = &view.seen.record;
    let mut pods = view.seen.pods.iter();
    pods.any(|pod| pod.is_bound() && !pod.is_ending && record.has_to_end(pod))
}

/// Whether the pods that are there make up the least of every role, or the group runs already.
fn has_least_with(view: &GroupView<'_>, plan: &GroupPlan) -> bool {
    view.has_members()
        || view.roles.iter().all(|role| {
            let placed = plan.replicas.get(&role.rules.name).copied().unwrap_or(0);
            placed.min(role.there()) >= role.rules.min
        })
}

fn is_member(view: &GroupView<'_>, uid: &str) -> bool {
    let members = view.roles.iter().flat_map(|role| &role.members);
    members
        .flat_map(|replica| &replica.pods)
        .any(|(pod, standing)| pod.uid == uid && matches!(standing, Standing::Member { .. }))
}

/// The pods that run elsewhere end; those that are made again go to the new domain.
fn relocate(next: &mut Record, view: &GroupView<'_>, plan: &GroupPlan) -> (GroupState, String) {
    let moves = |pod: &&SeenPod| plan.ends.contains(&pod.name) && pod.may_be_ended();
    next.end(view.seen.pods.iter().filter(moves));
    let count = plan.ends.len();
    (
        GroupState::Relocating,
        format!("{count} pods move to {}", next.domain),
    )
}

/// Why a group has no plan.
fn unplanned(view: &GroupView<'_>) -> (GroupState, String) {
    let group = view.seen;
    if let Err(fault) = &group.topology {
        return (GroupState::WaitingForTopology, fault.clone());
    }
    if let Some(fault) = &view.fault {
        return (GroupState::Refused, fault.clone());
    }
    if let Some(lacks) = view.lacks() {
        return (GroupState::WaitingForPods, lacks);
    }
    (GroupState::BackingOff, group.record.message.clone())
}

fn closed_in_words(record: &Record, group: &SeenGroup) -> String {
    let ending = record.ending.len() - group.record.ending.len().min(record.ending.len());
    format!(
        "pods of plan {} found no place on their nodes: {ending} of them end, {} plans failed one after another",
        record.plan, record.failures
    )
}

/// Whether a group is as it is to be: age counts from the last change between this and waiting.
const fn is_settled(state: GroupState) -> bool {
    matches!(
        state,
        GroupState::Placed | GroupState::PlacedInPart | GroupState::Degraded
    )
}
