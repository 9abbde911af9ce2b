//! The emulator's HTTP interface, for Prometheus and for tests.
//!
//! `GET /sd` lists targets, `GET /pods/{namespace}/{pod}/metrics` is what one engine would answer,
//! `PUT /load` states the load, `GET /state` tells the truth. A pod that does not serve has no
//! metrics: 404, which Prometheus shows as a target that is down.

use std::net::SocketAddr;

use axum::{
    Json, Router,
    extract::{Path, State as Extracted},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, put},
};

use super::{LoadChange, Shared, World};

#[derive(Clone, Debug)]
struct Served {
    shared: Shared,
    address: String,
}

pub(super) fn router(shared: Shared, address: SocketAddr) -> Router {
    Router::new()
        .route("/sd", get(targets))
        .route("/pods/{namespace}/{pod}/metrics", get(metrics))
        .route("/load", put(load))
        .route("/state", get(state))
        .with_state(Served {
            shared,
            address: address.to_string(),
        })
}

async fn targets(Extracted(served): Extracted<Served>) -> Response {
    let targets = served
        .shared
        .with(|world, now| world.targets(now, &served.address));
    Json(targets).into_response()
}

async fn metrics(
    Extracted(served): Extracted<Served>,
    Path((namespace, pod)): Path<(String, String)>,
) -> Response {
    let text = served
        .shared
        .with(|world, now| world.metrics(now, &namespace, &pod));
    match text {
        Some(text) => {
            let kind = "text/plain; version=0.0.4; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        None => (StatusCode::NOT_FOUND, "this pod does not serve\n").into_response(),
    }
}

async fn load(Extracted(served): Extracted<Served>, Json(change): Json<LoadChange>) -> Response {
    match served
        .shared
        .with(|world, now| world.set_load(now, &change))
    {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => (StatusCode::UNPROCESSABLE_ENTITY, format!("{error}\n")).into_response(),
    }
}

async fn state(Extracted(served): Extracted<Served>) -> Response {
    Json(served.shared.with(World::state)).into_response()
}
