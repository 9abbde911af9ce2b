//! The ledger in a GPUBudget's status: its accounts settled by pd-core, and each explained. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff,
};
use pd_api::v1alpha1::{
    BorrowingKind, BudgetAccountStatus, GPUBudget, GPUBudgetSpec, GPUBudgetStatus, PreemptionKind,
    status::truncated,
};
use pd_core::{
    Reason, Timestamp,
    budget::ledger::{Account, Borrowing, Entry, Preemption, Standing, Terms, may_preempt, settle},
};

use super::members::{Roster, Service};

/// The condition of a GPUBudget.
pub const WITHIN_BUDGET: &str = "WithinBudget";

/// Longest message of an account, bytes, as its schema states.
const MESSAGE_LENGTH_MAX: usize = 512;

/// Everything that settling takes beside the ledger itself.
#[derive(Debug)]
pub struct Facts<'a> {
    /// Who shares.
    pub roster: &'a Roster,
    /// Accounts of which it is certain that nothing more than stated is held or on its way.
    pub certain: &'a BTreeSet<String>,
    /// How long replicas of a service take to serve, where it is known.
    pub leads: &'a BTreeMap<String, Duration>,
    /// The time.
    pub now: jiff::Timestamp,
}

/// GPUs as the API has them.
pub fn stored(gpus: u32) -> i32 {
    i32::try_from(gpus).unwrap_or(i32::MAX)
}

/// GPUs out of the API.
pub fn gpus(stored: i32) -> u32 {
    u32::try_from(stored).unwrap_or(0)
}

/// The key of an account.
pub fn key(account: &BudgetAccountStatus) -> String {
    Service::of_account(account).key()
}

fn terms(spec: &GPUBudgetSpec) -> Terms {
    Terms {
        gpus: gpus(spec.gpus),
        borrowing: match spec.borrowing {
            BorrowingKind::Allowed => Borrowing::Allowed,
            BorrowingKind::Never => Borrowing::Never,
        },
        preemption: match spec.preemption {
            PreemptionKind::Never => Preemption::Never,
            PreemptionKind::LowerPriority => Preemption::LowerPriority,
            PreemptionKind::FairShare => Preemption::FairShare,
        },
    }
}

fn account<'a>(
    row: &BudgetAccountStatus,
    key: &'a str,
    facts: &Facts<'_>,
    now: Timestamp,
) -> Account<'a> {
    // Without a lead time nothing is known of its service yet, and it takes from nobody.
    let lead = facts.leads.get(key);
    let since = row.short_since.as_ref();
    let since = since.map(|time| Timestamp::from_millis(time.0.as_millisecond()));
    Account {
        name: key,
        member: facts.roster.member(key),
        granted_gpus: gpus(row.granted_gpus),
        held_gpus: gpus(row.held_gpus),
        is_certain: facts.certain.contains(key),
        wanted_gpus: gpus(row.wanted_gpus),
        least_gpus: gpus(row.least_gpus),
        unit_gpus: gpus(row.unit_gpus),
        may_preempt: lead.is_some_and(|lead| may_preempt(since, now, *lead)),
    }
}

/// Settles `accounts`, which are sorted by their keys: grants, shares and reasons are written into
/// them. Gives the entries in the same order.
pub fn settled(
    spec: &GPUBudgetSpec,
    accounts: &mut [BudgetAccountStatus],
    facts: &Facts<'_>,
) -> Vec<Entry> {
    let keys: Vec<String> = accounts.iter().map(key).collect();
    let now = Timestamp::from_millis(facts.now.as_millisecond());
    let all: Vec<Account<'_>> = accounts
        .iter()
        .zip(&keys)
        .map(|(row, key)| account(row, key, facts, now))
        .collect();
    let entries = settle(terms(spec), &facts.roster.members(), &all);
    let held: u64 = all.iter().map(|account| u64::from(account.held_gpus)).sum();
    let exceeded = held > u64::from(gpus(spec.gpus));
    for (row, entry) in accounts.iter_mut().zip(&entries) {
        row.granted_gpus = stored(entry.granted_gpus);
        row.share_gpus = stored(entry.share_gpus);
        reason(entry.standing).as_str().clone_into(&mut row.reason);
        let text = text(spec, row, entry, exceeded);
        row.message = truncated(&text, MESSAGE_LENGTH_MAX).into_owned();
        let short = entry.granted_gpus < entry.share_gpus;
        row.short_since = short.then(|| row.short_since.clone().unwrap_or(Time(facts.now)));
    }
    entries
}

