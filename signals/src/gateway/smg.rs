//! SMG, the SGLang model gateway (`model_gateway/src/observability/metrics.rs`).
//!
//! Its time to the first token spans prefill, transfer and the first token of decode. Over HTTP it
//! is that of the response's head, which an answer that is not streamed has at its end. It also
//! repeats what workers report (`smg_engine_*`), which is not read: the workers are. Routers before
//! 0.3 (`sgl_router_*`) do not name the model, so their series cannot be told apart.

use super::{FirstToken, Gateway};
use crate::engine::Metric;

const REQUESTS: Metric = Metric::named(&["smg_router_requests_total"]);

/// SMG.
pub static SMG: Gateway = Gateway {
    name: "SMG",
    product: "SMG",
    versions: "sglang-router 0.3 to SMG 1.13",
    checked: "packages smg 1.13.0, sglang-router 0.2.4 and 0.3.2; recorded text of 1.13.0",
    model_label: "model",
    series_labels: &[
        "backend_type",
        "connection_mode",
        "endpoint",
        "exported_endpoint",
        "router_type",
        "runtime",
        "streaming",
    ],
    arrivals: &[REQUESTS],
    counts_ended: false,
    first_token: FirstToken::OfStreams {
        histogram: Metric::named(&["smg_pd_ttft_seconds"]),
        unstreamed: REQUESTS.with("streaming", "false"),
        all: REQUESTS,
    },
};
