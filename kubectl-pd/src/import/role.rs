//! One role as a source has it: its workload, its bounds, and what goes with them.
//!
//! A source that scales one workload gives one of these; two of them make a PDAutoscaler. Targets
//! that no version of PDAutoscaler scales are refused here, by name.

use std::{str::FromStr, time::Duration};

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscalerBehavior;
use pd_api::v1alpha1::{TargetReference, target::REPLICAS_MAX};
use pd_core::{PerRole, Role};
use serde_json::Value;

use super::{Fate, ImportError, Remark, field_error};

/// One role of the service.
#[derive(Clone, Debug, PartialEq)]
pub struct RoleImport {
    /// The source, as a sentence names it.
    pub from: String,
    /// Namespace of the source, where it says.
    pub namespace: Option<String>,
    /// The workload.
    pub target: TargetReference,
    /// Fewest replicas; at least 1.
    pub min_replicas: i32,
    /// Most replicas; nothing where the source has no limit of its own.
    pub max_replicas: Option<i32>,
    /// GPUs of one replica, where the source says.
    pub gpus_per_replica: Option<i32>,
    /// Whether a `HorizontalPodAutoscaler` changes the replicas, with its rules about rates.
    pub has_hpa: bool,
    /// How fast replicas may change.
    pub behavior: Option<HorizontalPodAutoscalerBehavior>,
    /// Replicas while metrics are missing, and after how long.
    pub fallback: Option<(i32, Duration)>,
    /// Replica minimums at set times.
    pub schedules: Vec<Minimum>,
    /// Whether scaling up, and scaling down, is paused.
    pub paused: (bool, bool),
    /// Settings that were not carried over as they are.
    pub remarks: Vec<Remark>,
}

/// A minimum at set times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Minimum {
    /// When it begins, five fields.
    pub cron: String,
    /// Time zone of `cron`.
    pub time_zone: String,
    /// How long it holds.
    pub duration: Duration,
    /// The minimum.
    pub replicas: i32,
}

impl RoleImport {
    /// A role of which only the workload is known.
    pub fn of_target(from: String, target: TargetReference) -> Self {
        Self {
            from,
            namespace: None,
            target,
            min_replicas: 1,
            max_replicas: None,
            gpus_per_replica: None,
            has_hpa: false,
            behavior: None,
            fallback: None,
            schedules: Vec::new(),
            paused: (false, false),
            remarks: Vec::new(),
        }
    }

    /// A role whose workload the caller names.
    pub fn named(target: &TargetReference) -> Self {
        let from = format!("{} `{}`", target.kind, target.name);
        Self::of_target(from, target.clone())
    }

    /// Takes the bounds of a source: 0 replicas are no minimum here, and no role has more than the
    /// API allows.
    pub fn bound(
        &mut self,
        min: (&str, i64),
        max: (&str, i64),
        at_zero: &str,
    ) -> Result<(), ImportError> {
        let ((min_field, min), (max_field, max)) = (min, max);
        if max < 1 {
            return Err(field_error(&self.from, max_field, max, "give at least 1"));
        }
        if min < 1 {
            self.remarks
                .push(Remark::new(Fate::Changed, min_field, min, at_zero));
        }
        let within = |value: i64| {
            i32::try_from(value.clamp(1, i64::from(REPLICAS_MAX))).unwrap_or(REPLICAS_MAX)
        };
        if max > i64::from(REPLICAS_MAX) {
            let remark = format!("a role has at most {REPLICAS_MAX} replicas");
            self.remarks
                .push(Remark::new(Fate::Changed, max_field, max, remark));
        }
        if min > max {
            return Err(field_error(
                &self.from,
                min_field,
                min,
                "give at most the maximum",
            ));
        }
        (self.min_replicas, self.max_replicas) = (within(min), Some(within(max)));
        Ok(())
    }

