//! When controllers saw a node's taints change and when they decided that a pod goes, by their own
//! logs.
//!
//! A machine that is busy brings a change late to a controller, and a decision late to the API
//! server; neither is what is compared. Both moments are of one process and one clock, so that
//! their distance is what the rules gave.

use std::{collections::HashMap, time::Duration};

use serde_json::Value;

const DAY_SECONDS: f64 = 86_400.0;
/// How long after a whole second a decision may be made: timers are late, never early.
const LATE_SECONDS: f64 = 0.3;
/// Clocks of timers and of logs are not read at once.
const EARLY_SECONDS: f64 = 0.02;

/// The log of one controller, in seconds of the day.
#[derive(Default)]
pub(crate) struct Moments {
    /// By node, in order.
    pub(crate) changes: HashMap<String, Vec<f64>>,
    /// By pod, the last.
    pub(crate) decisions: HashMap<String, f64>,
}

/// Which change a pod's time counts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    First,
    Second,
}

/// The fate of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Stays,
    /// It left this many whole seconds after a change was seen.
    Leaves(Change, i64),
    /// The machine was too slow for an answer.
    Unclear(String),
}

impl Moments {
    /// The taint-eviction controller, with `--vmodule=taint_eviction=4`.
    pub(crate) fn of_kubernetes(log: &str) -> Self {
        let mut moments = Self::default();
        for line in log.lines() {
            let Some((head, text)) = line.split_once("] ") else {
                continue;
            };
            let value = |name: &str| {
                let (_, rest) = text.split_once(&format!(" {name}=\""))?;
                rest.split_once('"').map(|(value, _)| value.to_owned())
            };
            let clock = || time_of_day(head.split(' ').nth(1)?);
            if text.starts_with("\"Noticed node update\"") {
                let (Some(node), Some(at)) = (value("node"), clock()) else {
                    continue;
                };
                moments.changes.entry(node).or_default().push(at);
            } else if text.starts_with("\"Deleting pod\"")
                && let (Some(pod), Some(at)) = (value("pod"), clock())
            {
                let name = pod.rsplit('/').next().unwrap_or_default();
                moments.decisions.insert(name.to_owned(), at);
            }
        }
        // The first is the node itself, which came without taints.
        for changes in moments.changes.values_mut() {
            changes.remove(0);
        }
        moments
    }

    /// Our controller, with its debug lines.
    pub(crate) fn of_ours(log: &str) -> Self {
        let mut moments = Self::default();
        for line in log.lines() {
            let Ok(line) = serde_json::from_str::<Value>(line) else {
                continue;
            };
            let text = |name: &str| line[name].as_str().map(str::to_owned);
            let clock = || {
                let timestamp = line["timestamp"].as_str()?;
                time_of_day(timestamp.split_once('T')?.1.trim_end_matches('Z'))
            };
            match line["message"].as_str() {
                Some("NoExecute taints changed") => {
                    if let (Some(node), Some(at)) = (text("node"), clock()) {
                        moments.changes.entry(node).or_default().push(at);
                    }
                }
                Some("request given") => {
                    if let (Some(pod), Some(at)) = (text("pod"), clock()) {
                        moments.decisions.insert(pod, at);
                    }
                }
                _ => {}
            }
        }
        moments
    }

    /// The decision of this controller about `pod`, if it made one. `visible` says which of the
    /// node's changes have other taints than before.
    pub(crate) fn outcome(&self, pod: &str, node: &str, visible: [bool; 2]) -> Option<Outcome> {
        let decision = *self.decisions.get(pod)?;
        let seen = self.changes.get(node).cloned().unwrap_or_default();
        let unclear = |why: String| Some(Outcome::Unclear(why));
        if seen.len() != visible.iter().filter(|visible| **visible).count() {
            return unclear(format!("{} changes seen", seen.len()));
        }
        let mut seen = seen.into_iter();
        let since = [(Change::First, visible[0]), (Change::Second, visible[1])]
            .into_iter()
            .filter_map(|(change, visible)| {
                Some((change, elapsed(visible.then(|| seen.next())??, decision)))
            });
        let since: Vec<(Change, f64)> = since.collect();
        let whole: Vec<(Change, i64)> = since
            .iter()
            .filter_map(|(change, seconds)| Some((*change, whole(*seconds)?)))
            .collect();
        match whole[..] {
            [(change, seconds)] => Some(Outcome::Leaves(change, seconds)),
            _ => unclear(format!("left {since:?} after changes were seen")),
        }
    }
}

/// Seconds from one moment of a day to another, either side of midnight.
fn elapsed(from: f64, to: f64) -> f64 {
    let elapsed = (to - from).rem_euclid(DAY_SECONDS);
    if elapsed > DAY_SECONDS / 2.0 {
        elapsed - DAY_SECONDS
    } else {
        elapsed
    }
}

/// The whole seconds that a timer of this length ran for.
fn whole(seconds: f64) -> Option<i64> {
    let whole = (seconds + EARLY_SECONDS).floor();
    (whole >= 0.0 && seconds - whole <= LATE_SECONDS)
        .then(|| Duration::from_secs_f64(whole).as_secs().cast_signed())
}

/// Seconds of the day of `09:58:11.123456`.
fn time_of_day(text: &str) -> Option<f64> {
    let mut parts = text.split(':').map(str::parse::<f64>);
    let mut next = || parts.next()?.ok();
    let (hours, minutes, seconds) = (next()?, next()?, next()?);
    Some(seconds + 60.0 * (minutes + 60.0 * hours))
}

#[test]
fn logs_of_both_controllers_say_when_a_pod_left_after_which_change() {
    let kubernetes = Moments::of_kubernetes(
        r#"I1121 23:59:50.000000   12 taint_eviction.go:560] "Noticed node update" node="n-0"
I1121 23:59:57.000001   12 taint_eviction.go:560] "Noticed node update" node="n-0"
I1122 00:00:00.500000   12 taint_eviction.go:560] "Noticed node update" node="n-0"
I1122 00:00:02.001000   12 taint_eviction.go:111] "Deleting pod" controller="taint-eviction-controller" pod="default/first"
I1122 00:00:00.501000   12 taint_eviction.go:111] "Deleting pod" controller="taint-eviction-controller" pod="default/second"
I1122 00:00:02.850000   12 taint_eviction.go:111] "Deleting pod" controller="taint-eviction-controller" pod="default/late""#,
    );
    let outcome = |pod: &str| kubernetes.outcome(pod, "n-0", [true, true]);
    assert_eq!(outcome("first"), Some(Outcome::Leaves(Change::First, 5)));
    assert_eq!(outcome("second"), Some(Outcome::Leaves(Change::Second, 0)));
    assert!(matches!(outcome("late"), Some(Outcome::Unclear(_))));
    assert_eq!(outcome("another"), None);
    let ours = Moments::of_ours(
        r#"{"timestamp":"2026-11-21T10:00:00.100000Z","level":"DEBUG","message":"NoExecute taints changed","node":"n-0"}
{"timestamp":"2026-11-21T10:00:02.100900Z","level":"DEBUG","message":"request given","namespace":"default","pod":"p","because":"x"}"#,
    );
    assert_eq!(
        ours.outcome("p", "n-0", [false, true]),
        Some(Outcome::Leaves(Change::Second, 2))
    );
}
