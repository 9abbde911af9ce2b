//! The aggressiveness with which a peer attains the objective at the least cost, found by playing.
//!
//! With hindsight on the very trace: first whole octaves about the default for both roles at once,
//! the default among them. Then prefill's alone, decode held at its most, until the TTFT part of
//! the objective is attained, and decode's beside it, for both limits. Where a rule ties the roles
//! together, and where decode alone does not suffice, one factor for both. Each of these is a
//! bisection on a logarithmic scale. A rule need not be monotone, so of all settings played the
//! cheapest that attains is taken. When none does, the cheapest of those that miss at most a tenth
//! more than the best, and the result says so by its attainment. A play that is beyond both is
//! broken off: it cannot be chosen any more.
//!
//! Of the product what its owner can set is searched: the attainment in whole percent, which is one
//! for both roles. It is judged by the scenario's all the same.

use pd_core::{PerRole, Role};

use super::ledger::Ledger;
use super::{Run, SimulateError};
use crate::autoscaler::peer::Tuning;
use crate::autoscaler::{Peer, Pinned, Variant};

/// Range of the search, powers of two: from an eighth of the default to 512 times it.
const OCTAVES: (f64, f64) = (-3.0, 9.0);

/// Powers of two that are always tried, for both roles at once.
const GRID: [f64; 7] = [0.0, 1.0, 2.0, 3.0, 4.0, -1.0, -2.0];

/// Halvings of the range; the last is 0.1 octaves wide, 7 %.
const BISECTIONS: u32 = 7;

/// Share of what may miss that prefill may use up, so that something is left for decode.
const PREFILL_SHARE: f64 = 0.75;

/// How many times the fewest misses still count as nearest.
const NEAREST: f64 = 1.1;

/// Percentage points below the attainment that is judged by that the product is given at least.
const ATTAINMENT_LESS_MAX: u8 = 12;

/// One play.
#[derive(Clone, Copy, Debug)]
struct Trial<T> {
    setting: T,
    missed: u64,
    gpu_hours: f64,
}

impl<T> Trial<T> {
    /// The play of `setting` that `ledger` is of, in which so many requests were in time.
    fn of(run: &Run, setting: T, in_time: u64, ledger: &Ledger) -> Self {
        Self {
            setting,
            missed: run.requests.saturating_sub(in_time),
            gpu_hours: ledger.gpu_hours(),
        }
    }
}

/// The search for one peer on one run.
struct Search<'a> {
    run: &'a Run,
    peer: Peer,
    /// Requests that may miss.
    may_miss: f64,
    trials: Vec<Trial<PerRole<f64>>>,
}

/// Requests of `run` that may miss.
fn may_miss(run: &Run) -> f64 {
    let percent = f64::from(run.scenario.policy().objective.attainment.percent);
    run.requests as f64 * (100.0 - percent) / 100.0
}

/// The attainment that the product is best given on `run`, percent.
pub(super) fn search_own(run: &Run) -> Result<u8, SimulateError> {
    let goal = run.scenario.policy().objective.attainment.percent;
    let may_miss = may_miss(run);
    let mut trials: Vec<Trial<u8>> = Vec::new();
    for percent in goal.saturating_sub(ATTAINMENT_LESS_MAX).max(1)..=goal {
        let (product, setup) = run.product(percent);
        let ledger = run.ledger(setup, product, misses_max(&trials, may_miss))?;
        trials.push(Trial::of(run, percent, ledger.attained(), &ledger));
    }
    Ok(best(&trials, may_miss).unwrap_or(goal))
}

/// The aggressiveness of `peer` on `run`.
pub(super) fn search(run: &Run, peer: Peer) -> Result<PerRole<f64>, SimulateError> {
    let mut search = Search {
        run,
        peer,
        may_miss: may_miss(run),
        trials: Vec::new(),
    };
    let same = |factor: f64| PerRole::from_fn(|_| factor);
    for octaves in GRID {
        search.attains(same(octaves.exp2()))?;
    }
    match peer.tuning() {
        Tuning::Together => bisect(|factor| search.attains(same(factor)))?,
        Tuning::PerRole => {
            let mut of_prefill = Vec::new();
            bisect(|factor| {
                let trial = search.prefill_trial(factor)?;
                of_prefill.push(trial);
                Ok(trial.missed as f64 <= PREFILL_SHARE * search.may_miss)
            })?;
            let prefill = best_or_default(&of_prefill, PREFILL_SHARE * search.may_miss).prefill;
            let with = |decode| PerRole { prefill, decode };
            let before = search.trials.len();
            bisect(|factor| search.attains(with(factor)))?;
            if !search.has_attained_since(before) {
                bisect(|factor| search.attains(same(factor)))?;
            }
        }
    }
    Ok(best_or_default(&search.trials, search.may_miss))
}

