//! GPUs that several PDAutoscalers share: a grant is written before a replica is requested, and a
//! plan has no more than its grant.
//!
//! A decision is made twice. The first one, without the budgets, says how many GPUs the service
//! would have; [`ledger`] answers how many it may; the second one keeps to that, and drains where
//! it is less than is held. pd-core's [`ledger`](pd_core::budget::ledger) says who gets how many,
//! and states the rules by which the sum can never exceed the budget.
//!
//! A budget of one object alone needs no ledger, but the same look before replicas are added: what
//! was observed may be older than the last pod that is on its way out.

pub mod accounts;
pub mod claim;
pub mod holding;
pub mod ledger;
pub mod members;
pub mod report;
pub mod watched;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kube::runtime::reflector::ObjectRef;
use pd_api::v1alpha1::{GPUBudget, Mode, PDAutoscaler};
use pd_core::{
    Memory, PerRole, Policy, Reason, Role, RoleState, Stage, Step, Timestamp,
    budget::ledger::Standing,
};
use tokio::time::Instant;
use tracing::warn;

use self::{
    claim::{BudgetError, Claim, Granted},
    holding::Holding,
    ledger::{Around, Desk, QUIET_AFTER},
    members::{Roster, Service},
    watched::Watched,
};
use crate::{
    context::Context,
    outcome::{ApplyOutcome, ReconcileOutcome},
    plan::{Planned, plan},
};

/// How often a plan that does not fit with its surge is made again under a smaller limit.
const FITS_TRIED: u32 = 8;

/// The budgets, their ledgers, and since when this process leads.
#[derive(Debug)]
pub struct Budgets {
    /// Budgets and namespaces as watched.
    pub watched: Watched,
    desks: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Desk>>>>,
    leads_since: Instant,
    /// Until when a write of replicas, whose end nobody heard, may be under way.
    unheard: Mutex<HashMap<ObjectRef<PDAutoscaler>, Instant>>,
    /// Objects between their claim and the end of their writes, as `namespace/name`.
    running: Mutex<HashSet<String>>,
}

