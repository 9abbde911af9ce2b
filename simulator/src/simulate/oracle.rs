//! The simulated oracle: the cheapest plan that is known to attain the objective over the run,
//! found by playing.
//!
//! It knows every request beforehand and the engine as it is, shared steps, prefix caches and
//! queues that carry over included. It begins with the closed forms' plans and with the fewest
//! fixed replicas that attain, learns from plays ([`crate::clairvoyant::refine`]), and lowers the
//! best plan stretch by stretch until no stretch is left that it may lower or its plays are used
//! up. It is a plan that is carried out and attains, so the optimum is no dearer; that none is
//! cheaper is not proved, but for small cases by trying all plans.

use super::{Run, SimulateError, static_hindsight};
use crate::clairvoyant::ReplicaPlan;
use crate::clairvoyant::refine::{Refinement, Refused};

/// Plays that the tables learn from.
const LEARNING_PLAYS: usize = 16;

/// Plays in which stretches are lowered.
const CUT_PLAYS: usize = 64;

/// How far what the tables aim at goes down after a play that missed, and up after one that did
/// not.
const AIM: (f64, f64) = (0.94, 1.04);

/// A plan and what it came to.
struct Played {
    plan: ReplicaPlan,
    missed: u64,
    gpu_hours: f64,
}

/// The search on one run.
struct Search<'a> {
    run: &'a Run,
    refinement: Refinement,
    may_miss: u64,
    best: Option<Played>,
}

/// The cheapest plan found that attains the objective of `run`; where none does, the one with the
/// fewest misses.
pub(super) fn search(run: &Run) -> Result<ReplicaPlan, SimulateError> {
    let percent = u64::from(run.scenario.policy().objective.attainment.percent);
    let least = run
        .scenario
        .policy()
        .bounds
        .map(|bounds| bounds.min_replicas);
    let mut search = Search {
        run,
        refinement: Refinement::new(&run.bound, least),
        may_miss: run.requests * (100 - percent) / 100,
        best: None,
    };
    search.play(run.bound.everywhere.clone(), u64::MAX)?;
    search.learn()?;
    match static_hindsight::search(run) {
        Ok(replicas) => {
            let constant = search.refinement.constant(replicas);
            search.play(constant, u64::MAX)?;
        }
        Err(SimulateError::Unattainable { .. }) => {}
        Err(error) => return Err(error),
    }
    search.cut()?;
    Ok(search.best.map(|best| best.plan).unwrap_or_default())
}

