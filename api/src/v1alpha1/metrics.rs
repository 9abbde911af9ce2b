//! Where measurements come from: the engine's metric names, the Prometheus server, the series that
//! belong to this service, and queries for those who have their own.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

#[cfg(feature = "kube")]
use super::{
    rules::{matching, rule_naming_value},
    target::{NAME_REGEX, NAME_REMEDY},
};
use crate::derives::{JsonSchema, KubeSchema};

/// Most label matchers.
pub const SELECTORS_MAX: usize = 8;
/// Most characters of a label value.
pub const SELECTOR_VALUE_LENGTH_MAX: usize = 253;
/// Most characters of a PromQL query.
pub const QUERY_LENGTH_MAX: usize = 4_096;
/// Most characters of a server's address.
pub const SERVER_URL_LENGTH_MAX: usize = 512;
/// Label names of Prometheus, as RE2.
const LABEL_REGEX: &str = "^[a-zA-Z_][a-zA-Z0-9_]*$";
/// Labels that belong to Prometheus itself: matching on them breaks the histograms.
pub(crate) const LABELS_TAKEN: [&str; 3] = ["__name__", "le", "quantile"];
/// Remedy for a label name.
pub(crate) const LABEL_REMEDY: &str =
    "must be a Prometheus label name, such as model_name, and none of __name__, le and quantile";
/// Addresses of servers, as RE2.
const SERVER_URL_REGEX: &str = "^https?://[^/@?# ]+(/[^@?# ]*)?$";
/// Remedy for an address.
pub(crate) const SERVER_URL_REMEDY: &str = "must be http:// or https:// with a host, without user, query and fragment, such as http://prometheus.monitoring:9090";
/// Remedy for an engine that is not read yet.
pub(crate) const ENGINE_REMEDY: &str =
    "is not supported by this version; use VLLM, SGLang or TensorRTLLM, or Auto to detect it";

/// Where measurements come from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MetricsSpec {
    /// The engine whose metric names are read. Auto: found out from the series that exist, and
    /// kept in status.engine. VLLM: vLLM, all its metric names. SGLang: with --enable-metrics.
    /// TensorRTLLM: with return_perf_metrics. Dynamo is not supported by this version: its workers
    /// publish their engine's metrics, which Auto finds. Default Auto.
    #[serde(default)]
    #[x_kube(validation = rule_naming_value(
        "self in ['Auto', 'VLLM', 'SGLang', 'TensorRTLLM']",
        &format!("'engine `' + self + '` {ENGINE_REMEDY}'"),
    ))]
    pub engine: Engine,
    /// The gateway whose metrics are read beside the engines', since it counts requests when they
    /// come and times them as users see them. It is looked for in the object's namespace and in the
    /// controller's --gateway-namespaces, by the name of the model. Auto: found out from the series
    /// that exist, and kept in status.gateway. EPP: the endpoint picker of llm-d, KServe and the
    /// Gateway API inference extension. Dynamo: its frontend. SMG, AIBrix, Kthena: the gateways of
    /// these. None: no gateway is read, as where several objects share a gateway and a model.
    /// Default Auto.
    #[serde(default)]
    pub gateway: Gateway,
    /// The Prometheus server to query. Default: the one the controller is configured with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<MetricsSource>,
    /// Labels that the series of this service carry, in addition to those found from the targets,
    /// such as model_name: llama-70b. At most 8.
    #[serde(default, skip_serializing_if = "Selectors::is_empty")]
    #[x_kube(validation = rule_naming_value(
        &format!("self.all(k, {})", label_is_good("k")),
        &format!("'label `' + self.filter(k, !({}))[0] + '` {LABEL_REMEDY}'", label_is_good("k")),
    ))]
    pub selectors: Selectors,
    /// PromQL for signals that the engine's own metrics do not give.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overrides: Option<QueryOverrides>,
}

/// CEL that says whether the key `variable` can be used as a label.
fn label_is_good(variable: &str) -> String {
    let taken = LABELS_TAKEN.map(|label| format!("'{label}'")).join(", ");
    format!("{variable}.matches('{LABEL_REGEX}') && !({variable} in [{taken}])")
}

/// The engine whose metric names are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Engine {
    /// Found out from the series that exist.
    #[default]
    Auto,
    /// vLLM.
    #[serde(rename = "VLLM")]
    Vllm,
    /// SGLang.
    #[serde(rename = "SGLang")]
    SgLang,
    /// NVIDIA TensorRT-LLM.
    #[serde(rename = "TensorRTLLM")]
    TensorRtLlm,
    /// NVIDIA Dynamo; refused by this version.
    Dynamo,
}

