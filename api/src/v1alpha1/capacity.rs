//! Capacity of one replica, where it was measured or computed before the service runs.
//!
//! Without it the controller learns from the engines' metrics; with it the first decision is a good
//! one, and what is measured later still corrects it. Numbers are whole, with their unit in the
//! name: the API has no floating-point numbers.

use serde::{Deserialize, Serialize};

#[cfg(feature = "kube")]
use super::rules::{matching, rule};
use super::target::{NAME_REGEX, NAME_REMEDY};
use crate::derives::{JsonSchema, KubeSchema};

/// Most microseconds of a constant part: a minute.
pub const BASE_MICROS_MAX: i32 = 60_000_000;
/// Most nanoseconds or picoseconds of a part that grows.
pub const PART_MAX: i32 = 1_000_000_000;
/// Most tokens of a KV cache.
pub const KV_CAPACITY_TOKENS_MAX: i32 = 1_000_000_000;
/// Most requests of a batch.
pub const BATCH_MAX: i32 = 65_536;
/// Keys of a ConfigMap, as RE2.
const KEY_REGEX: &str = "^[-._a-zA-Z0-9]+$";
/// Remedy for a key.
pub(crate) const KEY_REMEDY: &str = "must be a key of the ConfigMap: letters, digits, -, _ and .";
/// Remedy for a capacity that says nothing.
pub(crate) const EMPTY_REMEDY: &str = "capacity needs prefill or decode; or remove it";
/// Remedy for a role that has no source or two.
pub(crate) const ONE_SOURCE_REMEDY: &str = "needs either profileRef or coefficients";
/// Remedy for decode coefficients that do not grow.
pub(crate) const FLAT_REMEDY: &str =
    "perRequestNanos or perContextTokenPicos must be above 0, or a replica would take any load";

/// Capacity of one replica of each role. A role that is not named is learnt from the engines'
/// metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rule("has(self.prefill) || has(self.decode)", EMPTY_REMEDY))]
pub struct CapacitySpec {
    /// Capacity of one prefill replica. Default: learnt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefill: Option<PrefillCapacitySpec>,
    /// Capacity of one decode replica. Default: learnt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decode: Option<DecodeCapacitySpec>,
}

/// Capacity of one prefill replica: from a profile or from coefficients.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rule(
    "has(self.profileRef) != has(self.coefficients)",
    &format!("prefill {ONE_SOURCE_REMEDY}"),
))]
pub struct PrefillCapacitySpec {
    /// A performance profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile_ref: Option<ProfileReference>,
    /// Coefficients of the time to compute a prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coefficients: Option<PrefillCoefficientsSpec>,
}

/// Capacity of one decode replica: from a profile or from coefficients.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rule(
    "has(self.profileRef) != has(self.coefficients)",
    &format!("decode {ONE_SOURCE_REMEDY}"),
))]
pub struct DecodeCapacitySpec {
    /// A performance profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile_ref: Option<ProfileReference>,
    /// Coefficients of the time of a decode step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coefficients: Option<DecodeCoefficientsSpec>,
}

/// An object in the namespace of the PDAutoscaler that holds a performance profile.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct ProfileReference {
    /// Kind of the object: ConfigMap.
    pub kind: ProfileKind,
    /// Name of the object.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = matching("name", NAME_REGEX, NAME_REMEDY))]
    pub name: String,
    /// Key of the profile in the object: a table or a sweep as CSV, or coefficients as YAML.
    /// Default: prefill.csv or decode.csv by role, else profile.yaml, else the only key. Beside
    /// tables, the key tp says which tensor parallelism a replica has, by default its number of
    /// GPUs, and kv.csv how many tokens its KV cache holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = matching("key", KEY_REGEX, KEY_REMEDY))]
    pub key: Option<String>,
}

/// The kind of object that holds a performance profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ProfileKind {
    /// A ConfigMap.
    ConfigMap,
}

/// Time to compute a prompt of n tokens, of which p more are cached: base + perToken x n +
/// perTokenSquared x (n x n + 2 x n x p).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PrefillCoefficientsSpec {
    /// Constant part, microseconds, 0 to 60000000. Default 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = BASE_MICROS_MAX))]
    pub base_micros: i32,
    /// Per computed token, nanoseconds, 1 to 1000000000.
    #[schemars(range(min = 1, max = PART_MAX))]
    pub per_token_nanos: i32,
    /// Per squared computed token, picoseconds, 0 to 1000000000. Default 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = PART_MAX))]
    pub per_token_squared_picos: i32,
}

/// Time of a decode step of B requests that hold c tokens of context together: base + perRequest x
/// B + perContextToken x c; and what a replica holds at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rule("self.perRequestNanos > 0 || self.perContextTokenPicos > 0", FLAT_REMEDY))]
pub struct DecodeCoefficientsSpec {
    /// Constant part, microseconds, 1 to 60000000.
    #[schemars(range(min = 1, max = BASE_MICROS_MAX))]
    pub base_micros: i32,
    /// Per request of the batch, nanoseconds, 0 to 1000000000. Default 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = PART_MAX))]
    pub per_request_nanos: i32,
    /// Per token of context in the batch, picoseconds, 0 to 1000000000. Default 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = PART_MAX))]
    pub per_context_token_picos: i32,
    /// Tokens that the KV cache of one replica holds, 1 to 1000000000. Default: from the engine's
    /// metrics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = KV_CAPACITY_TOKENS_MAX))]
    pub kv_capacity_tokens: Option<i32>,
    /// Requests that a batch holds at most, 1 to 65536. Default: no limit but the KV cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = BATCH_MAX))]
    pub batch_max: Option<i32>,
}
