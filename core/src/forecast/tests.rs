//! A forecaster on loads whose future is known. Real loads are in `tests/forecast.rs`.

use std::f64::consts::TAU;

use proptest::prelude::*;
use rstest::rstest;

use super::*;

const LEAD: Duration = Duration::from_mins(3);

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000 + seconds * 1_000)
}

/// A forecaster that saw `load` every 15 s for `minutes`, and the time of the next observation.
fn after(minutes: i64, load: impl Fn(i64) -> f64) -> (Forecaster, i64) {
    let mut forecaster = Forecaster::default();
    let end = minutes * 60;
    for seconds in (0..end).step_by(15) {
        forecaster.observe(load(seconds), at(seconds));
    }
    (forecaster, end)
}

fn p95(forecaster: &Forecaster, seconds: i64) -> Forecast {
    forecaster.forecast(LEAD, 0.95, at(seconds)).unwrap()
}

/// Even noise in -1..1 that is the same on every machine.
fn noise(seed: i64) -> f64 {
    let mut x = seed.unsigned_abs().wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (x >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
}

#[test]
fn nothing_is_forecast_before_anything_was_seen() {
    let empty = Forecaster::default();
    assert_eq!(empty.forecast(LEAD, 0.95, at(0)), None);
}

#[test]
fn a_constant_load_needs_no_headroom_once_it_is_known() {
    let (forecaster, now) = after(60, |_| 1_234.5);
    let forecast = p95(&forecaster, now);
    assert!(
        (forecast.value / 1_234.5 - 1.0).abs() < 1e-3,
        "{forecast:?}"
    );
}

#[rstest]
#[case::a_single_observation(1, 1.2, 1.6)]
#[case::ten_minutes(10, 1.1, 1.6)]
#[case::half_an_hour(30, 1.0, 1.1)]
fn headroom_shrinks_as_errors_become_known(
    #[case] minutes: i64,
    #[case] least: f64,
    #[case] most: f64,
) {
    let (forecaster, now) = after(minutes, |_| 8.0);
    let share = p95(&forecaster, now).value / 8.0;
    assert!(share >= least && share < most, "{share}");
}

#[test]
fn zero_load_is_forecast_as_zero() {
    let (forecaster, now) = after(60, |_| 0.0);
    assert!(p95(&forecaster, now).value.abs() < f64::EPSILON);
}

#[test]
fn noise_comes_back_by_itself_and_growth_goes_on() {
    let level = |seconds: i64| 100.0 + 10.0 * noise(seconds / 15);
    let growth = |seconds: i64| 10.0 + seconds as f64 / 60.0;
    let comes_back = |load: &dyn Fn(i64) -> f64| after(120, load).0.comes_back(LEAD);
    assert!(comes_back(&level) > 0.7, "{}", comes_back(&level));
    assert!(comes_back(&growth) < 0.01, "{}", comes_back(&growth));
    let unknown = Forecaster::default().comes_back(LEAD);
    assert!(unknown < 0.01, "{unknown}");
}

#[test]
fn a_history_of_another_unit_is_forgotten_once_its_unit_is_known() {
    let (mut forecaster, now) = after(30, |_| 10.0);
    assert_eq!((forecaster.latest(), forecaster.unit()), (Some(10.0), 1.0));
    forecaster.measure_in(0.1);
    assert_eq!((forecaster.latest(), forecaster.unit()), (None, 0.1));
    forecaster.observe(100.0, at(now));
    forecaster.measure_in(0.2);
    assert_eq!((forecaster.latest(), forecaster.unit()), (Some(100.0), 0.2));
}

#[test]
fn a_step_is_followed_within_three_minutes_and_one_alone_is_no_frequency() {
    let step = |seconds: i64| if seconds < 3_600 { 10.0 } else { 20.0 };
    let (forecaster, now) = after(63, step);
    let forecast = p95(&forecaster, now);
    assert!(
        forecast.mean > 17.0 && forecast.value < 60.0,
        "{forecast:?}"
    );
    let value = |minutes: i64| {
        let (forecaster, now) = after(minutes, step);
        forecaster.forecast(LEAD, 0.995, at(now)).unwrap().value
    };
    assert!(value(70) > 24.0, "such a step may go on: {}", value(70));
    // Held against for hours it would keep replicas that serve nobody.
    assert!(value(90) < 24.0, "{}", value(90));
}

#[test]
fn a_ramp_is_covered_by_what_was_missed_on_it() {
    let ramp = |seconds: i64| 10.0 + seconds as f64 / 600.0;
    let (forecaster, now) = after(120, ramp);
    let coming = ramp(now + 180);
    let value = p95(&forecaster, now).value;
    assert!((0.99..1.05).contains(&(value / coming)), "{value} {coming}");
}

/// Share of covered forecasts and mean over-provision in the second to the eighth hour.
fn coverage(work: impl Fn(i64) -> f64, lead: Duration, quantile: f64) -> (f64, f64) {
    let mut forecaster = Forecaster::default();
    let (mut forecasts, mut covered, mut over) = (0.0, 0.0, 0.0);
    for seconds in (0..8 * 3_600).step_by(15) {
        forecaster.observe(work(seconds), at(seconds));
        if seconds >= 3_600 && seconds % 75 == 0 {
            let coming = work(seconds + i64::try_from(lead.as_secs()).unwrap());
            let forecast = forecaster.forecast(lead, quantile, at(seconds)).unwrap();
            forecasts += 1.0;
            covered += f64::from(u8::from(coming <= forecast.value));
            over += forecast.value / coming;
        }
    }
    (covered / forecasts, over / forecasts)
}

#[rstest]
fn noise_is_missed_at_most_1_6_times_as_often_as_the_quantile_allows(
    #[values(0.9, 0.95, 0.99)] quantile: f64,
    #[values(1, 3, 10)] lead_minutes: u64,
    #[values(0.0, 0.5)] daily: f64,
) {
    // Four quarters share noise, as observations share most of their window.
    let load = |seconds: i64| {
        let shared: f64 = (0..4).map(|back| noise(seconds / 15 - back)).sum();
        let day = 1.0 + daily * (seconds as f64 / 86_400.0 * TAU).sin();
        100.0 * day * (1.0 + 0.1 * shared)
    };
    let (share, over) = coverage(load, Duration::from_mins(lead_minutes), quantile);
    let missed = 1.0 - share;
    assert!(missed < 1.6 * (1.0 - quantile), "covered {share}");
    assert!(over < 1.45, "over-provision {over}");
}

#[test]
fn a_longer_lead_and_a_higher_quantile_give_more_headroom_on_a_wandering_load() {
    let work = |seconds: i64| {
        let walk: f64 = (0..=seconds / 60).map(noise).sum();
        (100.0 + 3.0 * walk).max(1.0)
    };
    let (forecaster, now) = after(240, work);
    let headroom = |minutes, quantile| {
        let lead = Duration::from_mins(minutes);
        let forecast = forecaster.forecast(lead, quantile, at(now)).unwrap();
        forecast.value - forecast.mean
    };
    assert!(headroom(15, 0.95) > headroom(1, 0.95));
    assert!(headroom(3, 0.99) > headroom(3, 0.9) && headroom(3, 0.9) > headroom(3, 0.5));
}

#[test]
fn a_pause_restarts_the_level_and_keeps_what_is_known_of_errors() {
    let load = |seconds: i64| 100.0 * (1.0 + 0.2 * noise(seconds / 60));
    let (mut forecaster, now) = after(240, load);
    let before = p95(&forecaster, now);
    let later = now + 7 * 3_600;
    forecaster.observe(25.0, at(later));
    let forecast = p95(&forecaster, later);
    assert!((forecast.mean - 25.0).abs() < 0.1, "{forecast:?}");
    assert!(forecast.samples + 10 > before.samples && forecast.value > 30.0);
}

#[test]
fn an_old_observation_counts_as_a_longer_lead() {
    let load = |seconds: i64| 100.0 + 20.0 * noise(seconds / 600);
    let (forecaster, now) = after(240, load);
    let late = p95(&forecaster, now + 420);
    let early = forecaster
        .forecast(Duration::from_mins(10), 0.95, at(now))
        .unwrap();
    assert!((late.value - early.value).abs() < f64::EPSILON);
}

#[test]
fn nonsense_is_not_seen() {
    let (mut forecaster, now) = after(30, |_| 5.0);
    let before = forecaster.clone();
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0] {
        forecaster.observe(value, at(now));
    }
    forecaster.observe(9.0, at(now - 100));
    assert_eq!(forecaster, before);
}

