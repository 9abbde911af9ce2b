//! Tests of the drawn shapes.

use rstest::rstest;

use super::*;

fn spec(yaml: &str) -> TrafficSpec {
    serde_saphyr::from_str(yaml).unwrap()
}

fn counts_by_hour(spec: &TrafficSpec) -> Vec<usize> {
    let drawn = spec.drawn().unwrap();
    let hours = usize::try_from(drawn.length().div_ceil(HOUR)).unwrap();
    let mut counts = vec![0; hours];
    for arrival in drawn.arrivals(3, Nanos::MAX) {
        counts[usize::try_from(arrival.at / HOUR).unwrap()] += 1;
    }
    counts
}

#[test]
fn a_day_is_least_in_the_morning_and_most_in_the_afternoon() {
    let day = counts_by_hour(&spec(
        "shape: {kind: diurnal}\nload: {requestsPerSecond: 4, inputTokensMean: 9, outputTokensMean: 9}",
    ));
    assert_eq!(day.len(), 24);
    let place = |want: &usize| day.iter().position(|count| count == want).unwrap();
    let (least, most) = (day.iter().min().unwrap(), day.iter().max().unwrap());
    assert!((3..=6).contains(&place(least)), "{day:?}");
    assert!((15..=18).contains(&place(most)), "{day:?}");
    let all: usize = day.iter().sum();
    assert!((all as f64 / (4.0 * 86_400.0) - 1.0).abs() < 0.02, "{all}");
}

#[test]
fn an_outage_is_silent_and_the_load_comes_back() {
    let hours = counts_by_hour(&spec("shape: {kind: outage}"));
    assert_eq!(hours.len(), 8);
    assert!(hours[3] < 100 && hours[4] == 0, "{hours:?}");
    assert!(hours[2] > 30_000 && hours[6] > 30_000, "{hours:?}");
}

#[test]
fn bursts_come_at_their_distance_and_with_their_factor() {
    let burst =
        spec("shape: {kind: burst, factor: 4, burstSeconds: 600, everySeconds: 3600}\nhours: 3");
    let hours = counts_by_hour(&burst);
    for hour in hours {
        // 50 minutes at 10 a second and ten at 40.
        assert!((hour as f64 / 54_000.0 - 1.0).abs() < 0.03, "{hour}");
    }
}

#[test]
fn a_mix_shifts_while_the_rate_stays() {
    let drawn = spec("shape: {kind: mixShift}\nhours: 3").drawn().unwrap();
    let mean = |from: Nanos, until: Nanos| {
        let part = drawn.arrivals(3, Nanos::MAX);
        let part: Vec<_> = part.filter(|a| (from..until).contains(&a.at)).collect();
        let sum: f64 = part.iter().map(|a| f64::from(a.input_tokens)).sum();
        (sum / part.len() as f64, part.len() as f64)
    };
    let (before, after) = (mean(0, HOUR), mean(2 * HOUR, 3 * HOUR));
    assert!(
        (after.0 / before.0 / 3.0 - 1.0).abs() < 0.05,
        "{before:?} {after:?}"
    );
    assert!(
        (after.1 / before.1 - 1.0).abs() < 0.05,
        "{before:?} {after:?}"
    );
}

#[test]
fn gaps_vary_as_told() {
    for cv in [0.5, 1.0, 3.0] {
        let even = TrafficSpec {
            gap_cv: cv,
            hours: Some(2.0),
            ..TrafficSpec::default()
        };
        let arrivals: Vec<_> = even.drawn().unwrap().arrivals(5, Nanos::MAX).collect();
        let gaps: Vec<f64> = arrivals
            .windows(2)
            .map(|pair| crate::time::seconds(pair[1].at - pair[0].at))
            .collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let squared: f64 = gaps.iter().map(|gap| (gap - mean).powi(2)).sum();
        let seen = (squared / gaps.len() as f64).sqrt() / mean;
        assert!((mean / 0.1 - 1.0).abs() < 0.05, "{mean}");
        assert!((seen / cv - 1.0).abs() < 0.05, "{seen} for {cv}");
    }
}

#[rstest]
#[case::swing(
    "shape: {kind: diurnal, swing: 2}",
    "traffic field `shape.swing` is `2`: give 0 to 1"
)]
#[case::gaps("gapCv: 0", "traffic field `gapCv` is `0`: give 0.05 to 20")]
#[case::load(
    "load: {requestsPerSecond: -1, inputTokensMean: 1, outputTokensMean: 1}",
    "traffic load field `requestsPerSecond` is `-1`"
)]
#[case::burst("shape: {kind: burst, burstSeconds: 9999}", "half of `everySeconds`")]
#[case::file(
    "shape: {kind: rates, file: no-such-file.csv}",
    "rate table `no-such-file.csv` cannot be read"
)]
fn what_cannot_be_drawn_is_refused(#[case] yaml: &str, #[case] want: &str) {
    let message = spec(yaml).drawn().unwrap_err().to_string();
    assert!(message.contains(want), "{message}");
}

#[rstest]
#[case::of_another_shape("shape: {kind: diurnal, factor: 2}", "factor")]
#[case::no_shape("shape: {kind: wave}", "wave")]
fn fields_that_would_do_nothing_are_refused(#[case] yaml: &str, #[case] want: &str) {
    let message = serde_saphyr::from_str::<TrafficSpec>(yaml)
        .unwrap_err()
        .to_string();
    assert!(message.contains(want), "{message}");
}
