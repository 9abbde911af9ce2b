//! `kubectl pd why-not`: everything that keeps an object from scaling, the most important first.
//!
//! Conditions say how it is now, the steps of the last decision how it was then: a step counts
//! unless the condition that shows its reason says that it is over. Beside them count the spec and
//! annotations themselves, which may be newer than the status. Pure; [`block`] has the order and
//! the remedies.

pub mod block;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt as _;
use pd_api::{
    ConditionType, PauseReading, condition,
    v1alpha1::{Mode, PDAutoscaler, PDAutoscalerStatus},
    wording::{known, sentence},
};
use pd_core::{Reason, Role};
use serde::Serialize;

use self::block::{Block, Direction, Importance, place};
use crate::table::{or_none, table};

/// Something that keeps an object from scaling.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Blocker {
    /// How far it goes.
    pub importance: Importance,
    /// The changes that it keeps back.
    pub direction: Direction,
    /// The role that it is about; both when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// The reason, as in conditions, events and metrics; absent where the controller gives none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why, in the words of the controller.
    pub message: String,
    /// The remedy.
    pub remedy: String,
}

/// All that keeps one object from scaling.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// Namespace of the object.
    pub namespace: String,
    /// Name of the object.
    pub name: String,
    /// The most important first.
    pub blockers: Vec<Blocker>,
}

/// Remedy where no controller acts.
const NO_CONTROLLER: &str =
    "kubectl pd preflight: whether a controller runs, leads and handles this object";

/// Judges `object`. `leaderless` says why no controller leads, where that is known.
pub fn answer(object: &PDAutoscaler, leaderless: Option<&str>) -> Answer {
    let status = object.status.clone().unwrap_or_default();
    let mut found: Vec<Blocker> = Vec::new();
    found.extend(leaderless.map(|message| unseen(message.to_owned())));
    found.extend(behind(object, &status).map(unseen));
    found.extend(of_conditions(&status));
    for blocker in of_spec(object).into_iter().chain(of_steps(&status)) {
        let repeats = |other: &Blocker| {
            other.reason == blocker.reason && (other.role == blocker.role || blocker.role.is_none())
        };
        if !found.iter().any(repeats) {
            found.push(blocker);
        }
    }
    correct(&mut found, object);
    // Stable: what the controller says first stays first among equals.
    found.sort_by_key(|blocker| {
        let reason = blocker.reason.as_deref().and_then(known);
        // Without a known reason nobody acts at all, or a newer controller says why.
        (blocker.importance, reason.map_or(0, place))
    });
    let name = object.name_any();
    for blocker in &mut found {
        blocker.remedy = blocker.remedy.replace("{name}", &name);
    }
    Answer {
        namespace: object.namespace().unwrap_or_default(),
        name,
        blockers: found,
    }
}

fn unseen(message: String) -> Blocker {
    Blocker {
        importance: Importance::NotDecided,
        direction: Direction::Both,
        role: None,
        reason: None,
        message,
        remedy: NO_CONTROLLER.to_owned(),
    }
}

/// Why the status is not about the spec as it is, if it is not.
fn behind(object: &PDAutoscaler, status: &PDAutoscalerStatus) -> Option<String> {
    let generation = object.metadata.generation?;
    match status.observed_generation {
        None => Some("no controller has looked at the object yet".to_owned()),
        Some(observed) if observed < generation => Some(format!(
            "no controller has seen generation {generation} of the spec yet, the last one seen is {observed}"
        )),
        Some(_) => None,
    }
}

fn of_conditions(status: &PDAutoscalerStatus) -> Vec<Blocker> {
    let mut found: Vec<Blocker> = Vec::new();
    // Ready repeats the others and says less of where: it counts where no other has its reason.
    let (ready, others): (Vec<&Condition>, Vec<&Condition>) = status
        .conditions
        .iter()
        .partition(|condition| condition.type_ == ConditionType::Ready.as_str());
    for condition in others.into_iter().chain(ready) {
        let Some(blocker) = of_condition(condition) else {
            continue;
        };
        if !found.iter().any(|other| other.reason == blocker.reason) {
            found.push(blocker);
        }
    }
    found
}

fn of_condition(condition: &Condition) -> Option<Blocker> {
    let is_ready = condition.type_ == ConditionType::Ready.as_str();
    match known(&condition.reason) {
        Some(reason) => {
            let block = block::block(reason)?;
            let shows = block
                .shown_by
                .is_some_and(|kind| kind.as_str() == condition.type_);
            (shows || is_ready).then(|| of_block(block, &condition.message))
        }
        // A newer controller's reason: all that is known is that nothing works.
        None => (is_ready && condition.status == "False").then(|| Blocker {
            importance: Importance::NotDecided,
            direction: Direction::Both,
            role: None,
            reason: Some(condition.reason.clone()),
            message: condition.message.clone(),
            remedy: "do what the message says; the controller is newer than this plugin".to_owned(),
        }),
    }
}

/// The blocker of a message that may begin with the role that it is about.
fn of_block(block: &Block, message: &str) -> Blocker {
    let about = Role::ALL.into_iter().find_map(|role| {
        let rest = message.strip_prefix(role.as_str())?.strip_prefix(": ")?;
        Some((role, rest))
    });
    let (role, message) = about.map_or((None, message), |(role, rest)| (Some(role), rest));
    Blocker {
        importance: block.importance,
        direction: block.direction,
        role,
        reason: Some(block.reason.as_str().to_owned()),
        message: message.to_owned(),
        remedy: block.remedy.to_owned(),
    }
}

