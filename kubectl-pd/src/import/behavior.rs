//! One behavior of two: `HorizontalPodAutoscalers` have one each, a PDAutoscaler has one for both
//! roles.
//!
//! A rule on which both agree is carried over. Of two windows the longer one counts for both, which
//! changes replicas no sooner than either did. Policies and tolerances that differ cannot be ranked
//! so: those that one role alone states hold for both, two different ones are left out, and a
//! remark says so.

use std::fmt::{self, Display};

use k8s_openapi::api::autoscaling::v2::{HPAScalingPolicy, HPAScalingRules};
use pd_api::v1alpha1::{
    BehaviorSpec, QuantityText, ScalingPolicyKind, ScalingPolicySpec, SelectPolicyKind,
};
use pd_core::PerRole;

use super::{Fate, ImportError, Remark, field_error, role::RoleImport};

/// `HorizontalPodAutoscaler`'s own window before replicas are lowered, seconds.
const DOWN_WINDOW_SECONDS: i32 = 300;

/// The behavior of both roles, with remarks.
pub fn behavior(
    roles: &PerRole<RoleImport>,
    remarks: &mut Vec<Remark>,
) -> Result<BehaviorSpec, ImportError> {
    let up = PerRole::from_fn(|role| roles[role].behavior.as_ref()?.scale_up.clone());
    let down = PerRole::from_fn(|role| roles[role].behavior.as_ref()?.scale_down.clone());
    let mut spec = BehaviorSpec::default();

    let to = &mut spec.scale_up;
    let direction = Direction {
        roles,
        name: "scaleUp",
        rules: &up,
    };
    to.stabilization_window_seconds = direction.window(0, remarks);
    direction.tolerance(&mut to.tolerance, remarks);
    direction.select_policy(&mut to.select_policy, remarks)?;
    direction.policies(&mut to.policies, remarks)?;
    direction.default_rate(remarks);

    let to = &mut spec.scale_down;
    let direction = Direction {
        roles,
        name: "scaleDown",
        rules: &down,
    };
    to.stabilization_window_seconds = direction.window(DOWN_WINDOW_SECONDS, remarks);
    direction.tolerance(&mut to.tolerance, remarks);
    direction.select_policy(&mut to.select_policy, remarks)?;
    direction.policies(&mut to.policies, remarks)?;
    Ok(spec)
}

/// The rules of both roles in one direction.
struct Direction<'a> {
    roles: &'a PerRole<RoleImport>,
    name: &'static str,
    rules: &'a PerRole<Option<HPAScalingRules>>,
}

