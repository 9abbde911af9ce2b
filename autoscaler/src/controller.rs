//! The loop over all PDAutoscalers, and one reconcile of one of them.
//!
//! The loop runs only while this process leads. A reconcile is five steps, a file for each; each
//! value is the only input of the next step. Objects that cannot be decoded harm no other: they are
//! watched behind a guard. A reconcile whose status cannot be written is tried again after a pause.

use std::{
    any::Any,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{FutureExt as _, StreamExt as _};
use kube::{
    Api, Resource as _, ResourceExt as _,
    runtime::{
        Controller, controller,
        controller::Action,
        reflector::{ObjectRef, Store},
        watcher,
    },
};
use pd_api::v1alpha1::PDAutoscaler;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, warn};

use crate::{
    Guarded,
    apply::apply,
    budget::{self, Budgets, members::Service},
    checkpoint::{keep, recall, subject},
    context::{Context, Lateness},
    error::ReconcileError,
    observe::{contention::Claims, observe},
    outcome::{Applied, ApplyOutcome, Stopped, Unobserved},
    placement,
    plan::plan,
    poller::round::Round,
    report::{
        conditions::{lateness::is_late, ready},
        report,
    },
    share::TURN_AFTER,
    validate::validate,
};

/// First pause after a reconcile that could not write status, or could not learn who else scales a
/// target.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Longest pause after many such reconciles in a row.
const RETRY_AFTER_MAX: Duration = Duration::from_mins(1);

/// Pause in which changes of one object are gathered into one reconcile.
const DEBOUNCE: Duration = Duration::from_millis(300);

/// Longest time to read everything about one object: an answer of the API server and one of
/// Prometheus, each at its limit, and some time for the others.
const OBSERVE_WITHIN: Duration = Duration::from_secs(45);

/// How old the overview of all objects may be. Looking at all of them in every reconcile would make
/// the work grow with the square of their number.
const OVERVIEW_AGE_MAX: Duration = Duration::from_secs(2);

/// The context, and the objects as last watched: shared by reconciles and the loop.
#[derive(Debug)]
struct Shared {
    context: Arc<Context>,
    budgets: Budgets,
    store: Store<Guarded>,
    overview: Mutex<Overview>,
}

/// Results of looking at all objects together.
#[derive(Clone, Debug, Default)]
struct Overview {
    made_at: Option<Instant>,
    claims: Arc<Claims>,
    /// The services that budgets are shared by.
    services: Arc<Vec<Service>>,
}

/// Decides for all PDAutoscalers until `stop` completes.
pub async fn run(
    context: Arc<Context>,
    api: Api<Guarded>,
    stop: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let controller = Controller::new(api, watcher::Config::default());
    let store = controller.store();
    let config = controller::Config::default()
        .concurrency(context.decision_args.concurrency)
        .debounce(DEBOUNCE);
    let overview = Mutex::default();
    let shared = Arc::new(Shared {
        context,
        budgets: Budgets::of_new_term(),
        store,
        overview,
    });
    let budgets = follow_budgets(Arc::clone(&shared));
    let polls = follow_metrics(Arc::clone(&shared.context));
    let reconciles = controller
        .with_config(config)
        .graceful_shutdown_on(stop)
        .run(reconcile, failed, Arc::clone(&shared));
    let reconciles = reconciles.for_each(|result| {
        match result {
            Ok((object, _)) => debug!(object = %object, "reconciled"),
            Err(controller::Error::ReconcilerFailed(..)) => {} // reported by `failed`
            Err(controller::Error::ObjectNotFound(object)) => {
                debug!(object = %object, "gone");
                let namespace = object.namespace.unwrap_or_default();
                let key = ObjectRef::new(&object.name).within(&namespace);
                shared.context.forget(&key);
            }
            Err(error) => warn!(%error, "watching PDAutoscalers failed, trying again"),
        }
        futures::future::ready(())
    });
    tokio::select! {
        () = reconciles => {}
        () = budgets => {}
        () = polls => {}
    }
}

/// Reads objects together, where that is wanted. Never ends.
async fn follow_metrics(context: Arc<Context>) {
    if !context.poller.is_on() {
        return std::future::pending().await;
    }
    let report = |round: Round| context.metrics.polled(&round);
    Box::pin(context.poller.follow(&*context, report)).await;
}

