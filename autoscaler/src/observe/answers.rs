//! The answers about one object: its own queries at once, or its part of those about many.
//!
//! Both are the same to whoever reads them, but for the time that passed since many were asked
//! about, by which the newest samples are older. The user's own queries are always sent for the
//! object alone.

use std::{
    slice,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use kube::runtime::reflector::ObjectRef;
use pd_api::v1alpha1::{PDAutoscaler, PDAutoscalerSpec};
use pd_signals::{
    Sample,
    decode::{self, Answers, Overrides},
    queries::Scope,
};
use tokio::time::Instant;

use super::{attainment::kept_for, login, series};
use crate::{
    context::{Context, NO_SERVER},
    poller::{Ask, Taken, here::Here, read::Place},
    prometheus::{Endpoint, QueryError},
};

/// The server that is asked about an object.
pub async fn endpoint(
    context: &Context,
    key: &ObjectRef<PDAutoscaler>,
    spec: &PDAutoscalerSpec,
) -> Result<Endpoint, QueryError> {
    match &spec.metrics.source {
        Some(source) => login::endpoint(context, key, source).await,
        None => context.own_server.clone().ok_or(NO_SERVER),
    }
}

/// How an object is asked about.
#[derive(Debug)]
pub struct Asking<'a> {
    /// Everything that passes share.
    pub context: &'a Context,
    /// The object.
    pub key: &'a ObjectRef<PDAutoscaler>,
    /// Its spec.
    pub spec: &'a PDAutoscalerSpec,
    /// The server.
    pub endpoint: &'a Result<Endpoint, QueryError>,
    /// The object as queries about many name it, where they can.
    pub place: Option<Place>,
    /// Whether any engine may run.
    pub any_engine: bool,
}

/// Answers, and how they were asked for.
#[derive(Debug)]
pub struct Asked {
    /// The answers.
    pub answers: Answers<QueryError>,
    /// Whose they are.
    pub scope: Scope,
    /// The first warning that an answer is not whole.
    pub warning: Option<QueryError>,
    /// Whether attainment was not asked for.
    pub is_attainment_kept: bool,
    /// When attainment was asked for.
    pub attainment_read_at: Instant,
    /// Whether they are part of those about many, which search for gateways too.
    pub is_grouped: bool,
    /// How long ago they were asked for, if they are.
    pub waited: Duration,
}

/// Asks about an object, and again where the answer shows that the engine's metrics are spelt
/// otherwise or, where any may run, that another engine does. Attainment that is kept is not asked
/// for. The error is the time after which the answers are there.
pub async fn asked(
    asking: &Asking<'_>,
    scope: Scope,
    is_attainment_kept: bool,
) -> Result<Asked, Duration> {
    let asked = asking.once(scope, is_attainment_kept).await?;
    let Some(found) = decode::another(&asked.answers, &asked.scope, asking.any_engine) else {
        return Ok(asked);
    };
    let scope = Scope {
        engine: found.engine,
        prefix: found.prefix.clone(),
        ..asked.scope
    };
    let again = asking.once(scope, false).await;
    if again.is_err() {
        // The next pass begins with what this one found.
        asking.context.update(asking.key, |state| {
            state.series.engine = Some(found.engine);
            state.series.prefix = found.prefix;
        });
    }
    again
}

impl Asking<'_> {
    /// The answers of `scope`.
    async fn once(&self, scope: Scope, is_attainment_kept: bool) -> Result<Asked, Duration> {
        let here = match self.take(&scope, !is_attainment_kept) {
            Taken::Here(here) => Some(*here),
            Taken::Soon(wait) => return Err(wait),
            Taken::Apart => None,
        };
        let of_many = here.as_ref().and_then(|here| here.attainment.as_ref());
        let attainment_read_at = of_many.map_or_else(Instant::now, |(_, at)| *at);
        let is_grouped = here.is_some();
        let waited = here.as_ref().map_or(Duration::ZERO, |here| here.age);
        let (answers, warning) = answers(self, &scope, is_attainment_kept, here).await;
        Ok(Asked {
            answers,
            scope,
            warning,
            is_attainment_kept,
            attainment_read_at,
            is_grouped,
            waited,
        })
    }

    /// The part of the object in the answers about many.
    fn take(&self, scope: &Scope, needs_attainment: bool) -> Taken {
        let place = self.place.as_ref();
        // Which pods have the least work is a question of this moment.
        let drains = self.spec.behavior.scale_down.drain.is_some();
        let is_apart = drains || self.spec.metrics.source.is_some();
        let Some(place) = place.filter(|_| !is_apart) else {
            self.context.poller.forget(self.key);
            return Taken::Apart;
        };
        let ask = Ask {
            scope,
            place: place.clone(),
            needs_attainment,
            attainment_kept: kept_for(scope),
        };
        let taken = self.context.poller.take(self.key, ask);
        if self.context.poller.is_on() {
            self.context.metrics.taken(&taken);
        }
        taken
    }
}