fn running_name(key: &ObjectRef<PDAutoscaler>) -> String {
    format!(
        "{}/{}",
        key.namespace.as_deref().unwrap_or_default(),
        key.name
    )
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Budgets {
    /// Those of a term that begins now: nothing is known of what happened before.
    pub fn of_new_term() -> Self {
        Self {
            watched: Watched::default(),
            desks: Mutex::default(),
            leads_since: Instant::now(),
            unheard: Mutex::default(),
            running: Mutex::default(),
        }
    }

    /// Notes how the writes of `key` ended: one that failed may still be made.
    pub fn heard(&self, key: &ObjectRef<PDAutoscaler>, outcome: &ReconcileOutcome) {
        locked(&self.running).remove(&running_name(key));
        let now = Instant::now();
        let mut unheard = locked(&self.unheard);
        unheard.retain(|_, until| *until > now);
        if outcome
            .as_ref()
            .is_ok_and(|applied| matches!(applied.outcome, ApplyOutcome::Failed(..)))
        {
            unheard.insert(key.clone(), now + QUIET_AFTER);
        }
    }

    fn is_quiet(&self, key: &ObjectRef<PDAutoscaler>) -> bool {
        let unheard = locked(&self.unheard);
        unheard
            .get(key)
            .is_none_or(|until| *until <= Instant::now())
    }

    fn desk(&self, name: &str) -> Arc<tokio::sync::Mutex<Desk>> {
        let mut desks = locked(&self.desks);
        let desk = desks.entry(name.to_owned());
        Arc::clone(desk.or_insert_with(|| Arc::new(tokio::sync::Mutex::new(Desk::new(name)))))
    }

    /// Looks after accounts that nobody claims, of all budgets.
    pub async fn sweep(&self, context: &Context, services: &[Service]) {
        let Ok(budgets) = self.watched.budgets() else {
            return;
        };
        locked(&self.desks).retain(|name, _| budgets.contains_key(name));
        context.metrics.budgets_are(budgets.keys());
        for (name, watched) in &budgets {
            let Some(labels) = self.watched.labels(&watched.spec) else {
                continue;
            };
            let roster = Roster::new(&watched.spec, services, &labels);
            let around = self.around(watched, &roster);
            let desk = self.desk(name);
            let mut desk = desk.lock().await;
            // Who claims from here on waits for the desk.
            let running = locked(&self.running).clone();
            let swept = desk.sweep(context, around, &running).await;
            if let Err(error) = swept {
                warn!(%error, "a GPUBudget cannot be kept up to date");
                context.metrics.api_failed("budget");
            }
        }
    }

    fn around<'a>(&self, watched: &'a GPUBudget, roster: &'a Roster) -> Around<'a> {
        Around {
            watched,
            roster,
            leads_since: self.leads_since,
        }
    }

    /// The claims of one service at all budgets that it shares in.
    async fn claimed(
        &self,
        context: &Context,
        services: &[Service],
        claim: &Claim<'_>,
    ) -> Result<Vec<(String, Granted)>, BudgetError> {
        let budgets = self.watched.budgets().map_err(BudgetError::Unlisted)?;
        let mut granted = Vec::new();
        for (name, watched) in &budgets {
            let labels = self.watched.labels(&watched.spec);
            let labels = labels.ok_or_else(|| BudgetError::Unlabelled {
                budget: name.clone(),
            })?;
            let roster = Roster::new(&watched.spec, services, &labels);
            if roster.member(&claim.service.key()).is_none() {
                continue;
            }
            let desk = self.desk(name);
            let mut desk = desk.lock().await;
            let answer = desk
                .claim(context, self.around(watched, &roster), claim)
                .await?;
            granted.push((name.clone(), answer));
        }
        Ok(granted)
    }
}

/// The plan within all budgets, those of others included: the one that was made without them where
/// it keeps to them, and otherwise another.
pub async fn within<'a>(
    context: &Context,
    budgets: &Budgets,
    key: &ObjectRef<PDAutoscaler>,
    services: impl FnOnce() -> Arc<Vec<Service>>,
    memory: &Memory,
    now: Timestamp,
    planned: Planned<'a>,
) -> Planned<'a> {
    let object = planned.observed.object;
    let none = budgets.watched.budgets().is_ok_and(|all| all.is_empty());
    if object.spec.mode != Mode::Auto {
        return planned;
    }
    let service = Service::of(object);
    if none {
        return Box::pin(alone(context, &service, memory, now, planned)).await;
    }
    let claim = claim(&service, &planned, budgets.is_quiet(key));
    let services = services();
    locked(&budgets.running).insert(running_name(key));
    match budgets.claimed(context, &services, &claim).await {
        Ok(granted) if granted.is_empty() => {
            Box::pin(alone(context, &service, memory, now, planned)).await
        }
        Ok(granted) => shared(&granted, memory, now, planned),
        Err(error) => {
            context.metrics.api_failed("budget");
            refused(&error, memory, now, planned)
        }
    }
}

fn claim<'a>(service: &'a Service, planned: &Planned<'_>, is_quiet: bool) -> Claim<'a> {
    let report = &planned.decision.report;
    let roles = &planned.observed.snapshot.roles;
    let lead = Role::ALL
        .into_iter()
        .map(|role| report.lead[role].p90_seconds)
        .fold(0.0, f64::max);
    Claim {
        service,
        observed: roles.map(|role| {
            let existing = role.ready.saturating_add(role.starting);
            [role.current, existing, role.terminating]
        }),
        wanted: planned.decision.plan.replicas,
        least: report.bounds.map(|bounds| bounds.min_replicas.max(1)),
        lead: Duration::try_from_secs_f64(lead).unwrap_or(Duration::ZERO),
        is_quiet,
    }
}

/// A service whose budget is its own.
async fn alone<'a>(
    context: &Context,
    service: &Service,
    memory: &Memory,
    now: Timestamp,
    planned: Planned<'a>,
) -> Planned<'a> {
    let Some(budget) = planned.observed.snapshot.policy.budget_gpus else {
        return planned;
    };
    if !grows(&planned) {
        return planned;
    }
    match holding::read(&context.client, service).await {
        Ok(holding) => fitted(budget, &holding.without_surge(), memory, now, planned),
        Err(source) => {
            context.metrics.api_failed("budget");
            let budget = "spec.budget".to_owned();
            refused(&BudgetError::Api { budget, source }, memory, now, planned)
        }
    }
}

