//! Reading and writing the ledger of one GPUBudget.
//!
//! One claim at a time, and each write against the version that was read: whoever else writes, a
//! process that led before among them, makes ours fail, and then all is read again. A grant is
//! lowered only after a read of what is held, with no write of replicas under way: not one of this
//! process, nor, for as long as a write may take, one of the leader before.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    time::Duration,
};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use pd_api::v1alpha1::{
    BudgetAccountStatus, GPUBudget, GPUBudgetStatus, SurgeKind, gpu_budget::ACCOUNTS_MAX,
};
use pd_core::{PerRole, Role};
use serde_json::json;
use tokio::time::Instant;

use super::{
    accounts::{self, Facts, gpus, key, stored},
    claim::{BudgetError, CONFLICTS_MAX, Claim, Granted},
    holding::{self, Holding},
    members::{Roster, Service},
};
use crate::{
    answer::{WRITE_WITHIN, within_limit},
    context::Context,
};

/// After so long no write of a leader before is under way: the API server ends each within
/// [`WRITE_WITHIN`] of its arrival, and as long again is for the way there.
pub const QUIET_AFTER: Duration = WRITE_WITHIN.saturating_mul(2);

/// Services that are read at once when they join.
const READS_AT_ONCE: usize = 8;

/// Intervals without a claim after which an account is looked at all the same.
const SILENT_INTERVALS: u32 = 3;

/// All that is known of one service.
#[derive(Clone, Debug)]
struct Seen {
    observed: Option<PerRole<[u32; 3]>>,
    holding: Holding,
    at: Instant,
}

/// The ledger of one budget, as this process last read or wrote it.
#[derive(Debug, Default)]
pub struct Desk {
    name: String,
    book: Option<GPUBudget>,
    /// Whether the status of `book` is newer than the one stored.
    is_ahead: bool,
    /// Whether `book` is what this process wrote, and not only read.
    is_own: bool,
    written_at: Option<Instant>,
    seen: BTreeMap<String, Seen>,
    leads: BTreeMap<String, Duration>,
}

/// Who shares, as far as this process knows.
#[derive(Clone, Copy, Debug)]
pub struct Around<'a> {
    /// The budget, as watched.
    pub watched: &'a GPUBudget,
    /// Who shares.
    pub roster: &'a Roster,
    /// Since when this process leads.
    pub leads_since: Instant,
}

/// Whether no write of replicas of the account called `key` can be under way.
fn is_quiet(around: Around<'_>, claim: Option<&Claim<'_>>, key: &str) -> bool {
    let unheard = claim.is_some_and(|claim| !claim.is_quiet && claim.service.key() == key);
    around.leads_since.elapsed() >= QUIET_AFTER && !unheard
}

