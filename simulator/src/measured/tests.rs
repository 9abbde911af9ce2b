//! Load that is drawn from measured rates and histograms agrees with them.

use super::*;

fn interval(rate: f64) -> Interval {
    let prompts = vec![(100.0, 0.0), (200.0, 20.0), (500.0, 80.0), (1_000.0, 100.0)];
    let answers = vec![(10.0, 50.0), (100.0, 90.0)];
    Interval {
        workers: PerRole {
            prefill: 2,
            decode: 3,
        },
        requests_per_second: rate,
        prompt_tokens: Histogram::from_cumulative(prompts, 100.0, 40_000.0),
        output_tokens: Histogram::from_cumulative(answers, 100.0, 4_000.0),
        ..Interval::default()
    }
}

fn measured(rates: &[f64]) -> Arc<Measured> {
    Arc::new(Measured {
        from_millis: 0,
        step: Duration::from_mins(5),
        intervals: rates.iter().map(|rate| interval(*rate)).collect(),
    })
}

#[test]
fn counts_and_means_are_the_measured_ones() {
    let measured = measured(&[10.0, 0.0, 30.0]);
    let requests: Vec<Arrival> = measured.rebuild(7).collect();
    let count = |step: u64| {
        let of_step = |arrival: &&Arrival| arrival.at / measured.step_nanos() == step;
        requests.iter().filter(of_step).count() as f64
    };
    assert!(
        (count(0) - 3_000.0).abs() < 4.0 * 3_000_f64.sqrt(),
        "{}",
        count(0)
    );
    assert!(count(1).total_cmp(&0.0).is_eq());
    assert!(
        (count(2) - 9_000.0).abs() < 4.0 * 9_000_f64.sqrt(),
        "{}",
        count(2)
    );
    let mean = |of: fn(&Arrival) -> u32| {
        requests
            .iter()
            .map(|arrival| f64::from(of(arrival)))
            .sum::<f64>()
            / requests.len() as f64
    };
    let (prompt, answer) = (mean(|a| a.input_tokens), mean(|a| a.output_tokens));
    assert!((prompt / 400.0 - 1.0).abs() < 0.02, "{prompt}");
    assert!((answer / 40.0 - 1.0).abs() < 0.04, "{answer}");
    assert!(requests.windows(2).all(|pair| pair[0].at <= pair[1].at));
    assert_eq!(requests, measured.rebuild(7).collect::<Vec<_>>());
    assert_ne!(requests, measured.rebuild(8).collect::<Vec<_>>());
}

#[test]
fn lengths_lie_within_their_buckets() {
    let lengths = Lengths::of(interval(1.0).prompt_tokens.as_ref().unwrap());
    let scale = 400.0 / 390.0;
    assert!((lengths.at(0.2) - 200.0 * scale).abs() < 1e-6);
    assert!((lengths.at(0.5) - 350.0 * scale).abs() < 1e-6);
    assert!((lengths.at(1.0) - 1_000.0 * scale).abs() < 1e-6);
}

#[test]
fn gpu_hours_and_changes_are_those_of_the_workers() {
    let mut past = (*measured(&[1.0; 12])).clone();
    past.intervals[6].workers.decode = 4;
    let hours = past.gpu_hours(PerRole {
        prefill: 4,
        decode: 8,
    });
    assert!((hours.prefill - 8.0).abs() < 1e-9, "{hours:?}");
    assert!(
        (hours.decode - (11.0 * 3.0 + 4.0) * 8.0 / 12.0).abs() < 1e-9,
        "{hours:?}"
    );
    assert_eq!(past.changes(), 2);
    assert_eq!(past.workers_max(Role::Decode), 4);
}

#[test]
fn distributions_are_joined_by_their_counts() {
    let past = measured(&[1.0, 1.0]);
    let whole = past
        .whole(|interval| interval.prompt_tokens.as_ref())
        .unwrap();
    assert!((whole.count() - 200.0).abs() < 1e-9);
    // Inside its bucket, where the buckets beside it pull it.
    assert!((whole.quantile(0.5).unwrap().value - 350.0).abs() < 60.0);
    assert!(past.whole(|interval| interval.tpot.as_ref()).is_none());
}

#[test]
fn nothing_measured_draws_nothing() {
    assert_eq!(measured(&[]).rebuild(1).count(), 0);
    assert_eq!(measured(&[0.0, 0.0]).rebuild(1).count(), 0);
}
