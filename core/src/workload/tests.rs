//! Estimates from signals against numbers worked out by hand and by brute force.

use rstest::rstest;

use super::*;
use crate::{
    signal::Distributions,
    snapshot::Snapshot,
    testing::{self, Load, around},
};

fn snapshot() -> Snapshot {
    let load = Load {
        rate_rps: 10.0,
        prefill_seconds: 0.1,
        output_tokens: 200.0,
    };
    testing::snapshot(2, 4, load)
}

fn estimated(change: impl Fn(&mut Signals)) -> Workload {
    let mut snapshot = snapshot();
    change(&mut snapshot.signals);
    Workload::estimate(&snapshot.signals, &snapshot.policy.objective)
}

/// Every value once: E\[x^k\] is the plain mean.
fn moments(values: &[f64]) -> Moments {
    let mean = |power: i32| {
        values.iter().map(|value| value.powi(power)).sum::<f64>() / values.len() as f64
    };
    Moments {
        first: mean(1),
        second: mean(2),
        third: mean(3),
    }
}

#[test]
fn residence_agrees_with_walking_through_every_step() {
    let (prompts, outputs) = ([100.0, 4_000.0], [50.0, 400.0, 3_000.0]);
    let (mut steps, mut kv, mut kv_squared) = (0.0, 0.0, 0.0);
    for prompt in prompts {
        for output in outputs {
            let mut generated = 0.5;
            while generated < output {
                let context: f64 = prompt + generated;
                steps += 1.0;
                kv += context;
                kv_squared += context * context;
                generated += 1.0;
            }
        }
    }
    let requests = 6.0;
    let found = Residence::of(moments(&prompts), moments(&outputs));
    assert!((found.steps - steps / requests).abs() < 1e-6);
    assert!((found.kv_token_steps / (kv / requests) - 1.0).abs() < 1e-6);
    assert!((found.kv_token_squared_steps / (kv_squared / requests) - 1.0).abs() < 1e-6);
    let (mean, variance) = found.kv_tokens(2.0, 0.025);
    assert!((mean / (0.05 * kv / requests) - 1.0).abs() < 1e-6);
    assert!((variance / (0.05 * kv_squared / requests) - 1.0).abs() < 1e-6);
}

#[test]
fn long_answers_weigh_more_in_the_context_than_their_number() {
    let found = Residence::of(moments(&[1_000.0]), moments(&[10.0, 1_990.0]));
    let context = found.context_tokens_mean().unwrap();
    // The mean request would say 1,000 + 1,000 / 2; nearly all steps are of the long one.
    assert!((context - 1_990.05).abs() < 0.01, "{context}");
}

#[rstest]
#[case::poisson(Reading::of(1.0), 1.0)]
#[case::smoother_than_poisson(Reading::of(0.2), 1.0)]
#[case::bursty(Reading::of(4.0), 1.9)]
#[case::absurd(Reading::of(5_000.0), 10.0)]
#[case::not_known(Reading::Unknown(Gap::TooFewSamples), 1.0)]
fn burstiness_counts_within_reason(#[case] dispersion: Reading, #[case] expected: f64) {
    let workload = estimated(|signals| signals.arrival_dispersion = dispersion);
    assert!((workload.arrival_scv - expected).abs() < 1e-12);
}

#[rstest]
#[case::all(10.0, 10.0, Some(1.0))]
#[case::short_prompts_go_straight_to_decode(4.0, 10.0, Some(0.4))]
#[case::prefill_is_ahead(12.0, 10.0, Some(1.0))]
#[case::hardly_any_request(0.1, 0.1, None)]
fn the_share_of_requests_that_use_prefill_is_seen(
    #[case] prefill: f64,
    #[case] decode: f64,
    #[case] expected: Option<f64>,
) {
    let workload = estimated(|signals| {
        signals.prefill_completion_rate_rps = Reading::of(prefill);
        signals.decode_completion_rate_rps = Reading::of(decode);
    });
    assert_eq!(workload.prefill_share, expected);
}

#[test]
fn a_service_with_few_requests_is_read_over_ten_minutes() {
    let workload = estimated(|signals| {
        signals.recent = Distributions::default();
        signals.recent.prefill_ttft = around(5.0, 3.0);
    });
    let ttft = workload.ttft.unwrap();
    assert!(ttft.value < 0.2, "{ttft:?}");
    assert_eq!(workload.output_tokens_mean, Some(200.0));
    assert!(workload.residence.is_some());
    assert_eq!(
        workload.itl_seconds_mean, None,
        "not of the same steps as the rate"
    );
    let remarks = workload.remarks();
    assert!(
        remarks[0].ends_with("ms, over ten minutes, from 600 requests"),
        "{remarks:?}"
    );
}

#[test]
fn what_users_see_wins_over_what_engines_see() {
    let workload = estimated(|signals| signals.ttft_seconds_override = Reading::of(4.0));
    assert_eq!(workload.observed.ttft_seconds, Some(4.0));
    assert!(workload.ttft_engines.unwrap().value < 0.2);
}

#[test]
fn nothing_known_estimates_nothing() {
    let workload = estimated(|signals| *signals = Signals::default());
    let nothing = Workload {
        arrival_scv: 1.0,
        prompts_in_step: 1.0,
        ..Workload::default()
    };
    assert_eq!(workload, nothing);
}