impl Direction<'_> {
    fn field(&self, field: &str) -> String {
        format!("spec.behavior.{}.{field}", self.name)
    }

    fn window(&self, default: i32, remarks: &mut Vec<Remark>) -> i32 {
        let stated = self.stated(|rules| rules.stabilization_window_seconds);
        let PerRole { prefill, decode } = stated.map(|seconds| seconds.unwrap_or(default));
        if prefill != decode {
            remarks.push(Remark::new(
                Fate::Changed,
                self.field("stabilizationWindowSeconds"),
                format!("prefill {prefill}, decode {decode}"),
                "both roles have one window: the longer one is taken",
            ));
        }
        prefill.max(decode)
    }

    fn tolerance(&self, to: &mut QuantityText, remarks: &mut Vec<Remark>) {
        let stated = self.stated(|rules| rules.tolerance.clone().map(|quantity| quantity.0));
        if let Some(tolerance) = self.agreed("tolerance", stated, remarks) {
            *to = QuantityText(tolerance);
        }
    }

    fn select_policy(
        &self,
        to: &mut SelectPolicyKind,
        remarks: &mut Vec<Remark>,
    ) -> Result<(), ImportError> {
        let stated = self.stated(|rules| rules.select_policy.clone());
        let Some(policy) = self.agreed("selectPolicy", stated, remarks) else {
            return Ok(());
        };
        *to = match policy.as_str() {
            "Max" => SelectPolicyKind::Max,
            "Min" => SelectPolicyKind::Min,
            "Disabled" => SelectPolicyKind::Disabled,
            _ => return Err(self.refused("selectPolicy", &policy, "give Max, Min or Disabled")),
        };
        Ok(())
    }

    fn policies(
        &self,
        to: &mut Vec<ScalingPolicySpec>,
        remarks: &mut Vec<Remark>,
    ) -> Result<(), ImportError> {
        let Some(policies) = self.agreed("policies", self.stated_policies(), remarks) else {
            return Ok(());
        };
        let converted = policies.0.iter().map(|policy| {
            let kind = match policy.type_.as_str() {
                "Pods" => ScalingPolicyKind::Pods,
                "Percent" => ScalingPolicyKind::Percent,
                other => return Err(self.refused("policies.type", other, "give Pods or Percent")),
            };
            Ok(ScalingPolicySpec {
                kind,
                value: policy.value,
                period_seconds: policy.period_seconds,
            })
        });
        *to = converted.collect::<Result<_, _>>()?;
        Ok(())
    }

    /// Where growth has no policies here, it had those of the `HorizontalPodAutoscaler` before.
    fn default_rate(&self, remarks: &mut Vec<Remark>) {
        let stated = self.stated_policies();
        if stated.prefill.is_none() && stated.decode.is_none() {
            remarks.push(Remark::new(
                Fate::Changed,
                self.field("policies"),
                "unset",
                "HorizontalPodAutoscaler then adds at most 4 pods or 100 % in 15 s; here nothing limits growth: state policies to keep a limit",
            ));
        }
    }

    fn stated_policies(&self) -> PerRole<Option<Shown>> {
        self.stated(|rules| {
            let policies = rules.policies.clone()?;
            (!policies.is_empty()).then_some(Shown(policies))
        })
    }

    fn stated<T>(&self, of: impl Fn(&HPAScalingRules) -> Option<T>) -> PerRole<Option<T>> {
        PerRole {
            prefill: self.rules.prefill.as_ref().and_then(&of),
            decode: self.rules.decode.as_ref().and_then(&of),
        }
    }

    /// The value that both roles have, or the only one that is stated.
    fn agreed<T: PartialEq + Display>(
        &self,
        field: &str,
        stated: PerRole<Option<T>>,
        remarks: &mut Vec<Remark>,
    ) -> Option<T> {
        let PerRole { prefill, decode } = stated;
        match (prefill, decode) {
            (Some(one), Some(other)) if one == other => Some(one),
            (Some(one), Some(other)) => {
                let value = format!("prefill {one}, decode {other}");
                let remark = "both roles have one rule, and these differ: it is left out; state the one that shall hold";
                remarks.push(Remark::new(Fate::Dropped, self.field(field), value, remark));
                None
            }
            (None, None) => None,
            (Some(only), None) => Some(self.alone(field, only, "prefill", remarks)),
            (None, Some(only)) => Some(self.alone(field, only, "decode", remarks)),
        }
    }

    fn alone<T: Display>(&self, field: &str, value: T, role: &str, remarks: &mut Vec<Remark>) -> T {
        let remark = format!("stated for {role} alone, and holds for both roles here");
        remarks.push(Remark::new(
            Fate::Changed,
            self.field(field),
            value.to_string(),
            remark,
        ));
        value
    }

    fn refused(&self, field: &str, value: &str, remedy: &str) -> ImportError {
        let from = format!("{} and {}", self.roles.prefill.from, self.roles.decode.from);
        field_error(&from, &self.field(field), value, remedy)
    }
}

/// Policies as a remark shows them.
#[derive(Clone, Debug, PartialEq)]
struct Shown(Vec<HPAScalingPolicy>);

impl Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> = self
            .0
            .iter()
            .map(|policy| {
                format!(
                    "{} {} per {}s",
                    policy.value, policy.type_, policy.period_seconds
                )
            })
            .collect();
        f.write_str(&all.join(" and "))
    }
}
