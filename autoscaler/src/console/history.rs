//! The last hour of each object, for charts: a ring of fixed size per object.
//!
//! All objects are sampled at the same moments, so that the times are kept once. A point is 16
//! bytes, a ring [`POINTS_MAX`] points, and no more than [`OBJECTS_MAX`] objects have one: 19.2 MB
//! and no more, whatever tenants create. Objects that a round does not name are gone, and their
//! rings with them. Pure: times are arguments.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use pd_core::PerRole;

/// Time between two points. Status shows new replicas at once and new measurements within a minute,
/// so that closer points would repeat themselves.
pub const PERIOD: Duration = Duration::from_secs(30);
/// Points of one object: an hour of them.
pub const POINTS_MAX: usize = 120;
/// Objects that have a ring: as many as the memory limit of the chart has room for.
pub const OBJECTS_MAX: usize = 10_000;

/// A small number or nothing, in two bytes. Replicas are at most 10,000 by the API, and percent
/// have two decimals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Small(u16);

impl Small {
    const UNKNOWN: Self = Self(u16::MAX);

    /// Numbers that do not fit, which the API refuses, become the largest.
    fn of(number: Option<u32>) -> Self {
        let fitting = |number| u16::try_from(number).unwrap_or(u16::MAX).min(u16::MAX - 1);
        number.map_or(Self::UNKNOWN, |number| Self(fitting(number)))
    }

    fn get(self) -> Option<u32> {
        (self != Self::UNKNOWN).then_some(u32::from(self.0))
    }
}

/// One object at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    desired: PerRole<Small>,
    ready: PerRole<Small>,
    need: PerRole<Small>,
    /// Prefill's limit is TTFT, decode's TPOT. Hundredths of a percent.
    attainment: PerRole<Small>,
}

impl Point {
    /// Replicas of each role, and the percent of requests that kept TTFT (prefill) and TPOT.
    pub fn new(
        desired: PerRole<Option<u32>>,
        ready: PerRole<Option<u32>>,
        need: PerRole<Option<u32>>,
        attainment_percent: PerRole<Option<f64>>,
    ) -> Self {
        Self {
            desired: desired.map(Small::of),
            ready: ready.map(Small::of),
            need: need.map(Small::of),
            attainment: attainment_percent.map(|percent| Small::of(percent.map(hundredths))),
        }
    }

    /// Replicas of the last decision.
    pub fn desired(&self) -> PerRole<Option<u32>> {
        self.desired.map(Small::get)
    }

    /// Replicas that serve.
    pub fn ready(&self) -> PerRole<Option<u32>> {
        self.ready.map(Small::get)
    }

    /// Replicas that the objective needs, before any limit. The leader alone knows them.
    pub fn need(&self) -> PerRole<Option<u32>> {
        self.need.map(Small::get)
    }

    /// Percent of requests that kept TTFT (prefill) and TPOT (decode).
    pub fn attainment_percent(&self) -> PerRole<Option<f64>> {
        let percent = |hundredths: u32| f64::from(hundredths) / 100.0;
        self.attainment.map(|share| share.get().map(percent))
    }
}

fn hundredths(percent: f64) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "0 to 10,000"
    )]
    let whole = (percent.clamp(0.0, 100.0) * 100.0).round() as u32;
    whole
}

/// The points of one object.
#[derive(Debug)]
struct Ring {
    points: VecDeque<Point>,
    /// The last round that named the object.
    round: u64,
}

/// Rings of all objects.
#[derive(Debug, Default)]
pub struct History {
    /// The moments of the last rounds, seconds since 1970.
    times: VecDeque<i64>,
    /// By the objects' UIDs: an object that is made again under its name begins again.
    rings: HashMap<Box<str>, Ring>,
    round: u64,
}

