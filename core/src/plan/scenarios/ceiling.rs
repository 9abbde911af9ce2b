//! The ceiling at which a decode replica failed: learnt from busy replicas and enough requests, and
//! forgotten when a replica does as much in time.

use rstest::rstest;

use super::{LOAD, MINUTE, steady};
use crate::{
    signal::Reading,
    snapshot::Snapshot,
    testing::{self, Load},
};

/// `tokens` tokens of `requests` requests at 60 ms each, in a window of one minute.
fn slow_minute(snapshot: &mut Snapshot, tokens: f64, requests: f64) {
    let signals = &mut snapshot.signals;
    signals.output_token_rate_tps = Reading::of(tokens / 60.0);
    signals.running_requests.decode = Reading::of(tokens / 60.0 * 0.06);
    for window in [&mut signals.recent, &mut signals.wide] {
        window.inter_token_latency = testing::around(0.06, tokens);
        window.tpot = testing::around(0.06, requests);
    }
}

#[rstest]
#[case::two_tokens(2.0, 1.0)]
#[case::one_answer(300.0, 1.0)]
#[case::many_requests_one_after_the_other(600.0, 40.0)]
fn slow_tokens_of_a_quiet_minute_buy_nothing(#[case] tokens: f64, #[case] requests: f64) {
    let mut world = steady(Load {
        rate_rps: 0.2,
        output_tokens: 100.0,
        ..LOAD
    });
    assert_eq!(world.current.decode, 1);
    world.run_seeing(3 * MINUTE, |snapshot| {
        slow_minute(snapshot, tokens, requests);
    });
    world.run(2 * 60 * MINUTE);
    world.load.rate_rps = 2.0;
    world.run(60 * MINUTE);
    let most = world.history.iter().map(|pair| pair.decode).max().unwrap();
    assert!(most <= 2, "{:?}", world.history);
}

#[test]
fn a_busy_replica_that_fails_is_given_less_until_it_does_as_much_in_time() {
    let mut world = steady(LOAD);
    let before = world.current.decode;
    let slow = |snapshot: &mut Snapshot| {
        let signals = &mut snapshot.signals;
        let rate = signals.output_token_rate_tps.known().unwrap();
        for window in [&mut signals.recent, &mut signals.wide] {
            window.inter_token_latency = testing::around(0.06, rate * 60.0);
            window.tpot = testing::around(0.06, 600.0);
        }
        signals.running_requests.decode = Reading::of(rate * 0.06);
    };
    world.run_seeing(10 * MINUTE, slow);
    let raised = world.current.decode;
    assert!(raised > before, "{:?}", world.history);
    let failed = world.memory.capacity.decode_ceiling;
    assert!(failed.work_per_replica(world.now).is_some());
    // The same work in time, on as many replicas as failed at it.
    let failed_on = f64::from(before);
    let most = failed.work_per_replica(world.now).unwrap() / 0.95 * 1.01;
    world.load.rate_rps = most * failed_on / world.load.output_tokens;
    world.policy.bounds.decode.max_replicas = before;
    world.run(30 * MINUTE);
    let lifted = world.memory.capacity.decode_ceiling;
    assert_eq!(lifted.work_per_replica(world.now), None);
}
