//! The P:D ratio: prefill replicas per decode replicas, such as `1:2`.
//!
//! Five policies, each with exactly its own fields: a field of another policy is refused rather
//! than ignored. That is why tolerance and enforcement have no default in the schema: a default
//! would be written into objects whose policy has no band.

use serde::{Deserialize, Serialize};

#[cfg(feature = "kube")]
use super::rules::{matching, rule, rule_naming_value};
use super::target::{NAME_REGEX, NAME_REMEDY};
use crate::derives::{JsonSchema, KubeSchema};

/// Most operating points.
pub const OPERATING_POINTS_MAX: usize = 32;
/// Most characters of an operating point's name.
pub const OPERATING_POINT_NAME_LENGTH_MAX: usize = 63;
/// Most tokens of an operating point.
pub const OPERATING_POINT_TOKENS_MAX: i32 = 10_000_000;
/// Largest number on either side of a ratio.
pub(crate) const RATIO_PART_MAX: i32 = 1_000;
/// Tolerance of a band when none is given, percent.
pub const TOLERANCE_PERCENT_DEFAULT: i32 = 20;
/// Texts that are ratios, as RE2: two whole numbers from 1 to 1000.
const RATIO_REGEX: &str = "^([1-9][0-9]{0,2}|1000):([1-9][0-9]{0,2}|1000)$";
/// Remedy for a ratio.
pub(crate) const RATIO_REMEDY: &str =
    "must be two whole numbers from 1 to 1000, prefill first, such as 1:2";
/// Remedy when the range is upside down.
pub(crate) const RANGE_REMEDY: &str = "swap them";
/// Remedy for a band's field when the policy has no band.
pub(crate) const NO_BAND_REMEDY: &str =
    "has no meaning with policy `Auto`, which has no band; remove it or choose another policy";

/// How many prefill replicas there are per decode replica.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rule("self.policy != 'Fixed' || has(self.target)", "policy `Fixed` needs target, such as 1:2"),
    validation = rule("self.policy != 'Range' || has(self.range)", "policy `Range` needs range with lowest and highest, such as 1:4 and 1:1"),
    validation = rule("self.policy != 'Preset' || has(self.preset)", "policy `Preset` needs preset, such as Balanced"),
    validation = only_with("target", "Fixed"),
    validation = only_with("range", "Range"),
    validation = rule("self.policy != 'OperatingPoints' || has(self.operatingPoints)", "policy `OperatingPoints` needs operatingPoints with at least one point"),
    validation = only_with("preset", "Preset"),
    validation = only_with("operatingPoints", "OperatingPoints"),
    validation = band_only("tolerancePercent"),
    validation = band_only("enforcement"),
)]
pub struct RatioSpec {
    /// Auto: the ratio follows the traffic. Fixed: stay near target. Range: stay between lowest and
    /// highest. Preset: stay near the ratio of a known kind of traffic. OperatingPoints: stay near
    /// the ratio of the point that was found for traffic like the present. Default Auto.
    #[serde(default)]
    pub policy: RatioPolicyKind,
    /// The ratio to stay near, prefill first, such as 1:2; each side 1 to 1000. For policy Fixed
    /// only, and needed there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 9))]
    #[x_kube(validation = matching("target", RATIO_REGEX, RATIO_REMEDY))]
    pub target: Option<String>,
    /// The ratios to stay between. For policy Range only, and needed there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<RatioRange>,
    /// The kind of traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<RatioPreset>,
    /// Configurations found for known kinds of traffic, as AIConfigurator finds them; the one whose
    /// token counts are nearest to those measured sets the ratio. For policy OperatingPoints only,
    /// and needed there. 1 to 32, with different names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = OPERATING_POINTS_MAX))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub operating_points: Option<Vec<OperatingPointSpec>>,
    /// How far the ratio may leave target, range, preset or point, percent, 0 to 99. Default 20.
    /// Not for policy Auto.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 99))]
    pub tolerance_percent: Option<i32>,
    /// The winner when the band and the objective disagree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforcement: Option<RatioEnforcement>,
}

/// A rule that keeps `field` to one policy.
#[cfg(feature = "kube")]
fn only_with(field: &str, policy: &str) -> kube::core::Rule {
    rule_naming_value(
        &format!("self.policy == '{policy}' || !has(self.{field})"),
        &format!(
            "'{field} is only for policy `{policy}`, and policy is `' + self.policy + '`; remove {field} or set \
             policy to {policy}'"
        ),
    )
}

