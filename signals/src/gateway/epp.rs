//! The endpoint picker of llm-d and of the Gateway API inference extension
//! (`pkg/epp/metrics/metrics.go`), which KServe runs too.
//!
//! Newer ones publish every metric under the old names as well. Time to the first token has a label
//! `streaming`; without streams it is that of the whole answer.

use super::{FirstToken, Gateway};
use crate::engine::Metric;

/// Time to the first token before llm-d-router 0.9.
const OLDER_TTFT: Metric = Metric::named(&["inference_objective_request_ttft_seconds"]);

/// The endpoint picker.
pub static EPP: Gateway = Gateway {
    name: "EPP",
    product: "llm-d and GIE endpoint picker",
    versions: "GIE to 1.6, llm-d-router to 0.10",
    checked: "public source of llm-d-router 0.10 and GIE 1.6",
    model_label: "model_name",
    series_labels: &["target_model_name", "fairness_id", "priority", "streaming"],
    arrivals: &[Metric::named(&[
        "llm_d_epp_request_total",
        "inference_objective_request_total",
        "inference_model_request_total",
    ])],
    counts_ended: false,
    first_token: FirstToken::Histogram(
        Metric::named(&["llm_d_epp_request_ttft_seconds"])
            .with("streaming", "true")
            .or(&OLDER_TTFT),
    ),
};