    /// Takes the maximum of the command line for this `role`. It counts before the source's, and
    /// lowers what the source wants above it.
    pub fn limit(&mut self, role: Role, max: i32) -> Result<(), ImportError> {
        let Self { from, .. } = self;
        if max < self.min_replicas {
            let remedy = format!("give at least the minimum {} of {from}", self.min_replicas);
            let of = format!("the command line for {role}");
            return Err(field_error(&of, "--max-replicas", max, &remedy));
        }
        if let Some(own) = self.max_replicas.filter(|own| *own != max) {
            let remark = format!("--max-replicas is taken: {max}");
            let field = format!("maximum of {role} by {from}");
            self.remarks
                .push(Remark::new(Fate::Changed, field, own, remark));
        }
        self.max_replicas = Some(max);
        if let Some((replicas, _)) = self.fallback.as_mut().filter(|(own, _)| *own > max) {
            let remark = format!("it must lie within the bounds of the role: {max} is taken");
            let field = format!("spec.fallback.replicas of {from}");
            self.remarks
                .push(Remark::new(Fate::Changed, field, *replicas, remark));
            *replicas = max;
        }
        Ok(())
    }
}

/// The target that `reference` of `from` names. KEDA and old HPAs leave out what is a Deployment's.
pub fn target_of(
    from: &str,
    field: &str,
    reference: &Value,
) -> Result<TargetReference, ImportError> {
    let text = |key: &str| reference[key].as_str().filter(|text| !text.is_empty());
    let Some(name) = text("name") else {
        return Err(field_error(
            from,
            &format!("{field}.name"),
            "unset",
            "name the workload",
        ));
    };
    let target = TargetReference {
        api_version: text("apiVersion").unwrap_or("apps/v1").to_owned(),
        kind: text("kind").unwrap_or("Deployment").to_owned(),
        name: name.to_owned(),
        role: None,
    };
    if target.is_supported() {
        return Ok(target);
    }
    let kind = format!("{} of {}", target.kind, target.api_version);
    Err(field_error(
        from,
        field,
        kind,
        "name a workload of a kind that docs/systems.md lists",
    ))
}

/// A workload as people name one on a command line: `Deployment/llama-prefill`, or with its
/// version, `leaderworkerset.x-k8s.io/v1/LeaderWorkerSet/llama-decode`, and behind a `:` the role
/// inside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetFlag(pub TargetReference);

/// Form of a workload on the command line.
const TARGET_REMEDY: &str = "must be KIND/NAME, such as Deployment/llama-prefill, or VERSION/KIND/NAME for a kind that is not known here; a role inside the object follows a colon";

impl FromStr for TargetFlag {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (path, role) = match text.split_once(':') {
            Some((path, role)) => (path, Some(role)),
            None => (text, None),
        };
        let mut parts: Vec<&str> = path.split('/').collect();
        let (Some(name), Some(kind)) = (parts.pop(), parts.pop()) else {
            return Err(TARGET_REMEDY.to_owned());
        };
        let empty = name.is_empty() || kind.is_empty() || role.is_some_and(str::is_empty);
        if empty || parts.len() > 2 {
            return Err(TARGET_REMEDY.to_owned());
        }
        let known = known(kind);
        let api_version = match parts.as_slice() {
            [] => known.ok_or(TARGET_REMEDY)?.api_version(),
            parts => parts.join("/"),
        };
        let target = TargetReference {
            api_version,
            kind: known.map_or(kind, |known| known.kind).to_owned(),
            name: name.to_owned(),
            role: role.map(str::to_owned),
        };
        if !target.is_supported() {
            return Err(format!("kind `{kind}` is not scaled: {TARGET_REMEDY}"));
        }
        Ok(Self(target))
    }
}

/// Most replicas on the command line: one number for both roles, or prefill's and decode's with a
/// colon between them, as ratios are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxReplicasFlag(pub PerRole<i32>);

impl FromStr for MaxReplicasFlag {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (prefill, decode) = text.split_once(':').unwrap_or((text, text));
        let count = |text: &str| {
            let count = text.parse::<i32>().ok();
            count
                .filter(|count| (1..=REPLICAS_MAX).contains(count))
                .ok_or_else(|| {
                    format!(
                        "must be a whole number from 1 to {REPLICAS_MAX}, or two as PREFILL:DECODE, such as 16:32"
                    )
                })
        };
        Ok(Self(PerRole {
            prefill: count(prefill)?,
            decode: count(decode)?,
        }))
    }
}

/// The known kind of that name, in capitals or not, for kubectl's users write `deployment`. Of its
/// versions the newest is listed first.
fn known(kind: &str) -> Option<&'static pd_systems::kind::Kind> {
    let mut kinds = pd_systems::ALL
        .into_iter()
        .flat_map(pd_systems::system::System::kinds);
    kinds.find(|known| known.kind.eq_ignore_ascii_case(kind))
}

