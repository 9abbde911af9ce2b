//! Metrics of the webhook: reviews by outcome, their time, the gate, and the end of the
//! certificate.
//!
//! Names carry the prefix `pd_webhook_` and base units; labels are words of this crate, never of a
//! cluster.

use std::time::Duration;

use pd_runtime::rotation::CertificateEnds;
use pd_tolerations::Comparison;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

/// Upper edges of review durations, seconds: the bars are 0.2 ms and 1 ms.
const REVIEW_SECONDS: [f64; 10] = [
    0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.1, 1.0,
];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReviewLabels {
    webhook: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WebhookLabels {
    webhook: &'static str,
}

/// All metrics of the webhook.
#[derive(Debug)]
pub struct Metrics {
    reviews: Family<ReviewLabels, Counter>,
    duration: Family<WebhookLabels, Histogram, fn() -> Histogram>,
    gate: Gauge,
    /// The certificate's end.
    pub certificate_ends: CertificateEnds,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            reviews: Family::default(),
            duration: Family::new_with_constructor(|| Histogram::new(REVIEW_SECONDS)),
            gate: Gauge::default(),
            certificate_ends: CertificateEnds::default(),
        }
    }
}

impl Metrics {
    /// Registers every metric.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("pd_webhook");
        let reviews = "Admission reviews by webhook and outcome";
        registry.register("reviews", reviews, self.reviews.clone());
        let duration = "Time to answer a review, from its whole body to its whole answer";
        registry.register("review_duration_seconds", duration, self.duration.clone());
        let gate = "1 if the API server compares numbers itself, else 0";
        registry.register("gate", gate, self.gate.clone());
        self.certificate_ends.register(registry);
    }

    /// A review by `webhook` ended as `outcome` after `took`.
    pub fn reviewed(&self, webhook: &'static str, outcome: &'static str, took: Duration) {
        self.reviews
            .get_or_create(&ReviewLabels { webhook, outcome })
            .inc();
        let duration = self.duration.get_or_create(&WebhookLabels { webhook });
        duration.observe(took.as_secs_f64());
    }

    /// Whether the API server compares numbers by itself.
    pub fn gate(&self, comparison: Comparison) {
        self.gate.set(i64::from(comparison == Comparison::On));
    }
}
