//! A budget that begins or ceases to be exceeded has an event and its figures.

use kube::{
    Resource as _,
    runtime::events::{Event, EventType},
};
use pd_api::v1alpha1::GPUBudget;
use tracing::warn;

use super::accounts::WITHIN_BUDGET;
use crate::{answer::within_limit, context::Context};

/// Reports that `after` was written where `before` was.
pub async fn written(context: &Context, before: &GPUBudget, after: &GPUBudget) {
    context.metrics.budget_written(after);
    let state = |budget: &GPUBudget| {
        let conditions = budget.status.iter().flat_map(|status| &status.conditions);
        let mut conditions = conditions.filter(|found| found.type_ == WITHIN_BUDGET);
        conditions.next().cloned()
    };
    let Some(now) = state(after) else { return };
    let was = state(before).map_or_else(|| "True".to_owned(), |condition| condition.status);
    if was == now.status {
        return;
    }
    let type_ = if now.status == "True" {
        EventType::Normal
    } else {
        EventType::Warning
    };
    let event = Event {
        type_,
        reason: now.reason,
        note: Some(now.message),
        action: "Grant".to_owned(),
        secondary: None,
    };
    let about = after.object_ref(&());
    let published = context.events.publish(&event, &about);
    if let Err(error) = within_limit(published).await {
        warn!(%error, reason = event.reason, "event cannot be written");
        context.metrics.api_failed("event");
    }
}
