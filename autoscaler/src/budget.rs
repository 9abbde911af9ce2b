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
pub mod quota;
pub mod report;
pub mod watched;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use kube::{ResourceExt as _, runtime::reflector::ObjectRef};
use pd_api::v1alpha1::{GPUBudget, Mode, PDAutoscaler};
use pd_core::{PerRole, Policy, Reason, Role, Stage, Step, budget::ledger::Standing};
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
    lock::locked,
    outcome::{ApplyOutcome, ReconcileOutcome},
    plan::Planned,
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

/// The plan within all budgets, those of others and the namespace's quotas included: the one that
/// was made without them where it keeps to them, and otherwise another.
pub async fn within<'a>(
    context: &Context,
    budgets: &Budgets,
    key: &ObjectRef<PDAutoscaler>,
    services: impl FnOnce() -> Arc<Vec<Service>>,
    planned: Planned<'a>,
) -> Planned<'a> {
    if planned.observed.object.spec.mode != Mode::Auto {
        return planned;
    }
    let service = Service::of(planned.observed.object);
    let none = budgets.watched.budgets().is_ok_and(|all| all.is_empty());
    let granted = if none {
        Ok(Vec::new())
    } else {
        let claim = claim(&service, &planned, budgets.is_quiet(key));
        let services = services();
        locked(&budgets.running).insert(running_name(key));
        Box::pin(budgets.claimed(context, &services, &claim)).await
    };
    let planned = match granted {
        Ok(granted) if granted.is_empty() => Box::pin(alone(context, &service, planned)).await,
        Ok(granted) => shared(&granted, planned),
        Err(error) => {
            context.metrics.api_failed("budget");
            refused(&error, planned)
        }
    };
    in_quotas(context, planned).await
}

/// The plan with no more GPUs than the namespace's quotas have room for, if it grows.
async fn in_quotas<'a>(context: &Context, planned: Planned<'a>) -> Planned<'a> {
    if !planned.grows() {
        return planned;
    }
    let namespace = planned.observed.object.namespace().unwrap_or_default();
    let room = match quota::read(&context.client, &namespace).await {
        Ok(Some(room)) => room,
        Ok(None) => return planned,
        Err(error) => {
            warn!(%error, namespace, "ResourceQuotas cannot be read; the API server keeps them");
            context.metrics.api_failed("quota");
            return planned;
        }
    };
    let roles = &planned.observed.snapshot.roles;
    let per_replica = roles.map(|role| role.gpus_per_replica);
    let current = roles.map(|role| role.current);
    // Replicas requested that have no pods yet will take their GPUs of the room.
    let existing = roles.map(|role| role.ready.saturating_add(role.starting).min(role.current));
    let allowed = gpus(per_replica, existing).saturating_add(room.gpus);
    let limit = allowed.max(gpus(per_replica, current));
    let own = planned.observed.snapshot.policy.budget_gpus;
    if gpus(per_replica, planned.decision.plan.replicas) <= limit {
        return planned;
    }
    let unhindered = planned.decision.plan.replicas;
    let mut planned = limited(limit, planned);
    let to = planned.decision.plan.replicas;
    let gives = |role: Role| to[role] < unhindered[role].min(current[role]);
    if Role::ALL.into_iter().any(gives) {
        // A quota holds back, and takes from no role to give to the other.
        planned.observed.snapshot.policy.budget_gpus = own;
        planned = as_it_is(planned);
    }
    let message = format!(
        "ResourceQuota `{}` has room for {} of {} GPUs (`{}`): raise it, or lower what others of the namespace use",
        room.quota, room.gpus, room.hard_gpus, room.resource
    );
    explain(&mut planned, Reason::QuotaLimited, message);
    planned
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
async fn alone<'a>(context: &Context, service: &Service, planned: Planned<'a>) -> Planned<'a> {
    let Some(budget) = planned.observed.snapshot.policy.budget_gpus else {
        return planned;
    };
    if !planned.grows() {
        return planned;
    }
    match holding::read(&context.client, service).await {
        Ok(holding) => fitted(budget, &holding.without_surge(), planned),
        Err(source) => {
            context.metrics.api_failed("budget");
            let budget = "spec.budget".to_owned();
            refused(&BudgetError::Api { budget, source }, planned)
        }
    }
}

/// A service that shares budgets.
fn shared<'a>(granted: &[(String, Granted)], planned: Planned<'a>) -> Planned<'a> {
    let Some((name, tightest)) = granted.iter().min_by_key(|(_, granted)| granted.cap_gpus) else {
        return planned;
    };
    let mut planned = fitted(tightest.cap_gpus, &tightest.holding, planned);
    if planned.grows() && granted.iter().any(|(_, granted)| !granted.may_grow) {
        planned = as_it_is(planned);
    }
    if tightest.standing != Standing::Granted {
        let reason = accounts::reason(tightest.standing);
        let message = format!("GPUBudget `{name}`: {}", tightest.message);
        explain(&mut planned, reason, message);
    }
    planned
}

/// Nothing grows, for it is not known whether it may.
fn refused<'a>(error: &BudgetError, planned: Planned<'a>) -> Planned<'a> {
    if !planned.grows() {
        return planned;
    }
    let mut planned = as_it_is(planned);
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

/// The plan in which no role has more replicas than are requested now, and none has fewer to make
/// room for another.
fn as_it_is(planned: Planned<'_>) -> Planned<'_> {
    let own = planned.own_rules();
    let current = planned.observed.snapshot.roles.map(|role| role.current);
    let planned = planned.again(|snapshot| {
        snapshot.policy.bounds = own.capped(current);
        // For what bounds cannot say: a role at zero, and a schedule that sets others.
        snapshot.paused.scale_up = true;
    });
    planned.under_own_rules(own)
}

/// The plan that, with all that exists and its surge, holds at most `cap` GPUs if it grows.
fn fitted<'a>(cap: u32, holding: &Holding, planned: Planned<'a>) -> Planned<'a> {
    let current = planned.observed.snapshot.roles.map(|role| role.current);
    let own = planned.observed.snapshot.policy.budget_gpus;
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
        planned = limited(limit, planned);
        let excess = over(&planned);
        if excess == 0 || !planned.grows() {
            return planned;
        }
        limit = limit.saturating_sub(excess);
    }
    // No number of GPUs for both says it: none is added.
    planned.observed.snapshot.policy.budget_gpus = Some(least(own, cap));
    as_it_is(planned)
}

/// The plan under a budget of `limit` GPUs, or the object's own if that is less.
fn limited(limit: u32, planned: Planned<'_>) -> Planned<'_> {
    planned.again(|snapshot| {
        snapshot.policy.budget_gpus = Some(least(snapshot.policy.budget_gpus, limit));
    })
}

/// The budget `own`, if there is one, and at most `limit` GPUs.
fn least(own: Option<u32>, limit: u32) -> u32 {
    own.map_or(limit, |own| own.min(limit))
}
