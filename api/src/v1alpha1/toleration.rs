//! The node quality that the pods of a role need, as tolerations that compare numbers.
//!
//! An entry has the fields of a toleration and means what an entry of the annotation
//! `pdautoscaler.io/numeric-tolerations` means. The admission webhook gives it to the pods of the
//! role's target when they are created; the target itself is never changed, so that its manifest
//! stays what its author wrote. The rules of numbers are the core's; here is what the schema can
//! say of them.

use pd_tolerations::{Effect, ExtendedToleration, extension::NumericOperator};
use serde::{Deserialize, Serialize};

#[cfg(feature = "kube")]
use super::rules::{matching, rule_naming_value};
use crate::derives::{JsonSchema, KubeSchema};

/// Most entries of a role.
pub const MAX: usize = 8;
/// Longest key: a prefix of 253, a slash and a name of 63.
pub(crate) const KEY_LENGTH_MAX: usize = 317;
/// Longest value: two numbers of 18 digits and a sign, and what is between them.
pub(crate) const VALUE_LENGTH_MAX: usize = 40;
/// Most seconds: upstream counts them as nanoseconds in 64 bits, and more would wrap.
pub const SECONDS_MAX: i64 = 9_223_372_036;
/// Keys of taints, as RE2.
const KEY_REGEX: &str = "^([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?\
                         [A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$";
/// Remedy for a key.
pub(crate) const KEY_REMEDY: &str = "must be the key of a taint, such as node.kubernetes.io/sla";
/// Canonical numbers that surely fit into 64 bits, as RE2.
const NUMBER: &str = "(0|-?[1-9][0-9]{0,17})";
/// Remedy for a value.
pub(crate) const VALUE_REMEDY: &str = "must be a whole number of at most 18 digits, such as 950, without sign + and leading zeros; for operator Range two of them, such as 900..990, the lesser first";
/// Remedy for seconds that nothing uses.
pub(crate) const SECONDS_REMEDY: &str = "has a meaning only with effect `NoExecute`; set effect to NoExecute or remove tolerationSeconds";

/// A number that the value of a node's taint must compare with. Several entries of one key are
/// alternatives, as tolerations are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rule_naming_value(
        &format!(
            "self.operator == 'Range' ? self.value.matches('^{NUMBER}[.][.]{NUMBER}$') && \
             int(self.value.split('..')[0]) <= int(self.value.split('..')[1]) \
             : self.value.matches('^{NUMBER}$')"
        ),
        &format!("'value `' + self.value + '` of operator ' + self.operator + ' {VALUE_REMEDY}'"),
    ),
    validation = rule_naming_value(
        "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
        &format!("'tolerationSeconds `%d` {SECONDS_REMEDY}'.format([self.tolerationSeconds])"),
    ),
)]
pub struct NumericTolerationSpec {
    /// Key of the taint whose value is compared, such as node.kubernetes.io/sla.
    #[schemars(length(min = 1, max = KEY_LENGTH_MAX))]
    #[x_kube(validation = matching("key", KEY_REGEX, KEY_REMEDY))]
    pub key: String,
    /// How the taint's value compares with this one. Gt: above it. Ge: it or above. Lt: below it.
    /// Le: it or below. Range: between both, both included.
    pub operator: NumericTolerationOperator,
    /// A whole number of at most 18 digits, such as 950; for Range two of them, such as 900..990.
    #[schemars(length(min = 1, max = VALUE_LENGTH_MAX))]
    pub value: String,
    /// Effect of the taint: NoSchedule, PreferNoSchedule or NoExecute. Default: every effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<TaintEffect>,
    /// How long a pod stays on a node whose taint it tolerates, in seconds, 0 to 9223372036; only
    /// with effect NoExecute. Default: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = SECONDS_MAX))]
    pub toleration_seconds: Option<i64>,
    /// Whether a node without the taint is refused too. Default false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub must_be_present: bool,
}

/// How a toleration compares numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum NumericTolerationOperator {
    /// Above the value.
    Gt,
    /// The value or above.
    Ge,
    /// Below the value.
    Lt,
    /// The value or below.
    Le,
    /// Between two values, both included.
    Range,
}

/// The effect of a taint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum TaintEffect {
    /// Pods that do not tolerate it are not placed on the node.
    NoSchedule,
    /// The node is avoided for pods that do not tolerate it.
    PreferNoSchedule,
    /// As NoSchedule, and running pods that do not tolerate it are evicted.
    NoExecute,
}

impl NumericTolerationSpec {
    /// The toleration as the core knows it.
    pub fn toleration(&self) -> ExtendedToleration {
        ExtendedToleration {
            key: self.key.clone(),
            operator: match self.operator {
                NumericTolerationOperator::Gt => NumericOperator::Gt,
                NumericTolerationOperator::Ge => NumericOperator::Ge,
                NumericTolerationOperator::Lt => NumericOperator::Lt,
                NumericTolerationOperator::Le => NumericOperator::Le,
                NumericTolerationOperator::Range => NumericOperator::Range,
            },
            value: self.value.clone(),
            effect: match self.effect {
                None => Effect::Unset,
                Some(TaintEffect::NoSchedule) => Effect::NoSchedule,
                Some(TaintEffect::PreferNoSchedule) => Effect::PreferNoSchedule,
                Some(TaintEffect::NoExecute) => Effect::NoExecute,
            },
            toleration_seconds: self.toleration_seconds,
            must_be_present: self.must_be_present,
            index: None,
        }
    }
}
