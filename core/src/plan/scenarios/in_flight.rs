//! Load that shows in the requests in flight before it shows anywhere else.

use rstest::rstest;

use super::{MINUTE, steady};
use crate::{
    signal::Reading,
    snapshot::Snapshot,
    testing::{self, Load},
};

/// Long answers: each stays for about half a minute.
const LONG: Load = Load {
    rate_rps: 18.0,
    prefill_seconds: 0.05,
    output_tokens: 1_500.0,
};

/// Answers as those that are finished show them: short ones are finished first, so that the mean
/// length is as before.
fn finished_as_before(snapshot: &mut Snapshot) {
    let shown = testing::snapshot(1, 1, LONG).signals;
    snapshot.signals.recent.output_tokens = shown.recent.output_tokens;
    snapshot.signals.wide.output_tokens = shown.wide.output_tokens;
}

#[rstest]
#[case::twice_as_long(2.0)]
#[case::twice_and_a_half(2.5)]
#[case::three_times_as_long(3.0)]
fn answers_that_become_longer_are_seen_while_they_run(#[case] factor: f64) {
    let longer = Load {
        output_tokens: LONG.output_tokens * factor,
        ..LONG
    };
    let needed = steady(longer).current.decode;
    let mut world = steady(LONG);
    let before = world.current.decode;
    world.load = longer;
    world.run_seeing(3 * MINUTE, finished_as_before);
    let half = before + (needed - before) / 2;
    assert!(
        world.current.decode >= half,
        "{before} before, {needed} needed: {:?}",
        world.history
    );
}

#[rstest]
#[case::twice(2.0)]
#[case::three_times(3.0)]
fn a_step_of_short_answers_is_over_before_it_is_continued(#[case] factor: f64) {
    // Prefill is quick, so that all of the step comes to decode at once.
    let short = Load {
        rate_rps: 60.0,
        prefill_seconds: 0.005,
        output_tokens: 100.0,
    };
    let stepped = Load {
        rate_rps: short.rate_rps * factor,
        ..short
    };
    let needed = steady(stepped).current.decode;
    let mut world = steady(short);
    world.load = stepped;
    // As long as the new replicas start, the pool falls behind.
    world.run(2 * MINUTE);
    let most = world.history.iter().map(|pair| pair.decode).max().unwrap();
    assert!(
        most <= needed + 1,
        "{most} of {needed}: {:?}",
        world.history
    );
}

/// A part of the decode workers is scraped; the sums are of those.
fn half_seen(snapshot: &mut Snapshot) {
    let signals = &mut snapshot.signals;
    signals.coverage.decode.scraped /= 2;
    signals.coverage.decode.seen /= 2;
    for sum in [
        &mut signals.running_requests.decode,
        &mut signals.output_token_rate_tps,
    ] {
        *sum = sum.known().map_or(*sum, |sum| Reading::of(sum / 2.0));
    }
}

#[rstest]
#[case::for_a_minute(1)]
#[case::for_ten_minutes(10)]
fn workers_that_are_seen_again_are_no_growth(#[case] minutes: u32) {
    let mut world = steady(LONG);
    let before = world.current.decode;
    world.run_seeing(minutes * MINUTE, half_seen);
    world.run(5 * MINUTE);
    let most = world.history.iter().map(|pair| pair.decode).max().unwrap();
    assert_eq!(most, before, "{:?}", world.history);
}

#[test]
fn requests_that_were_not_watched_did_not_grow_at_once() {
    let mut world = steady(LONG);
    let before = world.current.decode;
    // The controller stood still while the load went up by a tenth and settled there.
    world.load.rate_rps *= 1.1;
    world.tick = 10 * MINUTE;
    world.run(10 * MINUTE);
    assert!(world.current.decode <= before + 2, "{:?}", world.history);
}
