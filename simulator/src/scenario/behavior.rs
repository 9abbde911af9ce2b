//! How fast replicas may change, in the words of a scenario.
//!
//! The same rules as `spec.behavior` of the product, with its defaults: up at once, down after five
//! minutes and only by more than a tenth. Times are seconds.

use std::time::Duration;

use pd_core::policy::{
    Behavior, ChangeLimit, PPM_PER_PERCENT, RatePolicy, ScalingRules, SelectPolicy,
};
use serde::{Deserialize, Serialize};

use super::{ScenarioError, ensure};

/// Rules of both directions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct BehaviorSpec {
    /// Rules for more replicas.
    pub scale_up: RulesSpec,
    /// Rules for fewer replicas.
    pub scale_down: RulesSpec,
}

/// Rules of one direction. Fields that are left out are those of no rule at all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RulesSpec {
    /// Up: the least need seen in this window counts; down: the largest.
    pub stabilization_window_seconds: u64,
    /// A need closer to the current replicas than this share of them changes nothing, percent.
    pub tolerance_percent: u8,
    /// Which of several policies counts: `Max`, `Min` or `Disabled`.
    pub select_policy: SelectPolicy,
    /// Limits on the change per period; none means no limit.
    pub policies: Vec<RateSpec>,
}

/// A limit on the change within a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RateSpec {
    /// What `value` counts: `Replicas` or `Percent`.
    pub r#type: RateType,
    /// Largest change.
    pub value: u32,
    /// The period, seconds, 1 to 1800.
    pub period_seconds: u64,
}

/// What the value of a rate limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RateType {
    /// Replicas.
    Replicas,
    /// Percent of the replicas at the start of the period.
    Percent,
}

impl Default for BehaviorSpec {
    fn default() -> Self {
        Self {
            scale_up: RulesSpec::default(),
            scale_down: RulesSpec {
                stabilization_window_seconds: 300,
                tolerance_percent: 10,
                ..RulesSpec::default()
            },
        }
    }
}

impl Default for RulesSpec {
    fn default() -> Self {
        Self {
            stabilization_window_seconds: 0,
            tolerance_percent: 0,
            select_policy: SelectPolicy::Max,
            policies: Vec::new(),
        }
    }
}

impl BehaviorSpec {
    pub(super) fn validate(&self) -> Result<(), ScenarioError> {
        for (name, rules) in [("scaleUp", &self.scale_up), ("scaleDown", &self.scale_down)] {
            let window = rules.stabilization_window_seconds;
            let field = format!("behavior.{name}.stabilizationWindowSeconds");
            ensure(window <= 3_600, &field, window, "give 0 to 3600 seconds")?;
            let tolerance = rules.tolerance_percent;
            let field = format!("behavior.{name}.tolerancePercent");
            ensure(tolerance <= 100, &field, tolerance, "give 0 to 100")?;
            for policy in &rules.policies {
                let period = policy.period_seconds;
                let field = format!("behavior.{name}.policies.periodSeconds");
                let usable = (1..=1_800).contains(&period);
                ensure(usable, &field, period, "give 1 to 1800 seconds")?;
            }
        }
        Ok(())
    }

    pub(super) fn rules(&self) -> Behavior {
        Behavior {
            scale_up: self.scale_up.rules(),
            scale_down: self.scale_down.rules(),
        }
    }
}

impl RulesSpec {
    fn rules(&self) -> ScalingRules {
        let policies = self.policies.iter().map(|policy| RatePolicy {
            change: match policy.r#type {
                RateType::Replicas => ChangeLimit::Replicas(policy.value),
                RateType::Percent => ChangeLimit::Percent(policy.value),
            },
            period: Duration::from_secs(policy.period_seconds),
        });
        ScalingRules {
            stabilization_window: Duration::from_secs(self.stabilization_window_seconds),
            tolerance_ppm: u32::from(self.tolerance_percent) * PPM_PER_PERCENT,
            select: self.select_policy,
            policies: policies.collect(),
        }
    }
}
