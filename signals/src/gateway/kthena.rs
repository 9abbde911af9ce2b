//! The router of Kthena (`pkg/kthena-router/metrics/metrics.go`).
//!
//! It counts requests when they end and has no time to the first token: its prefill duration is one
//! leg.

use super::{FirstToken, Gateway};
use crate::engine::Metric;

/// Kthena's router.
pub static KTHENA: Gateway = Gateway {
    name: "Kthena",
    product: "Kthena router",
    versions: "1.0",
    checked: "public source of 1.0",
    model_label: "model",
    series_labels: &[
        "path",
        "status_code",
        "error_type",
        "model_route",
        "backend_type",
        "backend_name",
        "upstream_model",
    ],
    arrivals: &[Metric::named(&["kthena_router_requests_total"])],
    counts_ended: true,
    first_token: FirstToken::Absent,
};
