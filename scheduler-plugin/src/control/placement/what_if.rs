//! What-if over HTTP: would more replicas of a group have places?
//!
//! `GET /what-if/NAMESPACE/GROUP?prefill=1&decode=2` is answered by every replica whose caches are
//! filled, for a question depends on the cluster alone. Nothing is changed. One question is worked
//! on at a time, so that nobody takes the processor from placing, and who has to wait too long is
//! told to come again. Answers say where there is room, which is why the port is for the cluster's
//! own programs.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use pd_placement::{
    gate::{GateSettings, RoomError, room},
    what_if::WhatIfError,
};
use serde_json::json;
use tokio::{sync::Semaphore, time::timeout};

use super::{
    caches::Caches,
    look::{Look, wall_seconds},
};

/// Longest wait for the question before. The planner takes less than a second for 1,000 groups.
const WAIT: Duration = Duration::from_secs(2);

/// The state of the server.
#[derive(Clone)]
struct WhatIf {
    caches: Caches,
    turn: Arc<Semaphore>,
}

/// The routes.
pub fn router(caches: Caches) -> Router {
    let state = WhatIf {
        caches,
        turn: Arc::new(Semaphore::new(1)),
    };
    Router::new()
        .route("/what-if/{namespace}/{group}", get(answer))
        .fallback(|| async {
            let message =
                "ask GET /what-if/NAMESPACE/GROUP?ROLE=REPLICAS, such as ?prefill=1&decode=2";
            fault(StatusCode::NOT_FOUND, message)
        })
        .with_state(state)
}

async fn answer(
    State(WhatIf { caches, turn }): State<WhatIf>,
    Path((namespace, name)): Path<(String, String)>,
    more: Result<Query<BTreeMap<String, u32>>, QueryRejection>,
) -> Response {
    let more = match more {
        Ok(Query(more)) => more,
        Err(error) => {
            let message = format!(
                "the query cannot be read ({}): write ROLE=REPLICAS, such as prefill=1&decode=2",
                error.body_text()
            );
            return fault(StatusCode::BAD_REQUEST, &message);
        }
    };
    if !caches.are_listed() {
        let message = "the cluster is not listed yet: ask when /readyz says so";
        return fault(StatusCode::SERVICE_UNAVAILABLE, message);
    }
    if let Some(kind) = caches.failing() {
        let message = format!("the watch of {kind} fails, so the answer would be of before");
        return fault(StatusCode::SERVICE_UNAVAILABLE, &message);
    }
    let Ok(Ok(_turn)) = timeout(WAIT, turn.acquire()).await else {
        let message = "other questions are worked on: ask again in a second";
        return fault(StatusCode::SERVICE_UNAVAILABLE, message);
    };
    let group = format!("{namespace}/{name}");
    let work = move || {
        let seen = Look::at(&caches).seen(wall_seconds(), GateSettings::default());
        room(&seen, &group, &more)
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(room)) => Json(room).into_response(),
        Ok(Err(error)) => fault(status(&error), &error.to_string()),
        Err(_) => {
            tracing::error!("a question about placement panicked");
            fault(StatusCode::INTERNAL_SERVER_ERROR, "the planner failed")
        }
    }
}

const fn status(error: &RoomError) -> StatusCode {
    match error {
        RoomError::NoGroup(_) | RoomError::Question(WhatIfError::UnknownGroup(_)) => {
            StatusCode::NOT_FOUND
        }
        RoomError::NotPlanned { .. } | RoomError::Question(WhatIfError::Refused(_)) => {
            StatusCode::CONFLICT
        }
        RoomError::Question(_) => StatusCode::BAD_REQUEST,
    }
}

fn fault(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({ "error": message }))).into_response()
}
