//! How replicas live, in the words of a scenario.
//!
//! Everything left out is as without a life cycle: room at once, one constant lead time, seen ready
//! at once, and as long to finish as it takes. Parts of a start must add up to the profile's
//! start-up times, so that a file says one lead time and not two; `--lead` scales them.

use pd_core::{PerRole, Role};
use serde::{Deserialize, Serialize};

use super::{ScenarioError, ensure};
use crate::engine::Profile;
use crate::lifecycle::{Lifecycle, Parts, Spread};
use crate::observe::engine_role;
use crate::time::{from_seconds, seconds};

/// Longest time of any part of a life, seconds: a week.
pub(super) const SECONDS_MAX: f64 = 604_800.0;

/// How far the parts of a start may add up to another time than the profile's, seconds.
const SUM_TOLERANCE_SECONDS: f64 = 0.001;

/// One part of a start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PartSpec {
    /// Its mean, seconds, 0 to 604800.
    pub seconds: f64,
    /// Standard deviation over mean, 0 to 5; 0 is a constant.
    #[serde(default)]
    pub cv: f64,
}

/// The parts of a start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct StartSpec {
    /// From being asked for to being bound, where there is room.
    pub schedule: PartSpec,
    /// Pulling the image.
    pub image_pull: PartSpec,
    /// Loading the weights.
    pub weight_load: PartSpec,
    /// Compiling and capturing graphs.
    pub warm_up: PartSpec,
}

/// How replicas live.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LifecycleSpec {
    /// Parts of a start of each role; without, its start-up time is one constant.
    pub start: PerRole<Option<StartSpec>>,
    /// Time between two readiness probes, seconds; a replica is seen ready at the next one. 0 is at
    /// once.
    pub readiness_period_seconds: f64,
    /// How long requests still reach a replica that was removed, seconds.
    pub endpoint_delay_seconds: f64,
    /// How long a removed replica has to finish, seconds; then it is killed. Without, it finishes.
    pub termination_grace_seconds: Option<f64>,
    /// GPUs of the cluster, 1 to 1000000; replicas wait while it is full. Without, there is room.
    pub gpus: Option<u32>,
    /// GPUs of one node, 1 to 1000.
    pub gpus_per_node: u32,
    /// How long the API server takes to notice that a node is gone, seconds.
    pub node_grace_seconds: f64,
    /// How long it then takes until its replicas are replaced, seconds.
    pub eviction_seconds: f64,
}

impl Default for LifecycleSpec {
    fn default() -> Self {
        let default = Lifecycle::default();
        Self {
            start: PerRole::default(),
            readiness_period_seconds: 0.0,
            endpoint_delay_seconds: 0.0,
            termination_grace_seconds: None,
            gpus: None,
            gpus_per_node: default.gpus_per_node,
            node_grace_seconds: seconds(default.node_grace),
            eviction_seconds: seconds(default.eviction),
        }
    }
}

impl StartSpec {
    fn parts(&self) -> [(&'static str, PartSpec); 4] {
        [
            ("schedule", self.schedule),
            ("imagePull", self.image_pull),
            ("weightLoad", self.weight_load),
            ("warmUp", self.warm_up),
        ]
    }

    fn validate(&self, role: Role, profile: &Profile) -> Result<(), ScenarioError> {
        for (name, part) in self.parts() {
            let field = |field: &str| format!("lifecycle.start.{role}.{name}.{field}");
            let usable = (0.0..=SECONDS_MAX).contains(&part.seconds);
            let remedy = "give 0 to 604800 seconds";
            ensure(usable, &field("seconds"), part.seconds, remedy)?;
            let usable = (0.0..=5.0).contains(&part.cv);
            ensure(usable, &field("cv"), part.cv, "give 0 to 5")?;
        }
        let sum: f64 = self.parts().iter().map(|(_, part)| part.seconds).sum();
        let lead = seconds(profile.startup_time(engine_role(role)));
        let remedy = "make the parts add up to the role's start-up time in `profile`";
        let usable = (sum - lead).abs() <= SUM_TOLERANCE_SECONDS;
        ensure(usable, &format!("lifecycle.start.{role}"), sum, remedy)
    }
}

impl LifecycleSpec {
    pub(super) fn validate(&self, profile: &Profile) -> Result<(), ScenarioError> {
        let times = [
            ("readinessPeriodSeconds", self.readiness_period_seconds),
            ("endpointDelaySeconds", self.endpoint_delay_seconds),
            (
                "terminationGraceSeconds",
                self.termination_grace_seconds.unwrap_or_default(),
            ),
            ("nodeGraceSeconds", self.node_grace_seconds),
            ("evictionSeconds", self.eviction_seconds),
        ];
        for (name, time) in times {
            let usable = (0.0..=SECONDS_MAX).contains(&time);
            let field = format!("lifecycle.{name}");
            ensure(usable, &field, time, "give 0 to 604800 seconds")?;
        }
        if let Some(gpus) = self.gpus {
            let usable = (1..=1_000_000).contains(&gpus);
            ensure(usable, "lifecycle.gpus", gpus, "give 1 to 1000000")?;
        }
        let node = self.gpus_per_node;
        let usable = (1..=1_000).contains(&node);
        ensure(usable, "lifecycle.gpusPerNode", node, "give 1 to 1000")?;
        for role in Role::ALL {
            if let Some(start) = &self.start[role] {
                start.validate(role, profile)?;
            }
        }
        Ok(())
    }

    pub(super) fn lifecycle(&self) -> Lifecycle {
        let spread = |part: PartSpec| Spread {
            mean_seconds: part.seconds,
            cv: part.cv,
        };
        Lifecycle {
            start: self.start.map(|start| {
                start.map(|start| Parts {
                    schedule: spread(start.schedule),
                    image_pull: spread(start.image_pull),
                    weight_load: spread(start.weight_load),
                    warm_up: spread(start.warm_up),
                })
            }),
            readiness_period: from_seconds(self.readiness_period_seconds),
            endpoint_delay: from_seconds(self.endpoint_delay_seconds),
            grace: self.termination_grace_seconds.map(from_seconds),
            gpus: self.gpus,
            gpus_per_node: self.gpus_per_node,
            node_grace: from_seconds(self.node_grace_seconds),
            eviction: from_seconds(self.eviction_seconds),
        }
    }
}