impl Desk {
    /// The desk of the budget called `name`.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..Self::default()
        }
    }

    /// Answers a claim, after its grant is written.
    pub async fn claim(
        &mut self,
        context: &Context,
        around: Around<'_>,
        claim: &Claim<'_>,
    ) -> Result<Granted, BudgetError> {
        let key = claim.service.key();
        self.leads.insert(key.clone(), claim.lead);
        let grows = Role::ALL
            .into_iter()
            .any(|role| claim.wanted[role] > claim.observed[role][0]);
        let mut known = false;
        if let Some(seen) = self.seen.get_mut(&key) {
            seen.at = Instant::now();
            known = seen.observed == Some(claim.observed);
        }
        let mut fresh = BTreeSet::new();
        if grows || !known {
            self.look(context, claim.service, Some(claim.observed))
                .await?;
            fresh.insert(key.clone());
        }
        for _ in 0..CONFLICTS_MAX {
            match self.settle(context, around, &mut fresh, Some(claim)).await {
                Err(BudgetError::Conflict { .. }) => self.book = None,
                settled => return settled.and_then(|found| found.ok_or_else(|| self.full())),
            }
        }
        Err(BudgetError::Conflict {
            budget: self.name.clone(),
        })
    }

    /// Looks at accounts that nobody has claimed lately and nobody is `running` for: those of
    /// objects that cannot be decided on, and those that left.
    pub async fn sweep(
        &mut self,
        context: &Context,
        around: Around<'_>,
        running: &HashSet<String>,
    ) -> Result<(), BudgetError> {
        let silent_after = context.decision_args.interval * SILENT_INTERVALS;
        let book = self.book(context, around).await?;
        let rows = book.status.unwrap_or_default().accounts;
        let mut fresh = BTreeSet::new();
        for row in rows {
            let key = key(&row);
            let recent = |seen: &Seen| seen.at.elapsed() < silent_after;
            let writes = running.contains(&format!("{}/{}", row.namespace, row.name));
            if writes || self.seen.get(&key).is_some_and(recent) {
                continue;
            }
            let service = around.roster.service(&key).cloned();
            let service = service.unwrap_or_else(|| Service::of_account(&row));
            self.look(context, &service, None).await?;
            fresh.insert(key);
        }
        match self.settle(context, around, &mut fresh, None).await {
            // The next sweep comes soon.
            Err(BudgetError::Conflict { .. }) => self.book = None,
            settled => drop(settled?),
        }
        Ok(())
    }

    fn full(&self) -> BudgetError {
        BudgetError::Full {
            budget: self.name.clone(),
        }
    }

    fn failed(&self, source: kube::Error) -> BudgetError {
        BudgetError::Api {
            budget: self.name.clone(),
            source,
        }
    }

    async fn look(
        &mut self,
        context: &Context,
        service: &Service,
        observed: Option<PerRole<[u32; 3]>>,
    ) -> Result<(), BudgetError> {
        let holding = holding::read(&context.client, service).await;
        let seen = Seen {
            observed,
            holding: holding.map_err(|source| self.failed(source))?,
            at: Instant::now(),
        };
        self.seen.insert(service.key(), seen);
        Ok(())
    }

    /// The budget as last read or written, or read now when its spec has changed since.
    async fn book(
        &mut self,
        context: &Context,
        around: Around<'_>,
    ) -> Result<GPUBudget, BudgetError> {
        let of = |budget: &GPUBudget| (budget.metadata.uid.clone(), budget.metadata.generation);
        let current = |book: &&GPUBudget| of(book) == of(around.watched);
        if let Some(book) = self.book.as_ref().filter(current) {
            return Ok(book.clone());
        }
        let api: Api<GPUBudget> = Api::all(context.client.clone());
        let book = within_limit(api.get(&self.name)).await;
        let book = book.map_err(|source| self.failed(source))?;
        self.book = Some(book.clone());
        (self.is_ahead, self.is_own) = (false, false);
        Ok(book)
    }

    /// All that is held, as this budget counts it.
    fn holding(&self, book: &GPUBudget, key: &str) -> Holding {
        let holding = self
            .seen
            .get(key)
            .map_or_else(Holding::default, |seen| seen.holding);
        match book.spec.surge {
            SurgeKind::Reserved => holding,
            SurgeKind::Counted => holding.without_surge(),
        }
    }

    /// Accounts of members that have none: until all that they hold is in the ledger, nothing is
    /// granted to anybody.
    async fn admit(
        &mut self,
        context: &Context,
        around: Around<'_>,
        book: &GPUBudget,
        rows: &mut Vec<BudgetAccountStatus>,
    ) -> Result<(), BudgetError> {
        let known: BTreeSet<String> = rows.iter().map(key).collect();
        let new: Vec<&Service> = around
            .roster
            .services()
            .filter(|service| !known.contains(&service.key()))
            .take(ACCOUNTS_MAX.saturating_sub(rows.len()))
            .collect();
        let client = &context.client;
        let reads: Vec<_> = new
            .iter()
            .map(|service| holding::read(client, service))
            .collect();
        let reads = stream::iter(reads).buffered(READS_AT_ONCE);
        let found: Result<Vec<Holding>, _> = reads.try_collect().await;
        let found = found.map_err(|source| self.failed(source))?;
        for (service, holding) in new.into_iter().zip(found) {
            let seen = Seen {
                observed: None,
                holding,
                at: Instant::now(),
            };
            self.seen.insert(service.key(), seen);
            let holding = self.holding(book, &service.key());
            let held = stored(holding.gpus());
            rows.push(BudgetAccountStatus {
                namespace: service.namespace.clone(),
                name: service.name.clone(),
                prefill: service.targets.prefill.clone(),
                decode: service.targets.decode.clone(),
                granted_gpus: held,
                held_gpus: held,
                wanted_gpus: held,
                unit_gpus: stored(holding::unit(holding.gpus_per_replica())),
                ..BudgetAccountStatus::default()
            });
        }
        rows.sort_by_cached_key(key);
        Ok(())
    }

    /// Settles the ledger and writes it. `fresh` are the accounts that were just looked at.
    async fn settle(
        &mut self,
        context: &Context,
        around: Around<'_>,
        fresh: &mut BTreeSet<String>,
        claim: Option<&Claim<'_>>,
    ) -> Result<Option<Granted>, BudgetError> {
        let book = self.book(context, around).await?;
        let now = (context.clock)();
        let mut rows = book.status.clone().unwrap_or_default().accounts;
        self.admit(context, around, &book, &mut rows).await?;
        if let Some(claim) = claim {
            let own = self.enter(&book, &mut rows, claim)?;
            if !fresh.contains(&own)
                && is_quiet(around, Some(claim), &own)
                && self.would_lower(&book, around, &rows, &own, now)
            {
                self.look(context, claim.service, Some(claim.observed))
                    .await?;
                fresh.insert(own);
            }
        }
        let certain = self.confirm(&book, around, &mut rows, fresh, claim);
        let facts = Facts {
            roster: around.roster,
            certain: &certain,
            leads: &self.leads,
            now,
        };
        let entries = accounts::settled(&book.spec, &mut rows, &facts);
        let granted = claim.and_then(|claim| {
            let own = claim.service.key();
            let index = rows.iter().position(|row| key(row) == own)?;
            Some(Granted {
                cap_gpus: entries[index].cap_gpus,
                may_grow: entries[index].may_grow,
                standing: entries[index].standing,
                message: rows[index].message.clone(),
                holding: self.holding(&book, &own),
            })
        });
        let mut status = accounts::status(&book, rows, around.roster, now);
        if !self.is_own {
            // Another text, for a write that changes nothing makes no new version.
            status.taken_over = Some(MicroTime(now));
        }
        self.write(context, &book, status).await?;
        Ok(granted)
    }

    /// Enters the figures of a claim; gives its key.
    fn enter(
        &self,
        book: &GPUBudget,
        rows: &mut [BudgetAccountStatus],
        claim: &Claim<'_>,
    ) -> Result<String, BudgetError> {
        let own = claim.service.key();
        let holding = self.holding(book, &own);
        if let Some(role) = holding.unknown() {
            let budget = self.name.clone();
            return Err(BudgetError::GpusUnknown { budget, role });
        }
        if let Some(row) = rows.iter_mut().find(|row| key(row) == own) {
            row.wanted_gpus = stored(holding.cost(claim.wanted));
            row.least_gpus = stored(holding.cost(claim.least));
            row.unit_gpus = stored(holding::unit(holding.gpus_per_replica()));
        }
        Ok(own)
    }

    /// Enters the GPUs held of all accounts in `fresh`, and takes out those that left and hold
    /// none. Gives the accounts of which it is certain that nothing more is held or on its way.
    fn confirm(
        &self,
        book: &GPUBudget,
        around: Around<'_>,
        rows: &mut Vec<BudgetAccountStatus>,
        fresh: &BTreeSet<String>,
        claim: Option<&Claim<'_>>,
    ) -> BTreeSet<String> {
        let mut certain = BTreeSet::new();
        rows.retain_mut(|row| {
            let key = key(row);
            if !fresh.contains(&key) {
                return true;
            }
            let holding = self.holding(book, &key);
            row.held_gpus = stored(holding.gpus());
            let is_certain = holding.is_settled() && is_quiet(around, claim, &key);
            let left = around.roster.member(&key).is_none();
            if left {
                row.wanted_gpus = 0;
            }
            if is_certain {
                certain.insert(key);
            }
            !(left && is_certain && holding.is_empty())
        });
        certain
    }

    /// Whether the grant of `own` fell if what was last seen of it were certain.
    fn would_lower(
        &self,
        book: &GPUBudget,
        around: Around<'_>,
        rows: &[BudgetAccountStatus],
        own: &str,
        now: jiff::Timestamp,
    ) -> bool {
        let certain = BTreeSet::from([own.to_owned()]);
        let facts = Facts {
            roster: around.roster,
            certain: &certain,
            leads: &self.leads,
            now,
        };
        let mut tried = rows.to_vec();
        accounts::settled(&book.spec, &mut tried, &facts);
        let grant = |rows: &[BudgetAccountStatus]| {
            let row = rows.iter().find(|row| key(row) == own);
            row.map_or(0, |row| gpus(row.granted_gpus))
        };
        grant(&tried) < grant(rows)
    }

    /// Writes the status, at once when a grant changes, else now and then.
    async fn write(
        &mut self,
        context: &Context,
        book: &GPUBudget,
        status: GPUBudgetStatus,
    ) -> Result<(), BudgetError> {
        let before = book.status.as_ref();
        let recent = |at: Instant| at.elapsed() < context.decision_args.status_interval;
        let urgent = accounts::is_urgent(before, &status);
        let same = before == Some(&status);
        if same && !self.is_ahead {
            return Ok(());
        }
        if !urgent && self.written_at.is_some_and(recent) {
            // The next settling goes on from here, though nobody else can see it yet.
            if let Some(book) = self.book.as_mut() {
                self.is_ahead |= !same;
                book.status = Some(status);
            }
            return Ok(());
        }
        if !context.is_leader() {
            return Err(BudgetError::NotLeading);
        }
        let patch = Patch::Merge(json!({
            "metadata": { "resourceVersion": book.metadata.resource_version },
            "status": {
                "observedGeneration": status.observed_generation,
                "takenOver": status.taken_over,
                "conditions": status.conditions,
                "grantedGpus": status.granted_gpus,
                "heldGpus": status.held_gpus,
                "wantedGpus": status.wanted_gpus,
                "accounts": status.accounts,
            },
        }));
        let params = PatchParams {
            field_manager: Some(crate::NAME.to_owned()),
            ..PatchParams::default()
        };
        let api: Api<GPUBudget> = Api::all(context.client.clone());
        match within_limit(api.patch_status(&self.name, &params, &patch)).await {
            Ok(written) => {
                super::report::written(context, book, &written).await;
                self.book = Some(written);
                (self.is_ahead, self.is_own) = (false, true);
                self.written_at = Some(Instant::now());
                Ok(())
            }
            Err(error) => {
                // Whatever became of it: read before it is built on.
                self.book = None;
                Err(match error {
                    kube::Error::Api(answer) if answer.code == 409 => BudgetError::Conflict {
                        budget: self.name.clone(),
                    },
                    source => self.failed(source),
                })
            }
        }
    }
}
