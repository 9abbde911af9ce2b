//! The settings of pods by which requests are lost, and the marks that could not be written.

use pd_api::{
    ConditionState::{False, True},
    ConditionType,
    condition::Finding,
};
use pd_core::Reason;

use super::finding;
use crate::outcome::Applied;

/// Both targets were found; a setting of their pods that loses requests all the time is a note.
pub(super) fn target_resolved(applied: &Applied) -> Finding {
    let mut message = "both targets exist and can be scaled".to_owned();
    let others = applied.drain.sentences(false);
    if !others.is_empty() {
        message.extend(["; ", &others]);
    }
    let (condition, reason) = (ConditionType::TargetResolved, Reason::TargetsFound);
    finding(condition, True, reason, message)
}

/// Whether pods that leave end their requests, and whether those that go first could be marked.
pub(super) fn drain_safe(applied: &Applied) -> Finding {
    let of = |state, reason, message| finding(ConditionType::DrainSafe, state, reason, message);
    let traps = applied.drain.sentences(true);
    if !traps.is_empty() {
        return of(False, Reason::DrainUnsafe, traps);
    }
    if let Some(error) = &applied.unmarked {
        return of(False, Reason::VictimsUnmarked, error.clone());
    }
    let message = "nothing in the pod templates ends the requests of pods that leave too early";
    of(True, Reason::DrainSafe, message.to_owned())
}
