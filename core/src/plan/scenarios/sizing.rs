//! Sizing on what may come: steps of the load, and budgets of an hour that has just begun.

use rstest::rstest;

use super::{LOAD, MINUTE, steady};
use crate::{
    histogram::Histogram, role::Role, signal::HistogramReading, snapshot::Snapshot,
    testing::world::World,
};

fn waiting(world: &World) -> f64 {
    let waiting = world.snapshot().signals.waiting_requests.prefill;
    waiting.known().unwrap_or(0.0)
}

#[rstest]
#[case::twice(2.0)]
#[case::three_times(3.0)]
#[case::five_times(5.0)]
fn the_backlog_of_a_step_is_gone_within_two_leads_and_a_minute(#[case] factor: f64) {
    let mut world = steady(LOAD);
    world.load.rate_rps *= factor;
    world.run(2 * world.start_up + MINUTE);
    assert!(waiting(&world) < 1.0, "{:?}", world.history);
}

#[rstest]
#[case::twice(2.0)]
#[case::three_times(3.0)]
#[case::five_times(5.0)]
fn what_a_step_took_too_much_is_given_back_within_half_an_hour(#[case] factor: f64) {
    let mut world = steady(LOAD);
    world.load.rate_rps *= factor;
    world.run(2 * world.start_up + MINUTE + 30 * MINUTE);
    let needed = steady(world.load).current;
    for role in Role::ALL {
        let (has, needs) = (world.current[role], needed[role]);
        assert!(
            has <= needs + needs.div_ceil(5),
            "{role:?}: {has} and {needs} are needed"
        );
    }
}

/// `minutes` of requests in the attainment window, of which the share `missed` was late.
fn window(minutes: f64, missed: f64) -> impl Fn(&mut Snapshot) {
    move |snapshot| {
        let all = LOAD.rate_rps * 60.0 * minutes;
        let (kept, late) = ((1.0 - missed) * all, missed * all);
        let edges = vec![(0.4, kept), (2.0, kept), (4.0, all)];
        let seen = Histogram::from_cumulative(edges, all, kept * 0.2 + late * 3.0);
        snapshot.signals.prefill_ttft_attainment = HistogramReading::Value(seen.unwrap());
    }
}

#[rstest]
#[case::a_minute(1.0, 0.05)]
#[case::five_minutes(5.0, 0.02)]
#[case::a_quarter_of_an_hour(15.0, 0.01)]
fn misses_of_an_hour_that_has_begun_are_a_part_of_its_budget(
    #[case] minutes: f64,
    #[case] missed: f64,
) {
    let left = |minutes: f64, missed: f64| {
        let mut world = steady(LOAD);
        let decision = world.run_seeing(MINUTE, window(minutes, missed));
        decision.report.risk_target.prefill.budget_left.unwrap()
    };
    let begun = left(minutes, missed);
    // As many misses in an hour that is over.
    let over = left(60.0, missed * minutes / 60.0);
    assert!((begun - over).abs() < 0.02, "{begun} {over}");
    assert!(left(60.0, missed) < begun);
}
