//! The gateway before a service: found by what Prometheus has, asked in one query, and kept until
//! another is found in its place.
//!
//! It is read in the object's own namespace, and in those that the operator names as homes of
//! shared gateways. Whatever is wrong with it never stops a decision: the engines' own metrics
//! count then.

use pd_api::v1alpha1::PDAutoscalerSpec;
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
    prometheus::{Endpoint, QueryError},
};

/// The gateway of an object, as far as it is known.
#[derive(Debug, Default)]
pub struct ReadGateway {
    /// The gateway, if one was found.
    pub gateway: Option<&'static Gateway>,
    /// A sentence without its full stop on what of it is not read, and why.
    pub note: Option<String>,
}

/// Whether `spec` lets a gateway be read, and which one if it states that.
fn wanted(spec: &PDAutoscalerSpec) -> (bool, Option<&'static Gateway>) {
    let stated = spec.metrics.gateway;
    (stated.is_read(), Gateway::named(stated.as_str()))
}

/// Asks about the gateway and puts what it counts into `signals`. `known` is the one that was found
/// before. Grouped answers have searched for gateways already.
pub async fn read(
    context: &Context,
    spec: &PDAutoscalerSpec,
    endpoint: Result<Endpoint, QueryError>,
    (scope, answers, is_grouped): (&Scope, &Answers<QueryError>, bool),
    known: Option<&'static Gateway>,
    signals: &mut Signals,
) -> ReadGateway {
    let (is_read, stated) = wanted(spec);
    if !is_read {
        return ReadGateway::default();
    }
    let asked = stated.or(known);
    let (Ok(endpoint), Some(model)) = (endpoint, decode::model(answers, scope)) else {
        // Pods that are gone name no model; the gateway before them may still be there.
        return ReadGateway {
            gateway: known,
            note: None,
        };
    };
    let shared = &context.metrics_args.gateway_namespaces;
    let mut scope = GatewayScope::of(scope, asked, model, shared);
    let mut answer = match asked {
        None if is_grouped => answers.state.clone(),
        _ => query(context, &endpoint, &scope).await,
    };
    let found = decode::gateway_found(&answer, stated);
    if let Some(other) = found.filter(|found| asked.is_none_or(|asked| asked.name != found.name)) {
        scope.gateway = Some(other);
        answer = query(context, &endpoint, &scope).await;
    }
    if let Err(error) = &answer {
        context.metrics.query_failed(error);
    }
    let note = match (found, stated) {
        (Some(gateway), _) => decode::add_gateway(&answer, gateway, signals),
        (None, Some(stated)) if answer.is_ok() => Some(missing(stated, &scope.namespaces)),
        (None, _) => None,
    };
    ReadGateway {
        // One that was there and is not found at the moment is not forgotten.
        gateway: found.or(asked.filter(|_| answer.is_err())),
        note,
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

async fn query(
    context: &Context,
    endpoint: &Endpoint,
    scope: &GatewayScope,
) -> Result<Vec<Sample>, QueryError> {
    let answer = context.query(endpoint, &scope.query()).await;
    answer.map(series::samples)
}
