//! A profile that is wrong, from the start or from some moment on, costs next to nothing.
//!
//! The bar: ten minutes after, at most one point of attainment less than under a policy that was
//! told the truth of the same engines. Engines that became slower cannot hold what faster ones
//! could, so they are held against themselves, slow from the start and known to be.

use pd_core::PerRole;
use rstest::rstest;

use super::watcher::Watcher;
use crate::autoscaler::PdAutoscaler;
use crate::fault::{Effect, Fault};
use crate::scenario::{ProfileSkew, Scenario};
use crate::time::{HOUR, MINUTE, Nanos};
use crate::traffic::{Curve, Load, servegen_day};
use crate::world::{Setup, World};

/// When engines change, where they do.
const CHANGE: Nanos = HOUR;

/// Length of a run.
const LENGTH: Nanos = 4 * HOUR;

/// From the start or the change until the bar counts.
const SETTLING_MINUTES: usize = 10;

/// Attainment lost at most, points.
const LOSS_MAX_POINTS: f64 = 1.0;

/// The service, told that its engines take `1/skew` of the time that they take.
fn setup(skew: f64, engine: f64) -> Setup {
    let mut scenario = Scenario::default();
    let profile = &mut scenario.profile;
    for part in [
        &mut profile.prefill_base_milliseconds,
        &mut profile.prefill_milliseconds_per_kilotoken,
        &mut profile.prefill_milliseconds_per_megatoken_squared,
        &mut profile.decode_base_milliseconds,
        &mut profile.decode_milliseconds_per_request,
        &mut profile.decode_milliseconds_per_megatoken,
    ] {
        *part *= engine;
    }
    scenario.profile_skew = Some(ProfileSkew {
        prefill: skew,
        decode: skew,
    });
    let start = PerRole {
        prefill: 3,
        decode: 2,
    };
    scenario.setup(LENGTH, start)
}

/// Morning and noon of the embedded day, whose load and mix change.
fn curve() -> Curve {
    let day = servegen_day().unwrap();
    let points = (0..=48).map(|step| {
        let at: Nanos = step * 5 * MINUTE;
        let load = day.at(6 * HOUR + at);
        let load = Load {
            requests_per_second: load.requests_per_second * 1.5,
            ..load
        };
        (at, load)
    });
    Curve::new(points.collect()).unwrap()
}

/// Attainment from ten minutes after `from` on, percent.
fn attainment(setup: Setup, from: Nanos) -> f64 {
    let watcher = Watcher::new(&setup);
    let warm_up = crate::traffic::Arrivals::new(curve(), 11, 0, setup.warm_up);
    let arrivals = crate::traffic::Arrivals::new(curve(), 12, 0, LENGTH);
    let autoscaler = Box::new(PdAutoscaler::default());
    let mut world = World::new(setup, autoscaler, warm_up, arrivals, watcher);
    while world.step().is_some() {}
    world.finish();
    let watcher = world.into_listener();
    assert_eq!(watcher.findings, Vec::<String>::new());
    let minutes = |at: Nanos| usize::try_from(at / MINUTE).unwrap();
    watcher.attainment_percent(minutes(from) + SETTLING_MINUTES..minutes(LENGTH))
}

#[rstest]
#[case::faster_than_told(0.7)]
#[case::slower_than_told(1.5)]
fn a_profile_that_is_wrong_from_the_start_is_corrected(#[case] skew: f64) {
    let told_truth = attainment(setup(1.0, 1.0), 0);
    let told_wrong = attainment(setup(skew, 1.0), 0);
    let lost = told_truth - told_wrong;
    assert!(lost <= LOSS_MAX_POINTS, "{told_truth} -> {told_wrong}");
    // Without a history to correct it from, the first minutes are the controller's own.
    let fresh = Setup {
        warm_up: 0,
        ..setup(skew, 1.0)
    };
    let fresh = attainment(fresh, 0);
    assert!(
        told_truth - fresh <= LOSS_MAX_POINTS,
        "{told_truth} -> {fresh}"
    );
}

#[rstest]
#[case::faster(0.7)]
#[case::slower(1.5)]
fn engines_that_change_are_followed(#[case] factor: f64) {
    let known = attainment(setup(1.0, factor), CHANGE);
    let change = Fault {
        effect: Effect::Slowdown(factor),
        at: CHANGE,
        every: None,
        lasts: None,
        role: None,
        share: 0.0,
    };
    let surprised = Setup {
        faults: vec![change],
        ..setup(1.0, 1.0)
    };
    let surprised = attainment(surprised, CHANGE);
    let lost = known - surprised;
    assert!(lost <= LOSS_MAX_POINTS, "{known} -> {surprised}");
}
