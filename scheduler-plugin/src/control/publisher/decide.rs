//! Whether a node's taint gets another value: a pure function of the node, the reading and the
//! time.
//!
//! Everything that it needs of the past is the time of the last change, which is kept on the node,
//! so a restart decides the same. What is not known changes nothing. Where not every change may be
//! made at once, the falls come first, the deepest of them before others: a node that is worse than
//! it says breaks promises, one that is better only waits for work.

use std::{cmp::Reverse, time::Duration};

use k8s_openapi::jiff::Timestamp;

use strum::IntoStaticStr;

use super::config::{Rounding, Rules};

/// The span that `maxNodesPerMinute` is about.
pub const MINUTE: Duration = Duration::from_mins(1);

/// How near a product has to be to an integer to be that integer: 0.57 times 100 is 57, whatever
/// floats say.
const NEAR: f64 = 1e-9;

/// The value of a node's taint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Current {
    /// It is not there.
    Missing,
    /// It has a value that is no number.
    NoNumber,
    /// A number.
    Number(i64),
}

/// The result of the query for a node.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reading {
    /// Nothing.
    None,
    /// Several values.
    Several,
    /// One value; may be NaN or infinite.
    One(f64),
}

/// A change to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaintChange {
    /// The value so far.
    pub from: Current,
    /// The new value.
    pub to: i64,
}

/// Why nothing changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Held {
    /// The query says nothing about the node.
    NoData,
    /// The query gives several values for the node.
    SeveralValues,
    /// The value is NaN or infinite.
    NotFinite,
    /// The taint is missing, and is not to be added.
    #[strum(serialize = "missing_taint")]
    Missing,
    /// The difference is smaller than the dead band, or none.
    InDeadBand,
    /// The last change was a short while ago.
    TooSoon,
}

impl Held {
    /// Every reason.
    pub const ALL: [Self; 6] = [
        Self::NoData,
        Self::SeveralValues,
        Self::NotFinite,
        Self::Missing,
        Self::InDeadBand,
        Self::TooSoon,
    ];

    /// Its word in metrics and logs.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Decides about one node. `changed` is when its taint was last changed.
pub fn decide(
    rules: &Rules,
    current: Current,
    changed: Option<Timestamp>,
    reading: Reading,
    now: Timestamp,
) -> Result<TaintChange, Held> {
    let value = match reading {
        Reading::None => return Err(Held::NoData),
        Reading::Several => return Err(Held::SeveralValues),
        Reading::One(value) if !value.is_finite() => return Err(Held::NotFinite),
        Reading::One(value) => value,
    };
    let to = number(rules, value).ok_or(Held::NotFinite)?;
    match current {
        Current::Missing if !rules.add_missing => return Err(Held::Missing),
        // Bounds that were narrowed hold for small differences too.
        Current::Number(now) if (rules.minimum..=rules.maximum).contains(&now) => {
            if now.abs_diff(to) < rules.dead_band.unsigned_abs().max(1) {
                return Err(Held::InDeadBand);
            }
        }
        Current::Missing | Current::NoNumber | Current::Number(_) => {}
    }
    if changed.is_some_and(|changed| within(rules.min_interval, changed, now)) {
        return Err(Held::TooSoon);
    }
    Ok(TaintChange { from: current, to })
}

/// The taint's number for a value; nothing if the product leaves the floats.
fn number(rules: &Rules, value: f64) -> Option<i64> {
    let product = value * rules.scale;
    if !product.is_finite() {
        return None;
    }
    let nearest = product.round();
    let is_integer = (product - nearest).abs() <= NEAR * nearest.abs().max(1.0);
    let rounded = match rules.rounding {
        _ if is_integer => nearest,
        Rounding::Down => product.floor(),
        Rounding::Nearest => nearest,
        Rounding::Up => product.ceil(),
    };
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the cast saturates, and the bounds follow"
    )]
    let number = rounded as i64;
    Some(number.max(rules.minimum).min(rules.maximum))
}

/// Whether `at` lies within `span` before `now`. A time far in the future was no change of ours, a
/// little of it is clocks that differ.
pub fn within(span: Duration, at: Timestamp, now: Timestamp) -> bool {
    let age_seconds = now.duration_since(at).as_secs_f64();
    age_seconds.abs() < span.as_secs_f64()
}