#[test]
fn the_same_observation_twice_changes_nothing() {
    let (mut forecaster, now) = after(30, |_| 5.0);
    forecaster.observe(6.0, at(now));
    let before = forecaster.clone();
    forecaster.observe(6.0, at(now));
    assert_eq!(forecaster, before);
}

#[test]
fn a_clock_that_jumped_back_is_taken_for_a_pause() {
    let (mut forecaster, _) = after(60, |_| 5.0);
    forecaster.observe(7.0, at(-86_400));
    let forecast = p95(&forecaster, -86_400);
    assert!((forecast.latest - 7.0).abs() < 0.01, "{forecast:?}");
}

#[test]
fn the_largest_memory_is_below_1_8_kib() {
    let mut forecaster = Forecaster::default();
    for minute in 0..1_000 {
        forecaster.observe(
            1e18 + noise(minute),
            Timestamp::from_millis(i64::MAX / 2 + minute * 60_000),
        );
    }
    let json = serde_json::to_string(&forecaster).unwrap();
    assert!(json.len() <= 1_843, "{}", json.len());
}

#[test]
fn a_forecast_reads_as_one_clause() {
    let forecast = Forecast {
        value: 3.104,
        mean: 2.6,
        latest: 2.4,
        horizon_seconds: 165.0,
        quantile: 0.95,
        model: Model::EwmaMiddle,
        samples: 200,
    };
    assert_eq!(
        forecast.message(),
        "forecast by EWMA(0.3): 3.10 in 165 s at p95, from 2.40 now"
    );
    let rare = Forecast {
        quantile: 0.999,
        ..forecast
    };
    assert!(rare.message().contains("p99.9"));
}