impl History {
    /// Adds a point for each object there is, by its UID, at `at` seconds since 1970. Objects that
    /// are not named leave.
    pub fn record<'a>(&mut self, at: i64, objects: impl Iterator<Item = (&'a str, Point)>) {
        self.round += 1;
        push(&mut self.times, at);
        for (uid, point) in objects {
            let is_full = self.rings.len() >= OBJECTS_MAX;
            let ring = match self.rings.get_mut(uid) {
                Some(ring) => ring,
                None if is_full => continue,
                None => self.rings.entry(uid.into()).or_insert_with(|| Ring {
                    points: VecDeque::with_capacity(POINTS_MAX),
                    round: 0,
                }),
            };
            // A UID that is named twice in a round, which the API excludes, counts once.
            if ring.round < self.round {
                ring.round = self.round;
                push(&mut ring.points, point);
            }
        }
        let round = self.round;
        self.rings.retain(|_, ring| ring.round == round);
        if self.rings.capacity() > 4 * self.rings.len().max(64) {
            self.rings.shrink_to_fit();
        }
    }

    /// The points of an object with their times, seconds since 1970, the oldest first.
    pub fn points(&self, uid: &str) -> Vec<(i64, Point)> {
        let Some(ring) = self.rings.get(uid) else {
            return Vec::new();
        };
        let skipped = self.times.len().saturating_sub(ring.points.len());
        let times = self.times.iter().skip(skipped).copied();
        times.zip(ring.points.iter().copied()).collect()
    }

    /// Objects that have a ring.
    pub fn len(&self) -> usize {
        self.rings.len()
    }

    /// Whether no object has one.
    pub fn is_empty(&self) -> bool {
        self.rings.is_empty()
    }
}

/// Adds to a ring, whose oldest goes when it is full.
fn push<T>(ring: &mut VecDeque<T>, item: T) {
    if ring.len() >= POINTS_MAX {
        ring.pop_front();
    }
    ring.push_back(item);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn both<T: Copy>(value: T) -> PerRole<T> {
        PerRole::from_fn(|_| value)
    }

    fn point(desired: u32) -> Point {
        Point::new(both(Some(desired)), both(None), both(None), both(None))
    }

    fn shown(history: &History, uid: &str) -> Vec<(i64, Option<u32>)> {
        let points = history.points(uid).into_iter();
        points
            .map(|(at, point)| (at, point.desired().prefill))
            .collect()
    }

    #[test]
    fn a_point_is_sixteen_bytes_and_all_rings_together_below_twenty_megabytes() {
        assert_eq!(size_of::<Point>(), 16);
        const { assert!(size_of::<Point>() * POINTS_MAX * OBJECTS_MAX <= 19_200_000) }
    }

    #[test]
    fn an_hour_is_kept_and_what_is_older_goes() {
        let mut history = History::default();
        for round in 0..300_u32 {
            history.record(i64::from(round) * 30, [("a", point(round))].into_iter());
        }
        let points = shown(&history, "a");
        assert_eq!(points.len(), POINTS_MAX);
        assert_eq!(points[0], (180 * 30, Some(180)));
        assert_eq!(points[119], (299 * 30, Some(299)));
        let ring = &history.rings["a"].points;
        assert_eq!(ring.capacity(), POINTS_MAX, "no more is allocated");
    }

    #[test]
    fn an_object_that_came_later_has_the_times_of_its_own_rounds() {
        let mut history = History::default();
        history.record(30, [("a", point(1))].into_iter());
        history.record(60, [("a", point(1)), ("b", point(2))].into_iter());
        assert_eq!(shown(&history, "b"), [(60, Some(2))]);
    }

    #[test]
    fn objects_that_are_gone_leave_and_begin_again() {
        let mut history = History::default();
        history.record(30, [("a", point(1)), ("b", point(1))].into_iter());
        history.record(60, [("b", point(2))].into_iter());
        assert!(shown(&history, "a").is_empty());
        assert_eq!(history.len(), 1);
        history.record(90, [("a", point(3)), ("b", point(2))].into_iter());
        assert_eq!(shown(&history, "a"), [(90, Some(3))]);
    }

    #[test]
    fn more_objects_than_there_is_room_for_have_no_ring_until_others_leave() {
        let mut history = History::default();
        let uids: Vec<String> = (0..=OBJECTS_MAX).map(|n| n.to_string()).collect();
        let all = || uids.iter().map(|uid| (uid.as_str(), point(1)));
        history.record(30, all());
        assert_eq!(history.len(), OBJECTS_MAX);
        assert!(history.points(&uids[OBJECTS_MAX]).is_empty());
        history.record(60, all().skip(1));
        history.record(90, all().skip(1));
        assert_eq!(shown(&history, &uids[OBJECTS_MAX]), [(90, Some(1))]);
    }

    proptest! {
        #[test]
        fn numbers_come_back_as_they_were(
            replicas in prop::option::of(0_u32..=10_000),
            hundredths in prop::option::of(0_u32..=10_000),
        ) {
            let percent = hundredths.map(|hundredths| f64::from(hundredths) / 100.0);
            let point = Point::new(both(replicas), both(replicas), both(replicas), both(percent));
            prop_assert_eq!(point.desired(), both(replicas));
            prop_assert_eq!(point.ready(), both(replicas));
            prop_assert_eq!(point.need(), both(replicas));
            prop_assert_eq!(point.attainment_percent(), both(percent));
        }
    }
}
