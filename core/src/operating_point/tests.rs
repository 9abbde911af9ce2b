//! Operating points: when they change, when they do not, and how the joint solve uses them.

use proptest::prelude::*;

use super::*;
use crate::{
    policy::Policy,
    role::PerRole,
    solve::{Attained, Problem},
    testing,
};

fn point(name: &str, units: (u32, u32), traffic: (f64, f64)) -> OperatingPoint {
    OperatingPoint {
        name: name.to_owned(),
        prefill: units.0,
        decode: units.1,
        input_tokens: traffic.0,
        output_tokens: traffic.1,
        request_rate_rps: None,
    }
}

/// Prompts of 8000 and answers of 100 tokens, the reverse, and between.
fn points() -> [OperatingPoint; 3] {
    [
        point("documents", (5, 1), DOCUMENTS),
        point("chat", (1, 1), (1_200.0, 450.0)),
        point("stories", (1, 5), STORIES),
    ]
}

const DOCUMENTS: (f64, f64) = (8_000.0, 100.0);
const STORIES: (f64, f64) = (200.0, 2_000.0);

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1_000)
}

#[test]
fn the_nearest_point_is_chosen_at_first_and_told() {
    let (points, mut state) = (points(), PointState::default());
    let chosen = choose(&points, (6_000.0, 120.0), &mut state, at(0)).unwrap();
    assert_eq!(chosen.name, "documents");
    let step = chosen.step((6_000.0, 120.0), &state);
    assert_eq!(
        step.message,
        "`documents` gives 5:1, found for prompts of 8000 and answers of 100 tokens; seen: 6000 and 120"
    );
}

#[test]
fn another_point_counts_only_after_it_was_clearly_nearer_for_a_while() {
    let (points, mut state) = (points(), PointState::default());
    let mut named = |traffic, seconds| {
        let point = choose(&points, traffic, &mut state, at(seconds)).unwrap();
        (point.name.as_str(), state.leaving())
    };
    assert_eq!(named(DOCUMENTS, 0), ("documents", false));
    assert_eq!(named(STORIES, 15), ("documents", true));
    // One visit back starts the time again.
    assert_eq!(named(DOCUMENTS, 200), ("documents", false));
    assert_eq!(named(STORIES, 215), ("documents", true));
    // Unknown traffic is no visit.
    assert_eq!(named((f64::NAN, 10.0), 300), ("documents", true));
    assert_eq!(named(STORIES, 514), ("documents", true));
    assert_eq!(named(STORIES, 515), ("stories", false));
}

#[test]
fn traffic_between_two_points_stays_where_it_is() {
    let (points, mut state) = (points(), PointState::default());
    choose(&points, DOCUMENTS, &mut state, at(0));
    // As far from `chat` as from `documents`, and a little nearer to `chat`.
    let between = (
        (8_000.0f64 * 1_200.0).sqrt() * 0.98,
        (100.0f64 * 450.0).sqrt(),
    );
    for tick in 0..200 {
        let chosen = choose(&points, between, &mut state, at(tick * 15)).unwrap();
        assert_eq!(chosen.name, "documents");
    }
}

#[test]
fn a_point_that_is_gone_is_replaced_at_once() {
    let (points, mut state) = (points(), PointState::default());
    choose(&points, DOCUMENTS, &mut state, at(0));
    let rest = &points[1..];
    assert_eq!(
        choose(rest, DOCUMENTS, &mut state, at(15)).unwrap().name,
        "chat"
    );
    assert_eq!(choose(&[], DOCUMENTS, &mut state, at(30)), None);
    assert_eq!(state, PointState::default());
}

#[test]
fn points_that_cannot_be_used_are_passed_over() {
    let points = [
        point("none", (0, 1), DOCUMENTS),
        point("nan", (1, 1), (f64::NAN, 1.0)),
        point("negative", (1, 1), (-1.0, 1.0)),
        point(&"long".repeat(20), (1, 1), DOCUMENTS),
    ];
    let mut state = PointState::default();
    assert_eq!(choose(&points, DOCUMENTS, &mut state, at(0)), None);
}