/// Follows the GPU budgets, and looks after those that nobody claims. Never ends.
async fn follow_budgets(shared: Arc<Shared>) {
    let context = &*shared.context;
    let budgets = &shared.budgets;
    // Who sees one namespace alone may not read what belongs to the cluster.
    if context.decision_args.watch_namespace.is_some() {
        budgets.watched.none();
        return std::future::pending().await;
    }
    let sweeps = async {
        loop {
            sleep(context.decision_args.interval).await;
            let any = budgets.watched.budgets().is_ok_and(|all| !all.is_empty());
            if any && context.is_leader() {
                budgets.sweep(context, &shared.overview().services).await;
            }
        }
    };
    futures::join!(
        budgets.watched.follow(&context.client),
        budgets
            .watched
            .follow_namespaces(&context.client, context.decision_args.interval),
        sweeps,
    );
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature is the controller runtime's"
)]
fn failed(object: Arc<Guarded>, error: &ReconcileError, shared: Arc<Shared>) -> Action {
    warn!(%error, "reconcile failed, trying again");
    shared.context.metrics.api_failed(error.category());
    Action::requeue(retry_after(&shared.context, &object))
}

fn key(object: &Guarded) -> ObjectRef<PDAutoscaler> {
    ObjectRef::new(&object.name_any()).within(&object.namespace().unwrap_or_default())
}

/// The pause before the next try: twice as long after each failure in a row, and not the same for
/// objects that failed together.
fn retry_after(context: &Context, object: &Guarded) -> Duration {
    let key = key(object);
    let failures = context
        .read(&key, |state| Some(state.failures))
        .unwrap_or(0);
    let pause = RETRY_AFTER.saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX));
    let pause = pause
        .min(RETRY_AFTER_MAX)
        .mul_f64(1.0 + jitter(&key, failures));
    let next = Instant::now() + pause;
    await_time(context, object, next - DEBOUNCE.min(pause), next);
    context.update(&key, |state| state.failures = failures.saturating_add(1));
    pause
}

/// Leaves `object` as it is now alone until `due`; its reconcile is `expected` then or a little
/// later.
fn await_time(context: &Context, object: &Guarded, due: Instant, expected: Instant) {
    let seen = (object.meta().generation, object.annotations().clone());
    context.update(&key(object), |state| {
        state.seen = Some(seen);
        state.due = Some(due);
        state.expected_at = Some(expected);
    });
}

/// A share from 0 to a quarter that differs between objects and tries.
fn jitter(key: &ObjectRef<PDAutoscaler>, failures: u32) -> f64 {
    let mut hasher = DefaultHasher::new();
    (&key.namespace, &key.name, failures).hash(&mut hasher);
    let [byte, ..] = hasher.finish().to_le_bytes();
    f64::from(byte) / f64::from(u8::MAX) / 4.0
}

/// One trip through all steps for one object.
async fn reconcile(object: Arc<Guarded>, shared: Arc<Shared>) -> Result<Action, ReconcileError> {
    let context = &*shared.context;
    let key = key(&object);
    if !context.is_leader() {
        return Ok(Action::await_change());
    }
    if !context.selection.includes(&object) {
        // It may have been ours: it is another controller's now, which shows it.
        context.forget(&key);
        return Ok(Action::await_change());
    }
    if let Some(wait) = not_due(context, &key, &object) {
        return Ok(Action::requeue(wait));
    }
    let namespace = key.namespace.as_deref().unwrap_or_default();
    let Some(_running) = context.shares.enter(namespace, &key.name) else {
        return Ok(Action::requeue(TURN_AFTER));
    };
    let started = Instant::now();
    note_lateness(context, &key, started);

    // Boxed, for the many requests of the steps make the future large.
    let steps = Box::pin(steps(&shared, &key, &object));
    // A bug that one object meets must not end the others.
    let outcome = AssertUnwindSafe(steps).catch_unwind().await;
    let outcome = outcome.unwrap_or_else(|panic| {
        context.metrics.panicked();
        Err(Stopped::Panicked(words(&*panic)).into())
    });
    let outcome = match outcome {
        Ok(applied) => Ok(applied),
        Err(Unobserved::Stopped(stopped)) => Err(*stopped),
        Err(Unobserved::Soon(wait)) => return Ok(Action::requeue(wait)),
    };
    shared.budgets.heard(&key, &outcome);
    let reported = AssertUnwindSafe(Box::pin(report(context, &key, &object, &outcome)));
    reported.catch_unwind().await.unwrap_or_else(|panic| {
        context.metrics.panicked();
        Err(ReconcileError::Panicked(words(&*panic)))
    })?;

    let reason = ready(&outcome).reason;
    context.metrics.reconciled(reason, started.elapsed());
    if outcome.is_ok_and(|applied| matches!(applied.outcome, ApplyOutcome::ContentionUnknown(_))) {
        return Ok(Action::requeue(retry_after(context, &object)));
    }
    let interval = context.decision_args.interval;
    // A timer that fires a moment early must not cost a whole interval.
    let due = started + interval.mul_f64(0.9);
    await_time(context, &object, due, started + interval);
    context.update(&key, |state| state.failures = 0);
    // From start to start, so that a slow reconcile does not make the next one late.
    let spent = started.elapsed() + DEBOUNCE;
    Ok(Action::requeue(interval.saturating_sub(spent)))
}