/// The role that a name speaks of, if it speaks of one.
pub fn role_in(name: &str) -> Option<Role> {
    let lower = name.to_lowercase();
    let found: Vec<Role> = Role::ALL
        .into_iter()
        .filter(|role| lower.contains(role.as_str()))
        .collect();
    match found.as_slice() {
        [role] => Some(*role),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::short(
        "Deployment/llama-prefill",
        "apps/v1",
        "Deployment",
        "llama-prefill",
        None
    )]
    #[case::as_kubectl_has_it("statefulset/p", "apps/v1", "StatefulSet", "p", None)]
    #[case::known(
        "LeaderWorkerSet/p",
        "leaderworkerset.x-k8s.io/v1",
        "LeaderWorkerSet",
        "p",
        None
    )]
    #[case::role(
        "DynamoGraphDeployment/g:VllmPrefillWorker",
        "nvidia.com/v1beta1",
        "DynamoGraphDeployment",
        "g",
        Some("VllmPrefillWorker")
    )]
    #[case::version(
        "nvidia.com/v1alpha1/DynamoGraphDeployment/g",
        "nvidia.com/v1alpha1",
        "DynamoGraphDeployment",
        "g",
        None
    )]
    #[case::own("example.com/v1/Pool/p", "example.com/v1", "Pool", "p", None)]
    fn workloads_are_named_as_people_do(
        #[case] text: &str,
        #[case] version: &str,
        #[case] kind: &str,
        #[case] name: &str,
        #[case] role: Option<&str>,
    ) {
        let target = text.parse::<TargetFlag>().unwrap().0;
        assert_eq!(
            (
                target.api_version.as_str(),
                target.kind.as_str(),
                target.name.as_str()
            ),
            (version, kind, name)
        );
        assert_eq!(target.role.as_deref(), role);
    }

    #[rstest]
    #[case::name_alone("llama")]
    #[case::no_name("Deployment/")]
    #[case::no_role("Deployment/p:")]
    #[case::unknown("Pool/p")]
    #[case::not_scaled("batch/v1/Job/p")]
    #[case::too_long("a/b/c/d/e")]
    fn other_texts_are_refused_with_the_form(#[case] text: &str) {
        let error = text.parse::<TargetFlag>().unwrap_err();
        assert!(error.contains("KIND/NAME"), "{error}");
    }

    #[rstest]
    #[case::both("16", 16, 16)]
    #[case::each("16:32", 16, 32)]
    #[case::least("1:1", 1, 1)]
    fn maxima_are_one_number_or_two(#[case] text: &str, #[case] prefill: i32, #[case] decode: i32) {
        let flag = text.parse::<MaxReplicasFlag>().unwrap();
        assert_eq!(flag.0, PerRole { prefill, decode });
    }

    #[rstest]
    #[case::nothing("")]
    #[case::zero("0")]
    #[case::zero_of_a_role("16:0")]
    #[case::below_zero("-1")]
    #[case::part("1.5")]
    #[case::one_missing("16:")]
    #[case::three("1:2:3")]
    #[case::more_than_the_api_takes("2147483648")]
    fn other_maxima_are_refused_with_the_form(#[case] text: &str) {
        let error = text.parse::<MaxReplicasFlag>().unwrap_err();
        assert!(error.contains("PREFILL:DECODE"), "{error}");
    }

    #[test]
    fn a_name_speaks_of_a_role_only_if_it_names_one() {
        assert_eq!(role_in("Llama-Prefill"), Some(Role::Prefill));
        assert_eq!(role_in("decode-hpa"), Some(Role::Decode));
        assert_eq!(role_in("prefill-decode"), None);
        assert_eq!(role_in("llama"), None);
    }

    #[test]
    fn a_maximum_below_one_is_refused_by_name() {
        let target = "Deployment/p".parse::<TargetFlag>().unwrap().0;
        let mut role = RoleImport::of_target("HorizontalPodAutoscaler `h`".to_owned(), target);
        let error = role
            .bound(("min", 1), ("spec.maxReplicas", 0), "")
            .unwrap_err();
        assert!(
            error.to_string().contains("spec.maxReplicas `0`"),
            "{error}"
        );
    }
}