/// The cheapest trial with at most `may_miss` misses, or the cheapest of the nearest.
fn best<T: Copy>(trials: &[Trial<T>], may_miss: f64) -> Option<T> {
    let fewest = trials.iter().map(|trial| trial.missed).min()?;
    let enough = enough(fewest, may_miss);
    let attained = trials.iter().filter(|trial| trial.missed as f64 <= enough);
    let cheapest = attained.min_by(|a, b| a.gpu_hours.total_cmp(&b.gpu_hours));
    cheapest.map(|trial| trial.setting)
}

fn best_or_default(trials: &[Trial<PerRole<f64>>], may_miss: f64) -> PerRole<f64> {
    best(trials, may_miss).unwrap_or(PerRole::from_fn(|_| 1.0))
}

/// More misses than these, and a setting is not the one: another has fewer, or few enough.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float-to-integer cast saturates, and misses are not negative"
)]
fn misses_max<T>(trials: &[Trial<T>], may_miss: f64) -> u64 {
    let fewest = trials.iter().map(|trial| trial.missed).min();
    fewest.map_or(u64::MAX, |fewest| enough(fewest, may_miss).ceil() as u64)
}

/// The misses with which a setting may still be chosen when the best so far has `fewest`.
fn enough(fewest: u64, may_miss: f64) -> f64 {
    may_miss.max(fewest as f64 * NEAREST)
}

/// Tries factors nearer and nearer to the least that suffices, or to the largest when none does.
fn bisect(
    mut suffices: impl FnMut(f64) -> Result<bool, SimulateError>,
) -> Result<(), SimulateError> {
    let (mut low, mut high) = OCTAVES;
    for _ in 0..BISECTIONS {
        let middle = f64::midpoint(low, high);
        if suffices(middle.exp2())? {
            high = middle;
        } else {
            low = middle;
        }
    }
    Ok(())
}

impl Search<'_> {
    /// Plays; with `pinned`, decode is held at its most.
    fn play(
        &self,
        aggressiveness: PerRole<f64>,
        pinned: bool,
        misses_max: u64,
    ) -> Result<Ledger, SimulateError> {
        let (mut autoscaler, mut setup) =
            self.run.peer(self.peer, Variant::Tuned, aggressiveness)?;
        if pinned {
            let most = self.run.scenario.policy().bounds.decode.max_replicas;
            autoscaler = Box::new(Pinned::new(autoscaler, Role::Decode, most));
            setup.replicas_at_start.decode = most;
        }
        self.run.ledger(setup, autoscaler, misses_max)
    }

    fn prefill_trial(&self, prefill: f64) -> Result<Trial<PerRole<f64>>, SimulateError> {
        let aggressiveness = PerRole {
            prefill,
            decode: 1.0,
        };
        let ledger = self.play(aggressiveness, true, u64::MAX)?;
        let in_time = ledger.ttft_attained();
        Ok(Trial::of(self.run, aggressiveness, in_time, &ledger))
    }

    fn attains(&mut self, aggressiveness: PerRole<f64>) -> Result<bool, SimulateError> {
        let misses_max = misses_max(&self.trials, self.may_miss);
        let ledger = self.play(aggressiveness, false, misses_max)?;
        let trial = Trial::of(self.run, aggressiveness, ledger.attained(), &ledger);
        self.trials.push(trial);
        Ok(trial.missed as f64 <= self.may_miss)
    }

    fn has_attained_since(&self, before: usize) -> bool {
        let attained = |trial: &Trial<PerRole<f64>>| trial.missed as f64 <= self.may_miss;
        self.trials.iter().skip(before).any(attained)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bisection_tries_within_a_tenth_of_an_octave_above_the_least() {
        for least in [0.2, 1.0, 7.3, 400.0] {
            let mut nearest = f64::INFINITY;
            let tried = bisect(|factor| {
                let suffices = factor >= least;
                if suffices {
                    nearest = nearest.min(factor);
                }
                Ok(suffices)
            });
            tried.unwrap();
            assert!(nearest <= least * 1.08, "{least} {nearest}");
        }
    }

    #[test]
    fn the_cheapest_that_attains_or_the_cheapest_of_the_nearest() {
        let trial = |factor, missed, gpu_hours| Trial {
            setting: factor,
            missed,
            gpu_hours,
        };
        let trials = [trial(1, 500, 1.0), trial(2, 105, 2.0), trial(4, 100, 9.0)];
        assert_eq!(best(&trials, 600.0), Some(1));
        assert_eq!(best(&trials, 100.0), Some(2));
        assert_eq!(best(&trials[2..], 100.0), Some(4));
        assert_eq!(best(&trials, 10.0), Some(2));
        assert_eq!(best::<u8>(&[], 10.0), None);
    }
}