/// How many more changes may be made now, after those made at `changed`.
pub fn allowance(
    per_minute: u32,
    changed: impl Iterator<Item = Timestamp>,
    now: Timestamp,
) -> usize {
    let recent = changed.filter(|at| within(MINUTE, *at, now)).count();
    usize::try_from(per_minute)
        .unwrap_or(usize::MAX)
        .saturating_sub(recent)
}

/// The most urgent changes, at most `count` of them; others keep their order.
pub fn most_urgent<T>(mut changes: Vec<(T, TaintChange)>, count: usize) -> Vec<(T, TaintChange)> {
    changes.sort_by_key(|(_, change)| urgency(change));
    changes.truncate(count);
    changes
}

/// Smaller is more urgent: falls by depth, then what says nothing yet, then rises.
fn urgency(change: &TaintChange) -> (u8, Reverse<u64>) {
    match change.from {
        Current::Number(from) if change.to < from => (0, Reverse(from.abs_diff(change.to))),
        Current::NoNumber => (1, Reverse(0)),
        Current::Missing => (2, Reverse(0)),
        Current::Number(_) => (3, Reverse(0)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn rules() -> Rules {
        Rules {
            scale: 10_000.0,
            rounding: Rounding::Down,
            minimum: 1,
            maximum: 10_000,
            dead_band: 5,
            min_interval: Duration::from_mins(5),
            add_missing: true,
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn change(from: i64, to: i64) -> TaintChange {
        TaintChange {
            from: Current::Number(from),
            to,
        }
    }

    #[rstest]
    #[case::fall(Current::Number(9_990), 0.9951, Ok(change(9_990, 9_951)))]
    #[case::rise(Current::Number(9_900), 0.9951, Ok(change(9_900, 9_951)))]
    #[case::same(Current::Number(9_951), 0.9951, Err(Held::InDeadBand))]
    #[case::small(Current::Number(9_955), 0.9951, Err(Held::InDeadBand))]
    #[case::just_enough(Current::Number(9_956), 0.9951, Ok(change(9_956, 9_951)))]
    #[case::above_the_bounds(Current::Number(10_001), 1.0, Ok(change(10_001, 10_000)))]
    #[case::clamped_above(Current::Number(9_000), 7.0, Ok(change(9_000, 10_000)))]
    #[case::clamped_below(Current::Number(9_000), -7.0, Ok(change(9_000, 1)))]
    #[case::huge(Current::Number(9_000), 1e300, Ok(change(9_000, 10_000)))]
    #[case::beyond_floats(Current::Number(9_000), 1e306, Err(Held::NotFinite))]
    #[case::nan(Current::Number(9_000), f64::NAN, Err(Held::NotFinite))]
    #[case::infinite(Current::Number(9_000), f64::INFINITY, Err(Held::NotFinite))]
    #[case::added(Current::Missing, 0.5, Ok(TaintChange { from: Current::Missing, to: 5_000 }))]
    #[case::text(Current::NoNumber, 0.5, Ok(TaintChange { from: Current::NoNumber, to: 5_000 }))]
    fn values_become_changes(
        #[case] current: Current,
        #[case] value: f64,
        #[case] want: Result<TaintChange, Held>,
    ) {
        let got = decide(&rules(), current, None, Reading::One(value), at(0));
        assert_eq!(got, want);
    }

    #[rstest]
    #[case::float_below_its_integer(0.57, 100.0, [57, 57, 57])]
    #[case::float_above_its_integer(0.07, 100.0, [7, 7, 7])]
    #[case::low(0.999_91, 10_000.0, [9_999, 9_999, 10_000])]
    #[case::high(0.999_99, 10_000.0, [9_999, 10_000, 10_000])]
    #[case::zero(0.0, 1.0, [0, 0, 0])]
    fn rounding_is_as_asked(#[case] value: f64, #[case] scale: f64, #[case] want: [i64; 3]) {
        let got = [Rounding::Down, Rounding::Nearest, Rounding::Up].map(|rounding| {
            let rules = Rules {
                scale,
                rounding,
                minimum: 0,
                maximum: i64::MAX,
                ..rules()
            };
            number(&rules, value).unwrap()
        });
        assert_eq!(got, want);
    }

    #[test]
    fn a_node_is_changed_again_after_its_interval_only() {
        let decided = |changed: i64, now: i64| {
            let reading = Reading::One(0.5);
            decide(
                &rules(),
                Current::Number(9_000),
                Some(at(changed)),
                reading,
                at(now),
            )
        };
        assert_eq!(decided(0, 299), Err(Held::TooSoon));
        assert_eq!(decided(0, 300), Ok(change(9_000, 5_000)));
        // Another machine's clock is a little ahead; and a time that nobody can have meant.
        assert_eq!(decided(2, 0), Err(Held::TooSoon));
        assert_eq!(decided(1_000_000, 0), Ok(change(9_000, 5_000)));
    }

    #[test]
    fn what_is_missing_stays_missing_unless_asked_for() {
        let rules = Rules {
            add_missing: false,
            ..rules()
        };
        let got = decide(&rules, Current::Missing, None, Reading::One(0.5), at(0));
        assert_eq!(got, Err(Held::Missing));
    }

    #[test]
    fn falls_come_first_and_the_deepest_before_others() {
        let missing = TaintChange {
            from: Current::Missing,
            to: 7,
        };
        let changes = vec![
            ("rise", change(1, 9_999)),
            ("added", missing),
            ("fall", change(9, 8)),
            ("deep", change(9_999, 1)),
        ];
        let names = |count| -> Vec<&str> {
            most_urgent(changes.clone(), count)
                .iter()
                .map(|(name, _)| *name)
                .collect()
        };
        assert_eq!(names(9), ["deep", "fall", "added", "rise"]);
        assert_eq!(names(1), ["deep"]);
        assert!(names(0).is_empty());
    }

    fn arbitrary_current() -> impl Strategy<Value = Current> {
        prop_oneof![
            Just(Current::Missing),
            Just(Current::NoNumber),
            any::<i64>().prop_map(Current::Number),
            (0..=10_050_i64).prop_map(Current::Number),
        ]
    }

    fn arbitrary_reading() -> impl Strategy<Value = Reading> {
        prop_oneof![
            Just(Reading::None),
            Just(Reading::Several),
            any::<f64>().prop_map(Reading::One),
            (0.0..1.01).prop_map(Reading::One),
        ]
    }

    proptest! {
        #[test]
        fn a_change_is_in_bounds_worth_it_and_made_once(
            current in arbitrary_current(),
            reading in arbitrary_reading(),
            scale in prop_oneof![Just(10_000.0), 1e-9..1e300],
        ) {
            let rules = Rules { scale, ..rules() };
            if let Ok(made) = decide(&rules, current, None, reading, at(0)) {
                prop_assert!((rules.minimum..=rules.maximum).contains(&made.to));
                prop_assert!(matches!(reading, Reading::One(value) if value.is_finite()));
                if let Current::Number(from) = current {
                    prop_assert_ne!(from, made.to);
                }
                let again = decide(&rules, Current::Number(made.to), None, reading, at(0));
                prop_assert_eq!(again, Err(Held::InDeadBand));
            }
        }

        #[test]
        fn better_readings_never_give_lower_numbers(a in any::<f64>(), b in any::<f64>()) {
            let (low, high) = if a <= b { (a, b) } else { (b, a) };
            if let (Some(low), Some(high)) = (number(&rules(), low), number(&rules(), high)) {
                prop_assert!(low <= high || a.is_nan() || b.is_nan());
            }
        }

        #[test]
        fn no_minute_and_no_interval_has_more_changes_than_allowed(
            values in prop::collection::vec(prop::collection::vec(0.0..1.0, 6), 40),
            per_minute in 1..5_u32,
        ) {
            let rules = Rules { min_interval: Duration::from_secs(45), ..rules() };
            let mut nodes = vec![(Current::Missing, None); 6];
            let mut made: Vec<(usize, i64)> = Vec::new();
            for (round, values) in (0_i64..).zip(&values) {
                let second = round * 10;
                let now = at(second);
                let wanted = nodes.iter().zip(values).enumerate().filter_map(|(node, ((current, changed), value))| {
                    let change = decide(&rules, *current, *changed, Reading::One(*value), now).ok()?;
                    Some((node, change))
                });
                let wanted = wanted.collect();
                let recent = made.iter().map(|(_, second)| at(*second));
                for (node, change) in most_urgent(wanted, allowance(per_minute, recent.collect::<Vec<_>>().into_iter(), now)) {
                    nodes[node] = (Current::Number(change.to), Some(now));
                    made.push((node, second));
                }
            }
            prop_assert!(!made.is_empty());
            for (node, second) in &made {
                let near = |span: i64| made.iter().filter(move |(_, other)| (*second..*second + span).contains(other));
                prop_assert!(near(45).filter(|(other, _)| other == node).count() == 1);
                prop_assert!(near(60).count() <= per_minute as usize);
            }
        }
    }
}