/// Sends queries of an object, and notes the warnings of their answers.
#[derive(Clone, Copy)]
struct Queries<'a> {
    asking: &'a Asking<'a>,
    scope: &'a Scope,
    warnings: &'a Warnings,
}

impl Queries<'_> {
    async fn send(self, text: String) -> Answered {
        let endpoint = self.asking.endpoint.as_ref().map_err(Clone::clone)?;
        let answer = self.asking.context.query(endpoint, &text).await?;
        self.warnings.add(endpoint, &answer.warnings);
        Ok(series::samples(answer))
    }

    /// The answer to the user's own query `text` in `field`, if there is one.
    async fn stated(self, field: &'static str, text: Option<&String>) -> Option<Answered> {
        let (text, scope) = (text?, self.scope);
        let namespace = (scope.namespace_label.as_str(), scope.namespace.as_str());
        let endpoint = self.asking.endpoint.as_ref();
        let allowed = endpoint.map_err(Clone::clone).and_then(|endpoint| {
            let tenancy = &self.asking.context.tenancy;
            tenancy.query(field, text, endpoint.owner, namespace)
        });
        Some(match allowed {
            Ok(text) => self.send(text).await,
            Err(error) => Err(error),
        })
    }

    /// The answers to the four queries about the engines, or those that are `here`.
    async fn of_engines(self, is_attainment_kept: bool, here: Option<Here>) -> OfEngines {
        if let Some(here) = here {
            if let (Some(warning), Ok(endpoint)) = (&here.warning, self.asking.endpoint) {
                self.warnings.add(endpoint, slice::from_ref(warning));
            }
            return of_many(here);
        }
        let scope = self.scope;
        futures::join!(
            self.send(scope.state_query()),
            self.send(scope.histogram_query()),
            self.send(scope.wide_query()),
            async {
                if is_attainment_kept {
                    Ok(Vec::new())
                } else {
                    self.send(scope.attainment_query()).await
                }
            },
        )
    }
}

/// The answers, and the first warning among them.
async fn answers(
    asking: &Asking<'_>,
    scope: &Scope,
    is_attainment_kept: bool,
    here: Option<Here>,
) -> (Answers<QueryError>, Option<QueryError>) {
    let warnings = Warnings::default();
    let queries = Queries {
        asking,
        scope,
        warnings: &warnings,
    };
    let own = asking.spec.metrics.overrides.clone().unwrap_or_default();
    let wake = asking.spec.scale_to_zero.as_ref();
    let wake = wake.map(|zero| &zero.wake_signal);
    let ((state, histograms, wide, attainment), ttft, tpot, arrival_rate, wake) = futures::join!(
        queries.of_engines(is_attainment_kept, here),
        queries.stated("spec.metrics.overrides.ttft", own.ttft.as_ref()),
        queries.stated("spec.metrics.overrides.tpot", own.tpot.as_ref()),
        queries.stated(
            "spec.metrics.overrides.arrivalRate",
            own.arrival_rate.as_ref()
        ),
        queries.stated("spec.scaleToZero.wakeSignal", wake),
    );
    let warning = warnings.first();
    let answers = Answers {
        partial: warning.is_some(),
        state,
        histograms,
        wide,
        attainment,
        overrides: Overrides {
            ttft,
            tpot,
            arrival_rate,
            wake,
        },
    };
    (answers, warning)
}

/// An answer.
type Answered = Result<Vec<Sample>, QueryError>;

/// The answers to the queries of a [`Scope`], in their order.
type OfEngines = (Answered, Answered, Answered, Answered);

/// The same, out of those about many.
fn of_many(here: Here) -> OfEngines {
    let mut state = here.state;
    if let Ok(samples) = &mut state {
        decode::grow_old(samples, here.age);
    }
    let attainment = here
        .attainment
        .map_or_else(|| Ok(Vec::new()), |(answer, _)| answer);
    (state, here.histograms, here.wide, attainment)
}

/// The first warning of answers that come at once.
#[derive(Default)]
struct Warnings(Mutex<Option<QueryError>>);

impl Warnings {
    fn add(&self, endpoint: &Endpoint, warnings: &[String]) {
        let Some(cause) = warnings.first() else {
            return;
        };
        let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert_with(|| QueryError::Partial {
            server: endpoint.url.clone(),
            cause: cause.clone(),
        });
    }

    fn first(self) -> Option<QueryError> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}