impl Engine {
    /// The name in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "Auto",
            Self::Vllm => "VLLM",
            Self::SgLang => "SGLang",
            Self::TensorRtLlm => "TensorRTLLM",
            Self::Dynamo => "Dynamo",
        }
    }

    /// Whether this version reads the engine's metrics.
    pub const fn is_supported(self) -> bool {
        !matches!(self, Self::Dynamo)
    }
}

/// The gateway whose metrics are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Gateway {
    /// Found out from the series that exist.
    #[default]
    Auto,
    /// None is read.
    None,
    /// The endpoint picker of llm-d, KServe and the Gateway API inference extension.
    #[serde(rename = "EPP")]
    Epp,
    /// NVIDIA Dynamo's frontend.
    Dynamo,
    /// The SGLang model gateway.
    #[serde(rename = "SMG")]
    Smg,
    /// AIBrix's gateway.
    #[serde(rename = "AIBrix")]
    AiBrix,
    /// Kthena's router.
    Kthena,
}

impl Gateway {
    /// The name in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "Auto",
            Self::None => "None",
            Self::Epp => "EPP",
            Self::Dynamo => "Dynamo",
            Self::Smg => "SMG",
            Self::AiBrix => "AIBrix",
            Self::Kthena => "Kthena",
        }
    }

    /// Whether any gateway is read.
    pub const fn is_read(self) -> bool {
        !matches!(self, Self::None)
    }
}

/// A Prometheus server, or another that speaks its HTTP API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MetricsSource {
    /// Address of the server, such as `http://prometheus.monitoring:9090`; a path is kept.
    #[schemars(length(min = 1, max = SERVER_URL_LENGTH_MAX))]
    #[x_kube(validation = matching("serverUrl", SERVER_URL_REGEX, SERVER_URL_REMEDY))]
    pub server_url: String,
    /// Login for the server. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<SourceSecret>,
    /// Certificates for the server. Default: those that the system of the controller trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<SourceSecret>,
    /// Headers of every query, such as X-Scope-OrgID: team-a. Not for secrets. At most 8.
    #[serde(default, skip_serializing_if = "SourceHeaders::is_empty")]
    #[x_kube(validation = rule_naming_value(
        &format!("self.all(k, {})", header_is_good("k")),
        &format!("'header `' + self.filter(k, !({}))[0] + '` {HEADER_REMEDY}'", header_is_good("k")),
    ))]
    pub headers: SourceHeaders,
}

/// A Secret of the object's namespace that its owner lends to the controller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceSecret {
    /// The Secret. It must carry the label pdautoscaler.io/prometheus-login: "true", and the
    /// operator must allow references to Secrets. Keys for auth: username and password, or token.
    /// Keys for tls: ca.crt, and tls.crt with tls.key; each is optional.
    pub secret_ref: SecretReference,
}

/// A Secret by its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretReference {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = matching("name", NAME_REGEX, NAME_REMEDY))]
    pub name: String,
}

/// Header name to header value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SourceHeaders(pub BTreeMap<String, String>);

impl SourceHeaders {
    /// Whether there is no header.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Most headers of a source.
pub const HEADERS_MAX: usize = 8;
/// Most characters of a header's value.
pub const HEADER_VALUE_LENGTH_MAX: usize = 253;
/// Names of headers, as RE2: tokens of RFC 9110 that people use.
const HEADER_REGEX: &str = "^[A-Za-z][A-Za-z0-9-]*$";
/// Headers that a login, the query or the connection sets.
pub(crate) const HEADERS_TAKEN: [&str; 13] = [
    "accept-encoding",
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// Remedy for a header.
pub(crate) const HEADER_REMEDY: &str = "must be a header name of letters, digits and dashes, such as X-Scope-OrgID, and none that the connection sets; a login belongs into auth";

/// CEL that says whether the key `variable` can be used as a header.
fn header_is_good(variable: &str) -> String {
    let taken = HEADERS_TAKEN.map(|header| format!("'{header}'")).join(", ");
    format!("{variable}.matches('{HEADER_REGEX}') && !({variable}.lowerAscii() in [{taken}])")
}

/// Label name to label value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Selectors(pub BTreeMap<String, String>);

impl Selectors {
    /// Whether there is no label.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// PromQL that replaces built-in queries. Each must give exactly one value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct QueryOverrides {
    /// Time to first token at the objective's percentile, in seconds. One value; at most 4096
    /// characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = QUERY_LENGTH_MAX))]
    pub ttft: Option<String>,
    /// Time per output token at the objective's percentile, in seconds. One value; at most 4096
    /// characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = QUERY_LENGTH_MAX))]
    pub tpot: Option<String>,
    /// Requests that arrive, per second. One value; at most 4096 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = QUERY_LENGTH_MAX))]
    pub arrival_rate: Option<String>,
}