impl Search<'_> {
    /// Plays `plan`, learns from it unless it was broken off, and tells whether it attained.
    fn play(&mut self, plan: ReplicaPlan, misses_max: u64) -> Result<bool, SimulateError> {
        let (planned, setup) = self.run.planned(&plan);
        let ledger = self.run.ledger(setup, planned, misses_max)?;
        let missed = self.run.requests.saturating_sub(ledger.attained());
        let attained = missed <= self.may_miss;
        if misses_max == u64::MAX || attained {
            self.refinement.learn(&plan, ledger.missed_by_window());
        }
        let gpu_hours = ledger.gpu_hours();
        let merit = |missed: u64, gpu_hours: f64| {
            let beyond = missed.saturating_sub(self.may_miss);
            (beyond, gpu_hours)
        };
        let is_better = self
            .best
            .as_ref()
            .is_none_or(|best| merit(missed, gpu_hours) < merit(best.missed, best.gpu_hours));
        if is_better && (misses_max == u64::MAX || attained) {
            self.best = Some(Played {
                plan,
                missed,
                gpu_hours,
            });
        }
        Ok(attained)
    }

    /// Plays the plans that the tables make, each with what the ones before have taught.
    fn learn(&mut self) -> Result<(), SimulateError> {
        let mut aim = 1.0_f64;
        for _ in 0..LEARNING_PLAYS {
            let plan = self.refinement.plan(aim);
            let attained = self.play(plan, u64::MAX)?;
            aim *= if attained { AIM.1 } else { AIM.0 };
        }
        Ok(())
    }

    /// Lowers the best plan: many stretches at once, and half as many whenever that misses.
    fn cut(&mut self) -> Result<(), SimulateError> {
        let mut refused = Refused::new();
        let mut at_once = usize::MAX;
        for _ in 0..CUT_PLAYS {
            let Some(best) = self.best.as_ref() else {
                break;
            };
            if best.missed > self.may_miss {
                break;
            }
            let mut cuts = self.refinement.cuts(&best.plan);
            cuts.retain(|cut| !refused.contains(&cut.key()));
            let chosen = Refinement::apart(&cuts, at_once.min(cuts.len().div_ceil(2)).max(1));
            let Some(first) = chosen.first() else { break };
            let first = first.key();
            let before = best.gpu_hours;
            let plan = self.refinement.lowered(&best.plan, &chosen);
            let attained = self.play(plan, self.may_miss)?;
            let is_cheaper = self
                .best
                .as_ref()
                .is_some_and(|best| best.gpu_hours < before);
            if !(attained && is_cheaper) {
                if chosen.len() == 1 {
                    refused.insert(first);
                }
                at_once = (chosen.len() / 2).max(1);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::io::Write as _;

    use pd_core::PerRole;
    use tempfile::NamedTempFile;

    use super::*;
    use crate::scenario::Scenario;
    use crate::simulate::Source;

    /// Requests per second of each minute; a prompt computes for a fifth of a second.
    const RATES: [u32; 5] = [3, 8, 11, 6, 2];

    /// Most prefill replicas.
    const MOST: u32 = 3;

    fn trace() -> NamedTempFile {
        let mut text = "timestamp_s,input_tokens,output_tokens\n".to_owned();
        for (minute, rate) in (0_u32..).zip(RATES) {
            for number in 0..60 * rate {
                // Uneven by a pattern, so that queues form.
                let late = f64::from(number * 7 % 11) / 11.0;
                let at = f64::from(minute * 60) + (f64::from(number) + late) / f64::from(rate);
                let tokens = 1_500 + number * 37 % 5_000;
                writeln!(text, "{at:.3},{tokens},20").unwrap();
            }
        }
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    fn run(file: &NamedTempFile, lead_seconds: u64) -> Run {
        let mut scenario = Scenario::default();
        scenario.set_lead(std::time::Duration::from_secs(lead_seconds));
        let small = scenario.spec.with(|spec| {
            spec.prefill.max_replicas = i32::try_from(MOST).unwrap();
            spec.decode.max_replicas = 1;
            spec.objective.attainment.percent = 95;
        });
        scenario.spec = small.unwrap();
        let source = Source::of_trace(file.path().to_owned(), 1.0, 1.0, 7);
        Run::over(scenario, source, 7).unwrap()
    }

    /// GPU-hours of a plan as played, if it attains.
    fn worth(run: &Run, plan: &ReplicaPlan, may_miss: u64) -> Option<f64> {
        let (planned, setup) = run.planned(plan);
        let ledger = run.ledger(setup, planned, may_miss).unwrap();
        (run.requests - ledger.attained() <= may_miss).then(|| ledger.gpu_hours())
    }

    #[test]
    fn no_plan_of_a_small_trace_attains_for_less() {
        let file = trace();
        for lead_seconds in [0, 60] {
            let run = run(&file, lead_seconds);
            let may_miss = run.requests * 5 / 100;
            let refinement = Refinement::new(&run.bound, PerRole::from_fn(|_| 1));
            let windows = u32::try_from(RATES.len()).unwrap();
            let all = (0..MOST.pow(windows)).filter_map(|number| {
                let prefill = (0..windows).map(|place| 1 + number / MOST.pow(place) % MOST);
                let serving = PerRole {
                    prefill: prefill.collect(),
                    decode: vec![1; RATES.len()],
                };
                worth(&run, &refinement.priced(serving), may_miss)
            });
            let least = all.fold(f64::INFINITY, f64::min);
            let found = worth(&run, &search(&run).unwrap(), may_miss).unwrap();
            assert!(found <= least + 1e-9, "{found} instead of {least}");
        }
    }
}
