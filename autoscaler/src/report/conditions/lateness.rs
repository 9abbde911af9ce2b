//! Lateness: whether decisions about an object come when they are due.

use std::time::Duration;

use pd_api::{
    ConditionState::{False, True},
    ConditionType,
    condition::Finding,
};
use pd_core::{Reason, time::UNWATCHED_MAX};
use tokio::time::Instant;

use super::finding;
use crate::context::Lateness;

/// Whether a reconcile that began `by` after its time was late: decisions were so far apart that
/// the time between them counts as unwatched, or twice the interval.
pub fn is_late(by: Duration, interval: Duration) -> bool {
    by > interval.max(UNWATCHED_MAX.saturating_sub(interval))
}

/// How long a late reconcile is shown: as long as metrics show rates of, so that a condition and an
/// alert begin and end together, and a controller at its limit gives one event and not many.
const LATENESS_SHOWN: Duration = Duration::from_mins(10);

/// Whether decisions come when they are due, after the last one that was late.
pub fn on_time(late: Option<Lateness>, now: Instant) -> Finding {
    let of =
        |state, reason, message: String| finding(ConditionType::OnTime, state, reason, message);
    let shown = late.filter(|late| now.saturating_duration_since(late.at) < LATENESS_SHOWN);
    let Some(Lateness { by, .. }) = shown else {
        let message = "decisions come when they are due".to_owned();
        return of(True, Reason::ReconciledOnTime, message);
    };
    let message = format!(
        "a decision came {} s after its time in the last {} min: replicas follow late until the operator gives the controller more, or what it waits for answers",
        by.as_secs(),
        LATENESS_SHOWN.as_secs() / 60
    );
    of(False, Reason::ReconciledLate, message)
}
