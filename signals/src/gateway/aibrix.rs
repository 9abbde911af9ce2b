//! The gateway of AIBrix (`pkg/metrics/gateway_metrics.go`).
//!
//! Its times are no histograms but counters of disjoint ranges in milliseconds, of streamed answers
//! alone. Its counter of arrivals does not name the model, so requests are counted when they end,
//! in success or not. Series name the worker that answered; whether as `pod` or as `exported_pod`
//! is up to who scrapes. `gateway_first_token_delay_over_1s_total` has a series for each request
//! and is never read.

use super::{FirstToken, Gateway};
use crate::engine::Metric;

/// AIBrix's gateway.
pub static AIBRIX: Gateway = Gateway {
    name: "AIBrix",
    product: "AIBrix gateway",
    versions: "0.7",
    checked: "public source of 0.7 (the package has no gateway)",
    model_label: "model",
    series_labels: &[
        "bucket",
        "exported_namespace",
        "exported_pod",
        "gateway_pod",
        "role",
        "role_replica_index",
        "roleset",
        "status",
        "status_code",
    ],
    arrivals: &[
        Metric::named(&["gateway_request_model_success_total"]),
        Metric::named(&["gateway_request_model_fail_total"]),
    ],
    counts_ended: true,
    first_token: FirstToken::Ranges(Metric::named(&["gateway_ttft_bucket_total"])),
};
