//! The loop over all PDAutoscalers, and one reconcile of one of them.
//!
//! The loop runs only while this process leads. A reconcile is five steps, a file for each; each
//! value is the only input of the next step. Objects that cannot be decoded harm no other: they are
//! watched behind a guard. A reconcile whose status cannot be written is tried again after a pause.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::StreamExt as _;
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
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::{
    Guarded,
    apply::apply,
    context::Context,
    error::ReconcileError,
    observe::{contention::Claims, observe},
    outcome::{ApplyOutcome, ReconcileOutcome},
    plan::plan,
    report::{conditions::ready, report},
    validate::validate,
};

/// Pause after a reconcile that could not write status, or could not learn who else scales a
/// target.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// How old the overview of all objects may be. Looking at all of them in every reconcile would make
/// the work grow with the square of their number.
const OVERVIEW_AGE_MAX: Duration = Duration::from_secs(2);

/// The context, and the objects as last watched: shared by reconciles and the loop.
#[derive(Debug)]
struct Shared {
    context: Arc<Context>,
    store: Store<Guarded>,
    overview: Mutex<Overview>,
}

/// Results of looking at all objects together.
#[derive(Clone, Debug, Default)]
struct Overview {
    made_at: Option<Instant>,
    claims: Arc<Claims>,
}

/// Decides for all PDAutoscalers until `stop` completes.
pub async fn run(
    context: Arc<Context>,
    api: Api<Guarded>,
    stop: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let controller = Controller::new(api, watcher::Config::default());
    let store = controller.store();
    let config = controller::Config::default().concurrency(context.decision_args.concurrency);
    let overview = Mutex::default();
    let shared = Arc::new(Shared {
        context,
        store,
        overview,
    });
    let reconciles = controller
        .with_config(config)
        .graceful_shutdown_on(stop)
        .run(reconcile, failed, Arc::clone(&shared));
    reconciles
        .for_each(|result| {
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
        })
        .await;
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature is the controller runtime's"
)]
fn failed(_: Arc<Guarded>, error: &ReconcileError, shared: Arc<Shared>) -> Action {
    warn!(%error, "reconcile failed, trying again");
    shared.context.metrics.api_failed(error.category());
    Action::requeue(RETRY_AFTER)
}

/// One trip through all steps for one object.
async fn reconcile(object: Arc<Guarded>, shared: Arc<Shared>) -> Result<Action, ReconcileError> {
    let context = &*shared.context;
    let key = ObjectRef::new(&object.name_any()).within(&object.namespace().unwrap_or_default());
    if !context.is_leader() {
        return Ok(Action::await_change());
    }
    if let Some(wait) = not_due(context, &key, &object) {
        return Ok(Action::requeue(wait));
    }
    let started = Instant::now();

    // Boxed, for the many requests of the steps make the future large.
    let outcome: ReconcileOutcome = Box::pin(async {
        let valid = validate(&object)?;
        let observed = observe(context, &key, valid, &shared.claims()).await?;
        let planned = plan(observed, &context.memory(&key, &object), context.now());
        context.remember(&key, &planned.decision.memory);
        Ok(apply(context, &key, planned).await)
    })
    .await;
    report(context, &key, &object, &outcome).await?;

    let reason = ready(&outcome).reason;
    context.metrics.reconciled(reason, started.elapsed());
    if outcome.is_ok_and(|applied| matches!(applied.outcome, ApplyOutcome::ContentionUnknown(_))) {
        return Ok(Action::requeue(RETRY_AFTER));
    }
    let seen = Some((object.meta().generation, object.annotations().clone()));
    context.update(&key, |state| {
        state.seen = seen;
        state.reconciled_at = Some(Instant::now());
    });
    Ok(Action::requeue(context.decision_args.interval))
}

impl Shared {
    /// Who has a right to which workload, from all objects as watched a moment ago.
    fn claims(&self) -> Arc<Claims> {
        let mut overview = self.overview.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = |at: Instant| at.elapsed() < OVERVIEW_AGE_MAX;
        if !overview.made_at.is_some_and(fresh) {
            let objects = self.store.state();
            let decoded = objects.iter().filter_map(|guarded| guarded.0.as_ref().ok());
            overview.claims = Arc::new(Claims::of(decoded));
            overview.made_at = Some(Instant::now());
        }
        Arc::clone(&overview.claims)
    }
}

/// How long to wait when the last reconcile saw this very spec and is not an interval ago: our own
/// status writes wake us too.
fn not_due(context: &Context, key: &ObjectRef<PDAutoscaler>, object: &Guarded) -> Option<Duration> {
    let interval = context.decision_args.interval;
    context.read(key, |state| {
        let (generation, annotations) = state.seen.as_ref()?;
        let same = *generation == object.meta().generation && annotations == object.annotations();
        // A timer that fires a moment early must not cost a whole interval.
        let wait = interval
            .mul_f64(0.9)
            .checked_sub(state.reconciled_at?.elapsed())?;
        same.then_some(wait + interval.mul_f64(0.1))
    })
}
