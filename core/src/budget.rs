//! One GPU budget for several services: floors first, then shares by priority.
//!
//! The continuous idea is water-filling: with a level L, each service gets `priority * L` GPUs,
//! but at least its floor and at most what it wants; the level is the highest that the budget
//! allows. Here GPUs come in units, so services take them in turns, the one whose next unit is
//! centred on the lowest level first (the Sainte-Lague method). The turns do not depend on the
//! budget: a larger budget only goes further, and takes from nobody. For the same reason the turn
//! whose unit does not fit is the last, so less than one unit may stay free.

pub mod ledger;

use std::cmp::Reverse;

use crate::{
    reason::Reason,
    role::Role,
    step::{Stage, Step},
};

/// One service's claim on a shared budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim<'a> {
    /// Unique among the claims, such as `namespace/name`; decides between equals.
    pub name: &'a str,
    /// How large its share is beside the others, at least 1.
    pub priority: u32,
    /// GPUs of its fewest replicas.
    pub floor_gpus: u32,
    /// GPUs of the replicas that it needs.
    pub wanted_gpus: u32,
    /// GPUs it grows by: the greatest common divisor of its replicas' GPUs; at least 1.
    pub unit_gpus: u32,
}

/// The GPUs that each service may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// GPUs of each claim, in the order of the claims. Their sum is at most the budget.
    pub granted_gpus: Vec<u32>,
    /// Whether every floor fits.
    pub feasible: bool,
}

/// Splits `budget_gpus` among `claims`.
///
/// No claim gets more than it wants, nor, when all floors fit, less than its floor. When they do
/// not, the highest priorities get theirs first and the first that does not fit gets the rest.
/// More budget never grants anybody less; the order of the claims does not matter as long as their
/// names differ. A priority or unit of 0 counts as 1.
pub fn split(budget_gpus: u32, claims: &[Claim<'_>]) -> Split {
    let floors: u64 = claims.iter().map(|claim| u64::from(floor(claim))).sum();
    let Some(left) = u64::from(budget_gpus).checked_sub(floors) else {
        return Split {
            granted_gpus: floors_by_priority(budget_gpus, claims),
            feasible: false,
        };
    };
    Split {
        granted_gpus: filled(left, claims),
        feasible: true,
    }
}

impl Split {
    /// States to the service of claim `index` that it gets less than it wants; nothing if it does
    /// not.
    pub fn step(&self, index: usize, budget_gpus: u32, claims: &[Claim<'_>]) -> Option<Step> {
        let (claim, granted) = (claims.get(index)?, *self.granted_gpus.get(index)?);
        let short = granted < claim.wanted_gpus;
        let under = if granted < floor(claim) {
            ", less than its fewest replicas hold"
        } else {
            ""
        };
        let message = format!(
            "granted: {granted} of {} GPUs wanted{under}; {} services share a budget of \
             {budget_gpus}, this one with priority {}",
            claim.wanted_gpus,
            claims.len(),
            claim.priority
        );
        short.then_some(Step {
            stage: Stage::Solve,
            role: None::<Role>,
            reason: Reason::BudgetShared,
            message,
        })
    }
}

fn floor(claim: &Claim<'_>) -> u32 {
    claim.floor_gpus.min(claim.wanted_gpus)
}

fn floors_by_priority(budget_gpus: u32, claims: &[Claim<'_>]) -> Vec<u32> {
    let mut order: Vec<usize> = (0..claims.len()).collect();
    order.sort_by_key(|&i| (Reverse(claims[i].priority.max(1)), claims[i].name));
    let mut granted = vec![0; claims.len()];
    let mut left = budget_gpus;
    for i in order {
        granted[i] = floor(&claims[i]).min(left);
        left -= granted[i];
    }
    granted
}

/// A claim as a row of units above its floor, the last one cut short by what is wanted.
#[derive(Clone, Copy)]
struct Row {
    floor: u128,
    wanted: u128,
    unit: u128,
    priority: u128,
}

impl Row {
    fn of(claim: &Claim<'_>) -> Self {
        Self {
            floor: floor(claim).into(),
            wanted: claim.wanted_gpus.into(),
            unit: claim.unit_gpus.max(1).into(),
            priority: claim.priority.max(1).into(),
        }
    }

    /// GPUs after the turn that follows `granted`; the same when nothing more is wanted.
    fn next(&self, granted: u128) -> u128 {
        (granted + self.unit).min(self.wanted)
    }

    /// GPUs when every unit centred at or below `level` of `steps` is taken: the centre of a unit
    /// from a to b lies at the level (a + b) / (2 * priority).
    fn at(&self, level: u128, steps: u128) -> u128 {
        // (a + b) * steps <= 2 * priority * level, with a = floor + (k - 1) * unit, b = a + unit.
        let doubled = 2 * self.priority * level / steps;
        let whole = (self.wanted - self.floor) / self.unit;
        let taken = (doubled + self.unit).saturating_sub(2 * self.floor) / (2 * self.unit);
        let granted = self.floor + taken.min(whole) * self.unit;
        let last_fits = taken >= whole && granted + self.wanted <= doubled;
        if last_fits { self.wanted } else { granted }
    }
}

/// Every claim at its floor, and `left` GPUs on top of that by turns.
fn filled(left: u64, claims: &[Claim<'_>]) -> Vec<u32> {
    let rows: Vec<Row> = claims.iter().map(Row::of).collect();
    let floors: u128 = rows.iter().map(|row| row.floor).sum();
    let budget = floors + u128::from(left);
    // Levels so fine that between two of them nobody takes more than two turns.
    let steps = rows.iter().map(|row| row.priority).max().unwrap_or(1);
    let total = |level| rows.iter().map(|row| row.at(level, steps)).sum::<u128>();
    let (mut low, mut high) = (0u128, (u128::from(u32::MAX) + 1) * steps);
    while low + 1 < high {
        let middle = u128::midpoint(low, high);
        if total(middle) <= budget {
            low = middle;
        } else {
            high = middle;
        }
    }
    let mut granted: Vec<u128> = rows.iter().map(|row| row.at(low, steps)).collect();
    let mut left = budget.saturating_sub(granted.iter().sum());
    while let Some(i) = next_turn(&rows, &granted, claims) {
        let more = rows[i].next(granted[i]) - granted[i];
        if more > left {
            break;
        }
        granted[i] += more;
        left -= more;
    }
    let whole = |gpus: u128| u32::try_from(gpus).unwrap_or(u32::MAX);
    granted.into_iter().map(whole).collect()
}

/// The claim whose next unit is centred on the lowest level; of equals the higher priority, then
/// the first name.
fn next_turn(rows: &[Row], granted: &[u128], claims: &[Claim<'_>]) -> Option<usize> {
    let wants = (0..rows.len()).filter(|&i| granted[i] < rows[i].wanted);
    wants.min_by(|&a, &b| {
        let centre = |i: usize| granted[i] + rows[i].next(granted[i]);
        // centre / priority, compared across.
        let level = (centre(a) * rows[b].priority).cmp(&(centre(b) * rows[a].priority));
        level
            .then_with(|| rows[b].priority.cmp(&rows[a].priority))
            .then_with(|| claims[a].name.cmp(claims[b].name))
    })
}

#[cfg(test)]
mod tests;