/// Mode and annotations as they are now.
fn of_spec(object: &PDAutoscaler) -> Vec<Blocker> {
    let said = |reason, message: &str| block::block(reason).map(|block| of_block(block, message));
    let mode = match object.spec.mode {
        Mode::Auto => None,
        Mode::Recommend => said(
            Reason::Recommended,
            "spec.mode is Recommend: decisions are shown and not applied",
        ),
        Mode::Off => said(Reason::ModeOff, "spec.mode is Off: nothing is decided"),
    };
    let paused = paused(object).and_then(|direction| {
        let message = format!("{} is paused by annotation", direction.as_text());
        said(Reason::Paused, &message)
    });
    mode.into_iter().chain(paused).collect()
}

/// The direction that annotations pause, if any does.
fn paused(object: &PDAutoscaler) -> Option<Direction> {
    let paused = PauseReading::from_annotations(object.annotations()).paused;
    match (paused.scale_up, paused.scale_down) {
        (true, true) => Some(Direction::Both),
        (true, false) => Some(Direction::Up),
        (false, true) => Some(Direction::Down),
        (false, false) => None,
    }
}

/// Leaves out what the object itself shows to be over, and says which direction is paused: mode
/// and annotations are newer than any status.
fn correct(found: &mut Vec<Blocker>, object: &PDAutoscaler) {
    let (mode, paused) = (object.spec.mode, paused(object));
    found.retain(|blocker| match blocker.reason.as_deref().and_then(known) {
        Some(Reason::ModeOff) => mode == Mode::Off,
        Some(Reason::Recommended) => mode == Mode::Recommend,
        Some(Reason::Paused | Reason::AnnotationInvalid) => paused.is_some(),
        _ => true,
    });
    for blocker in found {
        if let (Some("Paused"), Some(direction)) = (blocker.reason.as_deref(), paused) {
            blocker.direction = direction;
        }
    }
}

/// The steps of the last decision that keep something back still, as far as conditions show.
fn of_steps(status: &PDAutoscalerStatus) -> Vec<Blocker> {
    let mut found: BTreeMap<(usize, Option<&str>), Blocker> = BTreeMap::new();
    for step in status.last_decision.iter().flat_map(|last| &last.steps) {
        let Some(block) = known(&step.reason).and_then(block::block) else {
            continue;
        };
        if is_over(block, status) {
            continue;
        }
        let role = Role::ALL
            .into_iter()
            .find(|role| step.role.as_deref() == Some(role.as_str()));
        let blocker = Blocker {
            role,
            ..of_block(block, &step.message)
        };
        found
            .entry((place(block.reason), step.role.as_deref()))
            .or_insert(blocker);
    }
    found.into_values().collect()
}

/// Whether the condition that shows `block` says that it holds no longer.
fn is_over(block: &Block, status: &PDAutoscalerStatus) -> bool {
    let shown_by = block.shown_by;
    let shown = shown_by.and_then(|kind| condition::get(&status.conditions, kind));
    shown.is_some_and(|condition| {
        // One limit of several is shown; the others hold as long.
        let one_of_several =
            shown_by == Some(ConditionType::ScalingLimited) && condition.status == "True";
        condition.reason != block.reason.as_str() && !one_of_several
    })
}

/// The answer for people.
pub fn text(object: &PDAutoscaler, answer: &Answer) -> String {
    let Answer {
        namespace,
        name,
        blockers,
    } = answer;
    let whose = format!("{name} in namespace {namespace}");
    let mut text = match blockers.len() {
        0 => return free(object, &whose),
        1 => format!("One thing keeps {whose} from scaling.\n"),
        many => format!("{many} things keep {whose} from scaling, the most important first.\n"),
    };
    for (index, blocker) in blockers.iter().enumerate() {
        text += &paragraph(index + 1, blocker);
    }
    text
}

/// A blocker with its number, its words and its remedy.
fn paragraph(number: usize, blocker: &Blocker) -> String {
    let reason = blocker.reason.as_deref().unwrap_or("NotObserved");
    let role = blocker.role;
    let role = role.map_or_else(String::new, |role| format!(" of {role}"));
    let (direction, message) = (blocker.direction.as_text(), sentence(&blocker.message));
    let remedy = &blocker.remedy;
    format!(
        "\n{number}. {reason} keeps back {direction}{role}.\n   {message}\n   Remedy: {remedy}.\n"
    )
}

/// Nothing keeps the object back; why it has as many replicas as it has.
fn free(object: &PDAutoscaler, whose: &str) -> String {
    let decision = object.status.clone().unwrap_or_default().last_decision;
    let last = decision.map_or_else(String::new, |decision| {
        format!("\n  Last decision: {}\n", sentence(&decision.message))
    });
    format!(
        "Nothing keeps {whose} from scaling: the replicas are those that the objective needs.\n{last}"
    )
}

/// The answer as columns.
pub fn columns(answer: &Answer) -> String {
    let rows: Vec<Vec<String>> = answer
        .blockers
        .iter()
        .map(|blocker| {
            vec![
                blocker.importance.as_str().to_owned(),
                format!("{:?}", blocker.direction),
                or_none(blocker.role),
                or_none(blocker.reason.as_ref()),
                blocker.message.clone(),
                blocker.remedy.clone(),
            ]
        })
        .collect();
    table(
        &[
            "Importance",
            "Direction",
            "Role",
            "Reason",
            "Message",
            "Remedy",
        ],
        &rows,
    )
}

#[cfg(test)]
mod tests;
