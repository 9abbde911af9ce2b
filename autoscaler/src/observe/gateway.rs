//! The gateway before a service: found by what Prometheus has, asked in one query or with those of
//! many, and kept until another is found in its place.
//!
//! It is read in the object's own namespace, and in those that the operator names as homes of
//! shared gateways. Whatever is wrong with it never stops a decision: the engines' own metrics
//! count then.

use std::time::Duration;

use kube::runtime::reflector::ObjectRef;
use pd_api::v1alpha1::{PDAutoscaler, PDAutoscalerSpec};
use pd_core::Signals;
use pd_signals::{
    Sample,
    decode::{self, Answers},
    gateway::Gateway,
    queries::{Scope, gateway::GatewayScope},
};

use super::series;
use crate::{
    context::Context,
    poller::{Taken, gateways::Sought},
    prometheus::{Endpoint, QueryError},
};

/// The gateway of an object, as far as it is known.
#[derive(Debug, Default)]
pub struct ReadGateway {
    /// The gateway, if one was found.
    pub gateway: Option<&'static Gateway>,
    /// A sentence without its full stop on what of it is not read, and why.
    pub note: Option<String>,
    /// Why what it counts may not be whole, if the server says so.
    pub warning: Option<QueryError>,
}

/// Whether `spec` lets a gateway be read, and which one if it states that.
fn wanted(spec: &PDAutoscalerSpec) -> (bool, Option<&'static Gateway>) {
    let stated = spec.metrics.gateway;
    (stated.is_read(), Gateway::named(stated.as_str()))
}

/// An object whose gateway is read.
#[derive(Debug)]
pub struct Behind<'a> {
    /// Everything that passes share.
    pub context: &'a Context,
    /// The object.
    pub key: &'a ObjectRef<PDAutoscaler>,
    /// Its spec.
    pub spec: &'a PDAutoscalerSpec,
    /// The server.
    pub endpoint: Result<Endpoint, QueryError>,
    /// Whose the answers are.
    pub scope: &'a Scope,
    /// The answers about its engines.
    pub answers: &'a Answers<QueryError>,
    /// Whether these are part of those about many, which search for gateways too.
    pub is_grouped: bool,
}

/// An answer, and the server's first reason why it may not be whole.
type Answered = (Result<Vec<Sample>, QueryError>, Option<String>);

/// Reads the gateway and puts what it counts into `signals`. `known` is the one that was found
/// before. The error is the time after which the answer is there.
pub async fn read(
    behind: &Behind<'_>,
    known: Option<&'static Gateway>,
    signals: &mut Signals,
) -> Result<ReadGateway, Duration> {
    let (is_read, stated) = wanted(behind.spec);
    if !is_read {
        return Ok(ReadGateway::default());
    }
    let asked = stated.or(known);
    let model = decode::model(behind.answers, behind.scope);
    let (Ok(endpoint), Some(model)) = (&behind.endpoint, model) else {
        // Pods that are gone name no model; the gateway before them may still be there.
        return Ok(ReadGateway {
            gateway: known,
            ..ReadGateway::default()
        });
    };
    let shared = &behind.context.metrics_args.gateway_namespaces;
    let mut scope = GatewayScope::of(behind.scope, asked, model, shared);
    let (found, (answer, warning)) = if behind.is_grouped {
        behind.of_many(endpoint, &mut scope, stated).await?
    } else {
        behind.alone(endpoint, &mut scope, stated).await
    };
    let note = match (found, stated) {
        (Some(gateway), _) => decode::add_gateway(&answer, gateway, signals),
        (None, Some(stated)) if answer.is_ok() => Some(missing(stated, &scope.namespaces)),
        (None, _) => None,
    };
    signals.answer_partial |= warning.is_some();
    Ok(ReadGateway {
        // One that was there and is not found at the moment is not forgotten.
        gateway: found.or(scope.gateway.filter(|_| answer.is_err())),
        note,
        warning: warning.map(|cause| QueryError::Partial {
            server: endpoint.url.clone(),
            cause,
        }),
    })
}

impl Behind<'_> {
    /// Asks about the gateway of `scope`, and again where another one is there.
    async fn alone(
        &self,
        endpoint: &Endpoint,
        scope: &mut GatewayScope,
        stated: Option<&'static Gateway>,
    ) -> (Option<&'static Gateway>, Answered) {
        let mut answered = self.query(endpoint, scope).await;
        let found = decode::gateway_found(&answered.0, stated);
        let is_known =
            |found: &Gateway| scope.gateway.is_some_and(|known| known.name == found.name);
        if let Some(other) = found.filter(|found| !is_known(found)) {
            scope.gateway = Some(other);
            answered = self.query(endpoint, scope).await;
        }
        (found, answered)
    }

    /// The gateway that the answers about many have found, and what it counts by those about the
    /// gateways of many.
    async fn of_many(
        &self,
        endpoint: &Endpoint,
        scope: &mut GatewayScope,
        stated: Option<&'static Gateway>,
    ) -> Result<(Option<&'static Gateway>, Answered), Duration> {
        let Some(found) = decode::gateway_found(&self.answers.state, stated) else {
            return Ok((None, (self.answers.state.clone(), None)));
        };
        scope.gateway = Some(found);
        let sought = Sought::of(scope, found);
        let taken = sought.map(|sought| self.context.poller.take_gateway(self.key, sought));
        let answered = match taken {
            Some(Taken::Here(counted)) => (counted.rows, counted.warning),
            Some(Taken::Soon(wait)) => return Err(wait),
            Some(Taken::Apart) | None => self.query(endpoint, scope).await,
        };
        let found = Some(found).filter(|_| answered.0.is_ok());
        Ok((found, answered))
    }

    async fn query(&self, endpoint: &Endpoint, scope: &GatewayScope) -> Answered {
        match self.context.query(endpoint, &scope.query()).await {
            Ok(answer) => {
                let warning = answer.warnings.first().cloned();
                (Ok(series::samples(answer)), warning)
            }
            Err(error) => {
                self.context.metrics.query_failed(&error);
                (Err(error), None)
            }
        }
    }
}

/// A sentence without its full stop about a gateway that the spec states and Prometheus lacks.
fn missing(gateway: &Gateway, namespaces: &[String]) -> String {
    let names: Vec<String> = gateway
        .names()
        .into_iter()
        .map(|name| format!("`{name}`"))
        .collect();
    format!(
        "no series of gateway `{}` is found in namespaces {} under {}, so the engines' metrics count",
        gateway.name,
        namespaces.join(", "),
        names.join(" or ")
    )
}