/// Replicas for a need of `prefill`:`decode` under the point in force.
fn solved(
    policy: &Policy,
    need: (u32, u32),
    current: PerRole<u32>,
    point: &OperatingPoint,
    state: &PointState,
) -> PerRole<u32> {
    let need = PerRole {
        prefill: need.0,
        decode: need.1,
    };
    Problem {
        bounds: policy.bounds,
        budget_gpus: policy.budget_gpus,
        ratio: point.ratio_policy(state, 10, Enforcement::Soft),
        need,
        current,
        floor: PerRole::from_fn(|_| 1),
        gpus_per_replica: PerRole::from_fn(|_| 4),
        attained: PerRole::from_fn(|_| Attained::UNKNOWN),
    }
    .solve()
    .replicas
}

#[test]
fn f20_a_flip_of_the_traffic_moves_the_ratio_once_for_about_the_same_gpus() {
    let (points, mut state, policy) = (points(), PointState::default(), testing::policy());
    let mut current = PerRole {
        prefill: 15,
        decode: 3,
    };
    let mut path = vec![current];
    for tick in 0..120i64 {
        let now = at(tick * 15);
        // Ten minutes of documents, then stories.
        let (traffic, need) = if tick < 40 {
            (DOCUMENTS, (14, 3))
        } else {
            (STORIES, (3, 14))
        };
        let point = choose(&points, traffic, &mut state, now).unwrap();
        current = solved(&policy, need, current, point, &state);
        path.push(current);
    }
    path.dedup();
    let pairs: Vec<_> = path.iter().map(|p| (p.prefill, p.decode)).collect();
    // By the need while the point is being left, then into the band of the new one.
    assert_eq!(pairs, [(15, 3), (14, 3), (3, 14)]);
    assert!(pairs.iter().all(|(p, d)| (17..=18).contains(&(p + d))));
}

#[test]
fn replicas_land_on_multiples_of_the_point_near_the_need() {
    let policy = testing::policy();
    let state = PointState::default();
    let point = point("five by three", (5, 3), DOCUMENTS);
    let current = PerRole {
        prefill: 5,
        decode: 3,
    };
    let ratio = point.ratio_policy(&state, 0, Enforcement::Soft);
    let solution = Problem {
        bounds: policy.bounds,
        budget_gpus: policy.budget_gpus,
        ratio,
        need: PerRole {
            prefill: 8,
            decode: 4,
        },
        current,
        floor: PerRole::from_fn(|_| 1),
        gpus_per_replica: PerRole::from_fn(|_| 4),
        attained: PerRole::default(),
    }
    .solve();
    assert_eq!(
        (solution.replicas.prefill, solution.replicas.decode),
        (10, 6)
    );
}

proptest! {
    #[test]
    fn the_order_of_the_points_does_not_matter(
        (points, shuffled) in prop::collection::vec(("[a-d]", 0u32..4, 1u32..4, -1.0f64..9_000.0, 1.0f64..9_000.0), 0..6)
            .prop_map(|points| points.into_iter().map(|(name, p, d, i, o)| point(&name, (p, d), (i, o))).collect::<Vec<_>>())
            .prop_flat_map(|points| (Just(points.clone()), Just(points).prop_shuffle())),
        traffic in prop::collection::vec((1.0f64..9_000.0, 1.0f64..9_000.0, 0i64..200), 1..20),
    ) {
        let (mut one, mut other) = (PointState::default(), PointState::default());
        let mut seconds = 0;
        for (input, output, step) in traffic {
            seconds += step;
            let a = choose(&points, (input, output), &mut one, at(seconds));
            // The other one goes through JSON on the way.
            let json = serde_json::to_string(&other).unwrap();
            prop_assert!(json.len() <= 200);
            other = serde_json::from_str(&json).unwrap();
            let b = choose(&shuffled, (input, output), &mut other, at(seconds));
            prop_assert_eq!(a, b);
            prop_assert_eq!(&one, &other);
        }
    }

    #[test]
    fn no_traffic_and_no_clock_panics(
        input in any::<f64>(), output in any::<f64>(), millis in any::<[i64; 3]>(), of in any::<(f64, f64)>(),
    ) {
        let points = [point("a", (1, 1), of), point("b", (1_000, 1), (100.0, 1.0))];
        let mut state = PointState::default();
        for millis in millis {
            let now = Timestamp::from_millis(millis);
            if let Some(point) = choose(&points, (input, output), &mut state, now) {
                point.step((input, output), &state);
            }
        }
    }
}