/// A service that shares budgets.
fn shared<'a>(
    granted: &[(String, Granted)],
    memory: &Memory,
    now: Timestamp,
    planned: Planned<'a>,
) -> Planned<'a> {
    let Some((name, tightest)) = granted.iter().min_by_key(|(_, granted)| granted.cap_gpus) else {
        return planned;
    };
    let mut planned = fitted(tightest.cap_gpus, &tightest.holding, memory, now, planned);
    if grows(&planned) && granted.iter().any(|(_, granted)| !granted.may_grow) {
        planned = as_it_is(memory, now, planned);
    }
    if tightest.standing != Standing::Granted {
        let reason = accounts::reason(tightest.standing);
        let message = format!("GPUBudget `{name}`: {}", tightest.message);
        explain(&mut planned, reason, message);
    }
    planned
}

/// Nothing grows, for it is not known whether it may.
fn refused<'a>(
    error: &BudgetError,
    memory: &Memory,
    now: Timestamp,
    planned: Planned<'a>,
) -> Planned<'a> {
    if !grows(&planned) {
        return planned;
    }
    let mut planned = as_it_is(memory, now, planned);
    explain(
        &mut planned,
        Reason::BudgetUnsettled,
        format!("{error}; no GPUs are added until then"),
    );
    planned
}

fn explain(planned: &mut Planned<'_>, reason: Reason, message: String) {
    let step = Step::of_both(Stage::Solve, reason, message);
    planned.decision.report.steps.push(step);
}

fn gpus(per_replica: PerRole<u32>, replicas: PerRole<u32>) -> u32 {
    u32::try_from(Policy::gpus(replicas, per_replica)).unwrap_or(u32::MAX)
}

fn grows(planned: &Planned<'_>) -> bool {
    let roles = &planned.observed.snapshot.roles;
    let to = planned.decision.plan.replicas;
    Role::ALL
        .into_iter()
        .any(|role| to[role] > roles[role].current)
}

/// The plan with no more GPUs than are requested now.
fn as_it_is<'a>(memory: &Memory, now: Timestamp, mut planned: Planned<'a>) -> Planned<'a> {
    let roles = planned.observed.snapshot.roles;
    // A role whose GPUs are not known, or that has none, is held to its replicas.
    let counted = roles.map(|role| RoleState {
        gpus_per_replica: role.gpus_per_replica.max(1),
        ..role
    });
    let current = roles.map(|role| role.current);
    let limit = gpus(counted.map(|role| role.gpus_per_replica), current);
    planned.observed.snapshot.roles = counted;
    let mut planned = limited(limit, memory, now, planned);
    planned.observed.snapshot.roles = roles;
    planned
}

/// The plan that, with all that exists and its surge, holds at most `cap` GPUs if it grows.
fn fitted<'a>(
    cap: u32,
    holding: &Holding,
    memory: &Memory,
    now: Timestamp,
    planned: Planned<'a>,
) -> Planned<'a> {
    let current = planned.observed.snapshot.roles.map(|role| role.current);
    // The surge of the replicas that there are is no room for more of them.
    let mut limit = cap.saturating_sub(holding.surge(current));
    let over = |planned: &Planned<'_>| {
        let to = planned.decision.plan.replicas;
        holding.at(to).saturating_sub(cap)
    };
    if over(&planned) == 0 {
        return planned;
    }
    let mut planned = planned;
    for _ in 0..FITS_TRIED {
        planned = limited(limit, memory, now, planned);
        let excess = over(&planned);
        if excess == 0 || !grows(&planned) {
            return planned;
        }
        limit = limit.saturating_sub(excess);
    }
    let per_replica = planned
        .observed
        .snapshot
        .roles
        .map(|role| role.gpus_per_replica);
    let planned = limited(gpus(per_replica, current).min(limit), memory, now, planned);
    if grows(&planned) {
        limited(0, memory, now, planned)
    } else {
        planned
    }
}

/// The plan under a budget of `limit` GPUs, or the object's own if that is less.
fn limited<'a>(limit: u32, memory: &Memory, now: Timestamp, planned: Planned<'a>) -> Planned<'a> {
    let mut observed = planned.observed;
    let own = observed.snapshot.policy.budget_gpus;
    observed.snapshot.policy.budget_gpus = Some(own.map_or(limit, |own| own.min(limit)));
    plan(observed, memory, now)
}
