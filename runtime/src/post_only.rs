//! The edge of a server whose callers post their calls: everything else is refused in its words.
//!
//! Owns the limits around the routes and nothing of the answers: how a refusal looks is the
//! server's.

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::{StatusCode, Uri},
    response::Response,
};

/// How a server refuses what is not posted to one of its routes.
#[derive(Debug, Clone, Copy)]
pub struct PostOnly {
    /// Largest body, bytes.
    pub body_max: usize,
    /// Who posts, such as `the scheduler posts its calls`.
    pub caller: &'static str,
    /// The remedy for another path, such as `use /mutate or /validate`.
    pub paths: &'static str,
    /// The answer to what is refused.
    pub refuse: fn(StatusCode, &str) -> Response,
}

impl PostOnly {
    /// `routes`, with everything else refused.
    pub fn around<S: Clone + Send + Sync + 'static>(self, routes: Router<S>) -> Router<S> {
        let Self {
            body_max,
            caller,
            paths,
            refuse,
        } = self;
        routes
            .method_not_allowed_fallback(async move || {
                let message = format!("method is not POST: {caller}");
                refuse(StatusCode::METHOD_NOT_ALLOWED, &message)
            })
            .fallback(async move |uri: Uri| {
                let message = format!("path `{}` is not served: {paths}", uri.path());
                refuse(StatusCode::NOT_FOUND, &message)
            })
            .layer(DefaultBodyLimit::max(body_max))
    }
}