/// A rule that keeps `field` to the policies that have a band.
#[cfg(feature = "kube")]
fn band_only(field: &str) -> kube::core::Rule {
    rule(
        &format!("self.policy != 'Auto' || !has(self.{field})"),
        &format!("{field} {NO_BAND_REMEDY}"),
    )
}

/// Where the ratio comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RatioPolicyKind {
    /// From the traffic: each role is sized for itself.
    #[default]
    Auto,
    /// One ratio.
    Fixed,
    /// Anything between two ratios.
    Range,
    /// The ratio of a known kind of traffic.
    Preset,
    /// The ratio of the configuration that suits the traffic.
    OperatingPoints,
}

/// A configuration, and the traffic it was found for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct OperatingPointSpec {
    /// Its name, in status and reasons: lower-case letters, digits, - and ., at most 63 characters.
    #[schemars(length(min = 1, max = OPERATING_POINT_NAME_LENGTH_MAX))]
    #[x_kube(validation = matching("name", NAME_REGEX, NAME_REMEDY))]
    pub name: String,
    /// Prefill workers, 1 to 1000. With decode it is a ratio: 2 and 4 mean the same as 1 and 2.
    #[schemars(range(min = 1, max = RATIO_PART_MAX))]
    pub prefill: i32,
    /// Decode workers, 1 to 1000.
    #[schemars(range(min = 1, max = RATIO_PART_MAX))]
    pub decode: i32,
    /// Prompt tokens per request that it was found for, 1 to 10000000.
    #[schemars(range(min = 1, max = OPERATING_POINT_TOKENS_MAX))]
    pub input_tokens: i32,
    /// Output tokens per request that it was found for, 1 to 10000000.
    #[schemars(range(min = 1, max = OPERATING_POINT_TOKENS_MAX))]
    pub output_tokens: i32,
}

/// Two ratios, inclusive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rule_naming_value(
    &format!(
        "!self.lowest.matches('{RATIO_REGEX}') || !self.highest.matches('{RATIO_REGEX}') || \
         int(self.lowest.split(':')[0]) * int(self.highest.split(':')[1]) <= \
         int(self.highest.split(':')[0]) * int(self.lowest.split(':')[1])"
    ),
    &format!("'lowest `' + self.lowest + '` is above highest `' + self.highest + '`; {RANGE_REMEDY}'"),
))]
pub struct RatioRange {
    /// Least prefill per decode, such as 1:4; each side 1 to 1000.
    #[schemars(length(max = 9))]
    #[x_kube(validation = matching("lowest", RATIO_REGEX, RATIO_REMEDY))]
    pub lowest: String,
    /// Most prefill per decode, such as 1:1; each side 1 to 1000.
    #[schemars(length(max = 9))]
    #[x_kube(validation = matching("highest", RATIO_REGEX, RATIO_REMEDY))]
    pub highest: String,
}

/// The kind of traffic, which has a known good ratio: ShortPromptLongOutput (1:4), Balanced (1:2),
/// LongPromptShortOutput (1:1), RetrievalAugmented (2:1). For policy Preset only, and needed there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RatioPreset {
    /// Chat and reasoning: 1:4.
    ShortPromptLongOutput,
    /// Neither dominates: 1:2.
    Balanced,
    /// Summaries and classification: 1:1.
    LongPromptShortOutput,
    /// Long retrieved context, short answers: 2:1.
    RetrievalAugmented,
}

impl RatioPreset {
    /// The preset's ratio as text.
    pub const fn ratio(self) -> &'static str {
        match self {
            Self::ShortPromptLongOutput => "1:4",
            Self::Balanced => "1:2",
            Self::LongPromptShortOutput => "1:1",
            Self::RetrievalAugmented => "2:1",
        }
    }
}

/// The winner when the band and the objective disagree. Soft: the objective, and the breach is
/// reported. Hard: the band, and the unmet need is reported. Default Soft. Not for policy Auto.
// An optional enum takes its description in the schema from here, not from the field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RatioEnforcement {
    /// The objective.
    #[default]
    Soft,
    /// The band.
    Hard,
}