/// The reason of a standing.
pub const fn reason(standing: Standing) -> Reason {
    match standing {
        Standing::Granted => Reason::WithinBudget,
        Standing::Shared => Reason::BudgetShared,
        Standing::Waiting => Reason::BudgetWaitsForOthers,
        Standing::Returning => Reason::BudgetReclaimed,
        Standing::Left => Reason::BudgetLeft,
    }
}

fn text(spec: &GPUBudgetSpec, row: &BudgetAccountStatus, entry: &Entry, exceeded: bool) -> String {
    let (wanted, held, share) = (row.wanted_gpus, row.held_gpus, row.share_gpus);
    let budget = spec.gpus;
    match entry.standing {
        Standing::Granted => format!("all {wanted} GPUs that it needs are granted"),
        Standing::Shared => {
            format!(
                "its share is {share} of the {wanted} GPUs that it needs, of a budget of {budget}"
            )
        }
        Standing::Waiting => format!(
            "{} GPUs of its share of {share} are granted, and others still hold the rest; it needs \
             {wanted}, of a budget of {budget}",
            entry.granted_gpus
        ),
        Standing::Returning => {
            let why = if exceeded {
                format!("more is held than the budget of {budget}")
            } else {
                "others are short of their share".to_owned()
            };
            format!(
                "it holds {held} GPUs, its share is {share}, and it goes to {}: {why}",
                entry.cap_gpus
            )
        }
        Standing::Left => format!(
            "it shares the budget no longer, and {held} GPUs of its workloads still exist or are \
             requested"
        ),
    }
}

/// The status with `accounts`, and what they come to.
pub fn status(
    budget: &GPUBudget,
    accounts: Vec<BudgetAccountStatus>,
    roster: &Roster,
    now: jiff::Timestamp,
) -> GPUBudgetStatus {
    let sum = |of: fn(&BudgetAccountStatus) -> i32| {
        let all = accounts.iter().map(of);
        all.fold(0_i32, i32::saturating_add)
    };
    let (granted, held, wanted) = (
        sum(|row| row.granted_gpus),
        sum(|row| row.held_gpus),
        sum(|row| row.wanted_gpus),
    );
    let total = budget.spec.gpus;
    let floors = roster.members().into_iter();
    let floors = floors
        .map(|member| member.floor_gpus)
        .fold(0, u32::saturating_add);
    let mut message = format!(
        "{held} of {total} GPUs are held, {granted} granted and {wanted} needed by {} \
         PDAutoscalers",
        accounts.len()
    );
    if floors > gpus(total) {
        message.push_str("; floors of ");
        message.push_str(&floors.to_string());
        message.push_str(" GPUs are more than there are");
    }
    let within = held <= total;
    let reason = if within {
        Reason::WithinBudget
    } else {
        Reason::BudgetExceeded
    };
    let state = if within { "True" } else { "False" };
    let before = budget
        .status
        .as_ref()
        .map(|status| status.conditions.as_slice());
    let before = before
        .into_iter()
        .flatten()
        .find(|found| found.type_ == WITHIN_BUDGET);
    let since = before.filter(|found| found.status == state);
    let condition = Condition {
        type_: WITHIN_BUDGET.to_owned(),
        status: state.to_owned(),
        reason: reason.as_str().to_owned(),
        message,
        observed_generation: budget.metadata.generation,
        last_transition_time: since.map_or(Time(now), |found| found.last_transition_time.clone()),
    };
    GPUBudgetStatus {
        observed_generation: budget.metadata.generation,
        taken_over: budget
            .status
            .as_ref()
            .and_then(|status| status.taken_over.clone()),
        conditions: vec![condition],
        granted_gpus: granted,
        held_gpus: held,
        wanted_gpus: wanted,
        accounts,
    }
}

/// Whether `after` must be written before anybody acts on it, and not when there is time.
pub fn is_urgent(before: Option<&GPUBudgetStatus>, after: &GPUBudgetStatus) -> bool {
    let Some(before) = before else { return true };
    let grants = |status: &GPUBudgetStatus| -> Vec<(String, i32)> {
        let rows = status.accounts.iter();
        rows.map(|row| (key(row), row.granted_gpus)).collect()
    };
    let state = |status: &GPUBudgetStatus| {
        let conditions = status.conditions.iter();
        conditions
            .map(|found| found.status.clone())
            .collect::<Vec<_>>()
    };
    before.observed_generation != after.observed_generation
        || before.taken_over != after.taken_over
        || state(before) != state(after)
        || grants(before) != grants(after)
}
