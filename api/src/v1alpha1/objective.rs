//! Latency limits, and the share of requests that must keep them.
//!
//! TTFT is what prefill replicas buy, TPOT what decode replicas buy; the attainment says how many
//! requests may miss before that costs GPUs.

use serde::{Deserialize, Serialize};

use super::duration::{ATTAINMENT_WINDOW, DurationText, LATENCY_TARGET};
#[cfg(feature = "kube")]
use super::rules::duration_within;
use crate::derives::KubeSchema;

/// Lowest percentile of a latency limit.
pub const PERCENTILE_MIN: i32 = 50;
/// Highest percentile of a latency limit: above, histograms of the engines have nothing to say.
pub const PERCENTILE_MAX: i32 = 99;

/// Latency limits and the share of requests that must keep them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectiveSpec {
    /// Limit on the time to first token.
    pub ttft: LatencyTargetSpec,
    /// Limit on the time per output token after the first.
    pub tpot: LatencyTargetSpec,
    /// Share of requests that must keep both limits. Default: 99 % over 1h.
    #[serde(default)]
    pub attainment: AttainmentSpec,
}

/// A latency limit at a percentile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct LatencyTargetSpec {
    /// The limit, a duration from 1ms to 10m, such as 500ms.
    #[x_kube(validation = duration_within("target", &LATENCY_TARGET))]
    pub target: DurationText,
    /// The percentile of requests that must stay under the limit, 50 to 99. Default 95.
    #[serde(default = "percentile")]
    #[schemars(range(min = PERCENTILE_MIN, max = PERCENTILE_MAX))]
    pub percentile: i32,
}

/// A share of requests over a window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AttainmentSpec {
    /// Percent of requests, 1 to 100. Default 99.
    #[serde(default = "percent")]
    #[schemars(range(min = 1, max = 100))]
    pub percent: i32,
    /// The window the share is taken over, a duration from 1m to 24h. Default 1h.
    #[serde(default = "window")]
    #[x_kube(validation = duration_within("window", &ATTAINMENT_WINDOW))]
    pub window: DurationText,
}

impl Default for AttainmentSpec {
    fn default() -> Self {
        Self {
            percent: percent(),
            window: window(),
        }
    }
}

const fn percentile() -> i32 {
    95
}

const fn percent() -> i32 {
    99
}

fn window() -> DurationText {
    DurationText("1h".to_owned())
}
