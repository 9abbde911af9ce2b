//! Both roles to zero together when nobody asks, and how to know that somebody does.

use serde::{Deserialize, Serialize};

#[cfg(feature = "kube")]
use super::rules::{duration_within, rule};
use super::{
    duration::{DurationText, IDLE_AFTER},
    metrics::QUERY_LENGTH_MAX,
};
use crate::derives::KubeSchema;

/// Remedy for a wake signal.
pub(crate) const WAKE_SIGNAL_REMEDY: &str =
    "must be PromQL for the requests that wait at the gateway";

/// When both roles go to zero together; never one alone. minReplicas then holds while the service
/// is awake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScaleToZeroSpec {
    /// How long the service must be known to be idle, without a break, before it goes to zero: no
    /// request arrives, waits or runs, and every worker says so. A duration from 1m to 24h. Default
    /// 30m.
    #[serde(default = "half_an_hour")]
    #[x_kube(validation = duration_within("idleAfter", &IDLE_AFTER))]
    pub idle_after: DurationText,
    /// PromQL for the requests that wait at the gateway; above zero wakes both roles. It must give
    /// one value, 0 when nothing waits: without a value the service does not go to zero, and one at
    /// zero is woken after 5 minutes, so end it with: or vector(0), where series come and go. At
    /// most 4096 characters.
    #[schemars(length(min = 1, max = QUERY_LENGTH_MAX))]
    #[x_kube(validation = rule("self.trim() != ''", &format!("wakeSignal {WAKE_SIGNAL_REMEDY}")))]
    pub wake_signal: String,
}

fn half_an_hour() -> DurationText {
    DurationText("30m".to_owned())
}
