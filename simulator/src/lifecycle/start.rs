//! How long a replica takes from being asked for to serving, part by part.
//!
//! Each part is a log-normal time with a mean and a coefficient of variation, or a constant. The
//! parts are scaled so that their means add up to the role's lead time: a longer `--lead` makes
//! each of them longer. Every part draws from a stream of its own, so that another spread of one
//! leaves the draws of the others where they were.

use pd_core::{PerRole, Role};
use rand::{RngExt as _, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::time::{Nanos, from_seconds, seconds};

/// First random stream of the life cycle; those below are the traffic's.
const STREAM_FIRST: u64 = 16;

/// A time that varies.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spread {
    /// Mean, seconds; 0 or more.
    pub mean_seconds: f64,
    /// Standard deviation over mean; 0 is a constant.
    pub cv: f64,
}

impl Spread {
    fn draw(self, rng: &mut ChaCha8Rng) -> f64 {
        if self.cv <= 0.0 {
            return self.mean_seconds;
        }
        let variance = (1.0 + self.cv * self.cv).ln();
        let normal: f64 = StandardNormal.sample(rng);
        self.mean_seconds * (variance.sqrt() * normal - variance * 0.5).exp()
    }
}

/// The parts of a start.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Parts {
    /// From being asked for to being bound to a node that has room.
    pub schedule: Spread,
    /// Pulling the image.
    pub image_pull: Spread,
    /// Loading the weights.
    pub weight_load: Spread,
    /// Compiling, capturing graphs, and the first prompts.
    pub warm_up: Spread,
}

impl Parts {
    /// Mean of the whole, seconds.
    pub fn mean_seconds(&self) -> f64 {
        self.schedule.mean_seconds
            + self.image_pull.mean_seconds
            + self.weight_load.mean_seconds
            + self.warm_up.mean_seconds
    }
}

/// One start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Start {
    /// From being bound to the image being there.
    pub(super) pulled: Nanos,
    /// From the container's start to the weights being there.
    pub(super) loaded: Nanos,
    /// From then to serving.
    pub(super) warmed: Nanos,
}

/// Everything that is drawn about lives of replicas, by purpose.
#[derive(Clone, Debug)]
pub(super) struct Draws {
    schedule: ChaCha8Rng,
    image_pull: ChaCha8Rng,
    weight_load: ChaCha8Rng,
    warm_up: ChaCha8Rng,
    failures: ChaCha8Rng,
    victims: ChaCha8Rng,
}

impl Draws {
    pub(super) fn new(seed: u64) -> Self {
        let stream = |purpose| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(STREAM_FIRST + purpose);
            rng
        };
        Self {
            schedule: stream(0),
            image_pull: stream(1),
            weight_load: stream(2),
            warm_up: stream(3),
            failures: stream(4),
            victims: stream(5),
        }
    }

    /// One start of a role whose mean is `lead`. Without parts it is the lead, to the nanosecond.
    pub(super) fn start(&mut self, parts: Option<&Parts>, lead: Nanos) -> Start {
        let Some(parts) = parts else {
            return Start {
                loaded: lead,
                ..Start::default()
            };
        };
        let mean = parts.mean_seconds();
        let scale = if mean > 0.0 {
            seconds(lead) / mean
        } else {
            0.0
        };
        let time = |part: f64| from_seconds(part * scale);
        let schedule = time(parts.schedule.draw(&mut self.schedule));
        Start {
            pulled: schedule + time(parts.image_pull.draw(&mut self.image_pull)),
            loaded: time(parts.weight_load.draw(&mut self.weight_load)),
            warmed: time(parts.warm_up.draw(&mut self.warm_up)),
        }
    }

    /// Whether something of this probability happens to a start.
    pub(super) fn fails(&mut self, share: f64) -> bool {
        share > 0.0 && self.failures.random::<f64>() < share
    }

    /// So many of `count`, each at most once, in order.
    pub(super) fn pick(&mut self, count: usize, among: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..among).collect();
        let taken = count.min(among);
        for place in 0..taken {
            let other = self.victims.random_range(place..among);
            all.swap(place, other);
        }
        all.truncate(taken);
        all.sort_unstable();
        all
    }
}

/// The parts of both roles' starts; a role without has its lead as one constant.
pub type PartsByRole = PerRole<Option<Parts>>;

/// So many of `among` as `share` is, and at least one.
pub(super) fn struck(share: f64, among: usize) -> usize {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float-to-integer cast saturates, and shares are at most 1"
    )]
    let count = (share * among as f64).round() as usize;
    count.max(1).min(among)
}

/// The parts of `role`, if it has any.
pub(super) fn parts_of(parts: &PartsByRole, role: Role) -> Option<&Parts> {
    parts[role].as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::SECOND;

    fn parts() -> Parts {
        let spread = |mean_seconds, cv| Spread { mean_seconds, cv };
        Parts {
            schedule: spread(2.0, 0.0),
            image_pull: spread(20.0, 1.0),
            weight_load: spread(60.0, 0.3),
            warm_up: spread(18.0, 0.1),
        }
    }

    fn whole(start: Start) -> Nanos {
        start.pulled + start.loaded + start.warmed
    }

    #[test]
    fn parts_add_up_to_the_lead_on_average() {
        let mut draws = Draws::new(3);
        let count = 4_000;
        let sum: f64 = (0..count)
            .map(|_| seconds(whole(draws.start(Some(&parts()), 300 * SECOND))))
            .sum();
        let mean = sum / f64::from(count);
        assert!((mean / 300.0 - 1.0).abs() < 0.02, "{mean}");
    }

    #[test]
    fn without_parts_a_start_takes_the_lead_to_the_nanosecond() {
        let mut draws = Draws::new(3);
        assert_eq!(whole(draws.start(None, 123_456_789_012)), 123_456_789_012);
    }

    #[test]
    fn a_spread_of_one_part_leaves_the_draws_of_the_others() {
        let constant_pull = Parts {
            image_pull: Spread {
                mean_seconds: 20.0,
                cv: 0.0,
            },
            ..parts()
        };
        let (mut one, mut other) = (Draws::new(9), Draws::new(9));
        for _ in 0..20 {
            let (one, other) = (
                one.start(Some(&parts()), 100 * SECOND),
                other.start(Some(&constant_pull), 100 * SECOND),
            );
            assert_eq!((one.loaded, one.warmed), (other.loaded, other.warmed));
        }
    }

    #[test]
    fn picks_are_different_places() {
        let mut draws = Draws::new(1);
        for count in 0..8 {
            let picked = draws.pick(count, 5);
            assert_eq!(picked.len(), count.min(5));
            assert!(picked.windows(2).all(|pair| pair[0] < pair[1]));
        }
    }
}