proptest! {
    #[test]
    fn any_input_gives_a_finite_forecast_within_what_was_seen(
        seen in prop::collection::vec((any::<f64>(), -1_000_i64..100_000), 0..300),
        horizon in any::<u64>(),
        quantile in any::<f64>(),
    ) {
        let mut forecaster = Forecaster::default();
        let (mut now, mut largest) = (0, 0.0_f64);
        for (value, passed) in seen {
            now += passed;
            forecaster.observe(value, Timestamp::from_millis(now));
            if value.is_finite() {
                largest = largest.max(value.min(1e18));
            }
        }
        let now = Timestamp::from_millis(now);
        if let Some(forecast) = forecaster.forecast(Duration::from_millis(horizon), quantile, now) {
            prop_assert!(forecast.value >= 0.0 && forecast.mean >= 0.0);
            prop_assert!(forecast.value <= 3.01 * largest + f64::MIN_POSITIVE, "{:?} {largest}", forecast);
        }
    }

    #[test]
    fn memory_that_went_through_json_forecasts_the_same(
        seen in prop::collection::vec((0.0..1e6_f64, 1_000_i64..400_000), 2..300),
        cut in 0_usize..300,
        quantile in 0.5..0.999_f64,
    ) {
        let (mut kept, mut restarted) = (Forecaster::default(), Forecaster::default());
        let mut now = 0;
        for (index, (value, passed)) in seen.into_iter().enumerate() {
            now += passed;
            if index == cut {
                restarted = serde_json::from_str(&serde_json::to_string(&restarted).unwrap()).unwrap();
            }
            kept.observe(value, Timestamp::from_millis(now));
            restarted.observe(value, Timestamp::from_millis(now));
            let now = Timestamp::from_millis(now);
            prop_assert_eq!(kept.forecast(LEAD, quantile, now), restarted.forecast(LEAD, quantile, now));
        }
    }

    #[test]
    fn memory_that_was_tampered_with_is_survived(
        codes in prop::collection::vec(any::<u32>(), 0..600),
        at in any::<i64>(),
    ) {
        let json = serde_json::json!({"history": {"at": at, "before": 0, "values": codes}});
        let mut forecaster: Forecaster = serde_json::from_value(json).unwrap();
        for now in [0, at, i64::MAX, i64::MIN] {
            forecaster.observe(3.0, Timestamp::from_millis(now));
            let forecast = forecaster.forecast(LEAD, 0.95, Timestamp::from_millis(now)).unwrap();
            prop_assert!(forecast.value >= 0.0 && forecast.value.is_finite());
        }
    }
}

#[test]
fn the_scenarios_rise_about_the_mean_and_are_certain_as_a_whole() {
    let load = |seconds: i64| 100.0 * (1.0 + 0.2 * noise(seconds / 60));
    for minutes in [1, 10, 240] {
        let (forecaster, now) = after(minutes, load);
        let ForecastDistribution {
            forecast,
            scenarios,
        } = forecaster.distribution(LEAD, 0.9, at(now)).unwrap();
        assert_eq!(Some(forecast), forecaster.forecast(LEAD, 0.9, at(now)));
        let chances: f64 = scenarios.iter().map(|(_, chance)| chance).sum();
        assert!((chances - 1.0).abs() < 1e-9);
        assert!(
            scenarios.windows(2).all(|pair| pair[0].0 <= pair[1].0),
            "{scenarios:?}"
        );
        let (least, most) = (scenarios[0].0, scenarios[5].0);
        assert!(
            least < forecast.mean && forecast.mean < most,
            "{forecast:?} {scenarios:?}"
        );
    }
}
