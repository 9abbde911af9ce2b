//! The sentence of a decision, and that it stays short.

use std::time::Duration;

use pd_api::v1alpha1::status::MESSAGE_LENGTH_MAX;
use pd_core::{Memory, Snapshot, Timestamp, plan};

use super::*;
use crate::report::testing;

/// A budget that the bounds exceed.
fn snapshot() -> Snapshot {
    let mut snapshot = testing::snapshot(3);
    snapshot.policy.budget_gpus = Some(6);
    snapshot.signals.rate_window = Duration::from_mins(2);
    snapshot
}

#[test]
fn the_step_that_decided_comes_first_and_descriptions_are_left_out() {
    let snapshot = snapshot();
    let report = plan(&snapshot, &Memory::default(), Timestamp::from_millis(0)).report;
    let text = sentence(&report);
    assert!(text.starts_with(&report.headline()), "{text}");
    assert!(text.chars().count() <= MESSAGE_LENGTH_MAX, "{text}");
    let first = report.step(report.reason);
    assert!(
        first.is_none_or(|step| text.contains(&step.message)),
        "{text}"
    );
    assert!(!text.contains("forecast by"), "{text}");
}
