//! The frontend of NVIDIA Dynamo (`lib/runtime/src/metrics/prometheus_names.rs`).
//!
//! It writes models in lower case. Its workers publish their engine's metrics under the engine's
//! own names.

use super::{FirstToken, Gateway};
use crate::engine::Metric;

/// Dynamo's frontend.
pub static DYNAMO: Gateway = Gateway {
    name: "Dynamo",
    product: "NVIDIA Dynamo frontend",
    versions: "1.6",
    checked: "package ai-dynamo-runtime 1.6.1",
    model_label: "model",
    series_labels: &[
        "endpoint",
        "exported_endpoint",
        "request_type",
        "status",
        "error_type",
    ],
    // The first counts requests when they come, the second when they end.
    arrivals: &[Metric::named(&[
        "dynamo_frontend_requests_started_total",
        "dynamo_frontend_requests_total",
    ])],
    counts_ended: false,
    first_token: FirstToken::Histogram(Metric::named(&[
        "dynamo_frontend_time_to_first_token_seconds",
    ])),
};