/// Everything between an object and its report.
async fn steps(
    shared: &Shared,
    key: &ObjectRef<PDAutoscaler>,
    object: &Guarded,
) -> Result<Box<Applied>, Unobserved> {
    let context = &*shared.context;
    let valid = validate(object)?;
    let claims = shared.overview().claims;
    let observed = timeout(OBSERVE_WITHIN, observe(context, key, valid, &claims));
    let observed = observed
        .await
        .unwrap_or_else(|_| Err(Stopped::TooSlow(OBSERVE_WITHIN).into()))?;
    let subject = subject(
        observed.object,
        &observed.snapshot.roles,
        observed.sources.engine,
    );
    let memory = recall(context, key, observed.object, &subject).await;
    let memory = memory.map_err(Stopped::MemoryUnreadable)?;
    let planned = plan(observed, &memory, context.now());
    let limit = placement::limit(context, &planned).await;
    let planned = placement::under(limit.as_ref(), planned);
    let services = || shared.overview().services;
    let within = budget::within(context, &shared.budgets, key, services, planned);
    let planned = placement::explained(limit, Box::pin(within).await);
    let (object, memory) = (planned.observed.object, planned.decision.memory.clone());
    let about = (
        object.meta().uid.clone().unwrap_or_default(),
        subject.clone(),
    );
    context.update(key, |state| state.memory = Some((about, memory.clone())));
    let applied = Box::pin(apply(context, key, planned)).await;
    if context.is_leader()
        && let Err(error) = keep(context, key, object, &subject, &memory).await
    {
        warn!(%error, namespace = key.namespace, name = key.name, "the checkpoint cannot be written");
        context.metrics.api_failed("checkpoint");
    }
    Ok(applied)
}

/// The words of a panic.
fn words(panic: &(dyn Any + Send)) -> String {
    let fixed = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let words = fixed.or_else(|| panic.downcast_ref::<String>().cloned());
    words.unwrap_or_else(|| "it left no words".to_owned())
}

/// Measures how long after its time the reconcile that began at `started` did; the first has none.
fn note_lateness(context: &Context, key: &ObjectRef<PDAutoscaler>, started: Instant) {
    let Some(expected) = context.read(key, |state| state.expected_at) else {
        return;
    };
    let by = started.saturating_duration_since(expected);
    context.metrics.was_late(by);
    if is_late(by, context.decision_args.interval) {
        let late = Lateness { at: started, by };
        context.update(key, |state| state.late = Some(late));
    }
}

impl Shared {
    /// Who has a right to which workload, and who shares budgets, from all objects as watched a
    /// moment ago.
    fn overview(&self) -> Overview {
        let mut overview = self.overview.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = |at: Instant| at.elapsed() < OVERVIEW_AGE_MAX;
        if !overview.made_at.is_some_and(fresh) {
            let objects = self.store.state();
            let decoded = objects.iter().filter_map(|guarded| guarded.0.as_ref().ok());
            overview.claims = Arc::new(Claims::of(decoded.clone()));
            overview.services = Arc::new(Service::scaled(decoded));
            overview.made_at = Some(Instant::now());
        }
        overview.clone()
    }
}

/// How long to wait when the last reconcile saw this very spec and the next is not due yet: our own
/// status writes wake us too.
fn not_due(context: &Context, key: &ObjectRef<PDAutoscaler>, object: &Guarded) -> Option<Duration> {
    context.read(key, |state| {
        let (generation, annotations) = state.seen.as_ref()?;
        let same = *generation == object.meta().generation && annotations == object.annotations();
        let wait = state.due?.checked_duration_since(Instant::now())?;
        (same && !wait.is_zero()).then_some(wait)
    })
}