/// Steps of 50 ms that give `tokens` tokens each, as an engine with one distribution for both the
/// time between tokens and that per output token publishes them: 10 requests/s of 201 tokens.
fn one_distribution(signals: &mut Signals, tokens: f64) {
    let count = 2_000.0 * signals.rate_window.as_secs_f64() / tokens;
    signals.decode_completion_rate_rps = Reading::of(10.0);
    signals.output_token_rate_tps = Reading::of(2_010.0);
    let times = around(0.05, count);
    for window in [&mut signals.recent, &mut signals.wide] {
        window.inter_token_latency = times.clone();
        window.tpot = times.clone();
    }
    signals.tpot_attainment = times;
}

#[rstest]
#[case::one_token_a_step(1.0)]
#[case::two_drafted(2.0)]
#[case::chunks_of_eight(8.0)]
fn the_time_of_a_step_is_not_that_of_its_tokens(#[case] tokens: f64) {
    let workload = estimated(|signals| one_distribution(signals, tokens));
    let tpot = workload.tpot.unwrap().value;
    let one = estimated(|signals| one_distribution(signals, 1.0));
    let one = one.tpot.unwrap().value;
    assert!((tpot * tokens / one - 1.0).abs() < 1e-9, "{tpot}");
    let itl = workload.itl_seconds_mean.unwrap();
    assert!((itl - 0.05 / tokens).abs() < 1e-9, "{itl}");
}

#[test]
fn attainment_holds_tokens_against_the_limit_and_not_their_step() {
    let within = |tokens| {
        let mut snapshot = snapshot();
        snapshot.policy.objective.tpot.limit = std::time::Duration::from_millis(30);
        one_distribution(&mut snapshot.signals, tokens);
        let workload = Workload::estimate(&snapshot.signals, &snapshot.policy.objective);
        workload.attained.decode.unwrap().value
    };
    assert!(within(1.0) < 0.01, "a token takes 50 ms");
    assert!(within(2.0) > 0.99, "a token takes 25 ms");
}

#[test]
fn a_time_per_output_token_of_requests_in_place_of_that_between_tokens_is_not_divided() {
    let workload = estimated(|signals| {
        one_distribution(signals, 1.0);
        let requests = around(0.05, 10.0 * signals.rate_window.as_secs_f64());
        signals.recent.inter_token_latency = requests.clone();
        signals.recent.tpot = requests;
    });
    let itl = workload.itl_seconds_mean.unwrap();
    assert!((itl - 0.05).abs() < 1e-9, "{itl}");
}

#[rstest]
#[case::it_holds_requests_back(Some(14.0), 14.0)]
#[case::some_clients_go_past_it(Some(6.0), 10.0)]
#[case::one_of_its_pods_is_not_scraped(Some(0.0), 10.0)]
#[case::it_is_silent(None, 10.0)]
fn arrivals_are_the_most_that_gateway_and_engines_count(
    #[case] gateway: Option<f64>,
    #[case] expected: f64,
) {
    let workload = estimated(|signals| {
        signals.prefill_queue_growth_rps = Reading::KnownZero;
        signals.prefill_queue_drain_rps = Reading::KnownZero;
        signals.gateway_arrival_rate_rps = gateway.map_or(Reading::default(), Reading::of);
    });
    assert_eq!(workload.arrival_rate_rps, Some(expected));
}

#[test]
fn the_users_own_arrivals_win_over_the_gateways() {
    let workload = estimated(|signals| {
        signals.gateway_arrival_rate_rps = Reading::of(14.0);
        signals.arrival_rate_rps_override = Reading::of(12.0);
    });
    assert_eq!(workload.arrival_rate_rps, Some(12.0));
}

#[test]
fn requests_that_were_refused_have_arrived() {
    let served = estimated(|_| ()).arrival_rate_rps.unwrap();
    let workload = estimated(|signals| signals.prefill_unserved_rate_rps = Reading::of(4.0));
    assert_eq!(workload.arrival_rate_rps, Some(served + 4.0));
}

#[test]
fn ttft_and_attainment_are_the_gateways_where_it_has_them() {
    let workload = estimated(|signals| {
        signals.recent.gateway_ttft = around(0.78, 600.0);
        signals.gateway_ttft_attainment = around(0.78, 600.0);
    });
    let ttft = workload.ttft.unwrap();
    assert_eq!(ttft.source, estimate::Source::Gateway);
    assert!(ttft.value > 0.7, "{ttft:?}");
    assert!(workload.ttft_engines.unwrap().value < 0.2);
    assert!(workload.observed.ttft_attainment.unwrap() < 0.01);
    let spent = workload.attained.prefill.unwrap().value;
    assert!(
        spent > 0.99,
        "what is lost before the workers spends no budget: {spent}"
    );
}

#[test]
fn a_gateway_with_too_few_requests_for_a_percentile_leaves_ttft_to_the_engines() {
    let workload = estimated(|signals| signals.recent.gateway_ttft = around(5.0, 3.0));
    assert_eq!(workload.ttft, workload.ttft_engines);
}
