//! A scenario: the service that a trace is played on, as a YAML file.
//!
//! It says what one replica can do, what the owner wants, how the controller is set up, how replicas
//! live and what goes wrong; and what is sent, unless a trace is given. Whatever is left out has the product's default, so that an empty file
//! is a scenario. A field that does not exist is refused, since a misspelt limit would silently be
//! another experiment.

mod behavior;
mod faults;
mod lifecycle;
mod profile_skew;
mod routing;

use std::path::{Path, PathBuf};
use std::time::Duration;

use pd_core::policy::{
    AttainmentTarget, Bounds, Coefficients, Enforcement, LatencyTarget, LeadPolicy, Objective,
    OnMissingMetrics, Policy, RatioPolicy,
};
use pd_core::ratio::RatioBand;
use pd_core::{PerRole, Ratio, Role};
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use self::behavior::{BehaviorSpec, RulesSpec};
pub use self::faults::{FaultKind, FaultSpec};
pub use self::lifecycle::{LifecycleSpec, PartSpec, StartSpec};
pub use self::profile_skew::ProfileSkew;
use crate::engine::{Dispatch, Links, PrefixCaches, Profile, ProfileError, Routing};
use crate::observe::Windows;
use crate::time::{Nanos, from_seconds};
use crate::traffic::TrafficSpec;
use crate::world::Setup;

/// A scenario that cannot be played.
#[derive(Debug, Error)]
pub enum ScenarioError {
    /// The file cannot be read.
    #[error("scenario `{}` cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The text is no scenario.
    #[error("scenario `{}` is not valid: {reason}", path.display())]
    Yaml {
        /// The file.
        path: PathBuf,
        /// Why, with the line.
        reason: String,
    },
    /// A coefficient of the profile is impossible.
    #[error("scenario {0}")]
    Profile(#[from] ProfileError),
    /// A field is out of its range.
    #[error("scenario field `{field}` is `{value}`: {remedy}")]
    OutOfRange {
        /// The field.
        field: String,
        /// Its value.
        value: String,
        /// What to give instead.
        remedy: &'static str,
    },
}

/// A limit on one latency.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LatencySpec {
    /// The limit, milliseconds; above 0.
    pub limit_milliseconds: f64,
    /// The percentile that must stay under it, 50 to 99.
    #[serde(default = "percentile_default")]
    pub percentile: u8,
}

/// The share of requests that must meet both limits.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AttainmentSpec {
    /// Percent of requests, 1 to 100.
    pub percent: u8,
    /// The window the share is taken over, seconds; above 0.
    pub window_seconds: f64,
}

/// What the owner promises to users.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ObjectiveSpec {
    /// Time to first token.
    pub ttft: LatencySpec,
    /// Time per output token.
    pub tpot: LatencySpec,
    /// Share of requests that must meet both.
    pub attainment: AttainmentSpec,
}

/// Replicas of one role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ReplicasSpec {
    /// Fewest, at least 1.
    pub min: u32,
    /// Most, at least `min`.
    pub max: u32,
    /// At the start of the run; without, what the load of the first minutes takes.
    pub start: Option<u32>,
}

/// The P:D band.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RatioSpec {
    /// Least prefill per decode, such as `1:4`.
    pub lowest: Ratio,
    /// Most prefill per decode, such as `4:1`.
    pub highest: Ratio,
    /// How far either may be passed, percent, 0 to 99.
    #[serde(default)]
    pub tolerance_percent: u8,
    /// What wins when band and objective disagree: `Soft` is the objective, `Hard` the band.
    #[serde(default = "enforcement_default")]
    pub enforcement: Enforcement,
}

/// A scenario as written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Scenario {
    /// What a reader should know about it; not used.
    pub description: String,
    /// How fast the workers of both roles are, and how long they take to start: the lead time.
    pub profile: Profile,
    /// How requests find their workers.
    pub routing: Routing,
    /// What workers remember of prompts; without, each finds the profile's `prefixHitRatio`.
    pub prefix_cache: Option<PrefixCaches>,
    /// What KV caches travel over; without, each has the profile's bandwidth to itself.
    pub links: Option<Links>,
    /// GPUs of one replica of each role, at least 1.
    pub gpus_per_replica: PerRole<u32>,
    /// Latency limits and attainment.
    pub objective: ObjectiveSpec,
    /// Replicas of each role.
    pub replicas: PerRole<ReplicasSpec>,
    /// The P:D band; without, the ratio follows the traffic.
    pub ratio: Option<RatioSpec>,
    /// Most GPUs both roles may hold together.
    pub budget_gpus: Option<u32>,
    /// How fast replicas may change.
    pub behavior: BehaviorSpec,
    /// Time between two decisions, seconds; a multiple of `scrapeIntervalSeconds`.
    pub interval_seconds: f64,
    /// Time between two scrapes, seconds.
    pub scrape_interval_seconds: f64,
    /// Window of rates and distributions, seconds.
    pub rate_window_seconds: f64,
    /// Window of gauges, seconds.
    pub gauge_window_seconds: f64,
    /// How long the service has served before the autoscaler comes to it, seconds: the first
    /// minutes of the traffic, played once before the run.
    pub warm_up_seconds: f64,
    /// What the policy is told about a replica, and how wrong that is; without, it is told nothing
    /// and learns.
    pub profile_skew: Option<ProfileSkew>,
    /// How replicas start, serve and leave.
    pub lifecycle: LifecycleSpec,
    /// What goes wrong, and when.
    pub faults: Vec<FaultSpec>,
    /// What is sent where no trace is given; without, the embedded day.
    pub traffic: Option<TrafficSpec>,
}

fn percentile_default() -> u8 {
    99
}

fn enforcement_default() -> Enforcement {
    Enforcement::Soft
}

impl Default for AttainmentSpec {
    fn default() -> Self {
        Self {
            percent: 99,
            window_seconds: 3_600.0,
        }
    }
}

impl Default for ObjectiveSpec {
    fn default() -> Self {
        let limit = |limit_milliseconds| LatencySpec {
            limit_milliseconds,
            percentile: percentile_default(),
        };
        Self {
            ttft: limit(500.0),
            tpot: limit(25.0),
            attainment: AttainmentSpec::default(),
        }
    }
}

impl Default for ReplicasSpec {
    fn default() -> Self {
        Self {
            min: 1,
            max: 64,
            start: None,
        }
    }
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            description: String::new(),
            profile: Profile::default(),
            routing: Routing::default(),
            prefix_cache: None,
            links: None,
            gpus_per_replica: PerRole::from_fn(|_| 4),
            objective: ObjectiveSpec::default(),
            replicas: PerRole::default(),
            ratio: None,
            budget_gpus: None,
            behavior: BehaviorSpec::default(),
            interval_seconds: 15.0,
            scrape_interval_seconds: 15.0,
            rate_window_seconds: 120.0,
            gauge_window_seconds: 30.0,
            warm_up_seconds: 600.0,
            profile_skew: None,
            lifecycle: LifecycleSpec::default(),
            faults: Vec::new(),
            traffic: None,
        }
    }
}

impl Scenario {
    /// Reads and checks a scenario.
    pub fn read(path: &Path) -> Result<Self, ScenarioError> {
        let text = std::fs::read_to_string(path).map_err(|source| ScenarioError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        let scenario: Self =
            serde_saphyr::from_str(&text).map_err(|error| ScenarioError::Yaml {
                path: path.to_owned(),
                reason: error.to_string(),
            })?;
        scenario.validate()?;
        Ok(scenario)
    }

    /// Refuses what cannot be played.
    pub fn validate(&self) -> Result<(), ScenarioError> {
        self.profile.validate()?;
        self.validate_times()?;
        self.validate_objective()?;
        self.validate_routing()?;
        for role in Role::ALL {
            self.validate_role(role)?;
        }
        if let Some(ratio) = self.ratio {
            let lowest_first = ratio.lowest.as_f64() <= ratio.highest.as_f64();
            let remedy = "give a ratio that is not below `lowest`";
            ensure(lowest_first, "ratio.highest", ratio.highest, remedy)?;
            let tolerance = ratio.tolerance_percent;
            ensure(
                tolerance <= 99,
                "ratio.tolerancePercent",
                tolerance,
                "give 0 to 99",
            )?;
        }
        if let Some(skew) = self.profile_skew {
            skew.validate()?;
        }
        self.lifecycle.validate(&self.profile)?;
        for (index, fault) in self.faults.iter().enumerate() {
            fault.validate(index)?;
        }
        self.behavior.validate()
    }

    fn validate_times(&self) -> Result<(), ScenarioError> {
        let times = [
            ("intervalSeconds", self.interval_seconds),
            ("scrapeIntervalSeconds", self.scrape_interval_seconds),
            ("rateWindowSeconds", self.rate_window_seconds),
            ("gaugeWindowSeconds", self.gauge_window_seconds),
            (
                "objective.attainment.windowSeconds",
                self.objective.attainment.window_seconds,
            ),
        ];
        for (field, seconds) in times {
            let usable = (1.0..=604_800.0).contains(&seconds);
            ensure(usable, field, seconds, "give 1 to 604800 seconds")?;
        }
        let warm_up = self.warm_up_seconds;
        let usable = (0.0..=604_800.0).contains(&warm_up);
        ensure(usable, "warmUpSeconds", warm_up, "give 0 to 604800 seconds")?;
        let (interval, scrape) = (self.interval(), from_seconds(self.scrape_interval_seconds));
        let remedy = "give a multiple of `scrapeIntervalSeconds`";
        ensure(
            interval.is_multiple_of(scrape),
            "intervalSeconds",
            self.interval_seconds,
            remedy,
        )
    }

    fn validate_objective(&self) -> Result<(), ScenarioError> {
        let objective = &self.objective;
        for (name, latency) in [("ttft", objective.ttft), ("tpot", objective.tpot)] {
            let limit = latency.limit_milliseconds;
            let usable = (0.001..=3_600_000.0).contains(&limit);
            let field = format!("objective.{name}.limitMilliseconds");
            ensure(usable, &field, limit, "give 0.001 to 3600000 milliseconds")?;
            let usable = (50..=99).contains(&latency.percentile);
            let field = format!("objective.{name}.percentile");
            ensure(usable, &field, latency.percentile, "give 50 to 99")?;
        }
        let percent = objective.attainment.percent;
        let usable = (1..=100).contains(&percent);
        ensure(
            usable,
            "objective.attainment.percent",
            percent,
            "give 1 to 100",
        )
    }

    fn validate_role(&self, role: Role) -> Result<(), ScenarioError> {
        let replicas = self.replicas.get(role);
        let field = |name: &str| format!("replicas.{role}.{name}");
        ensure(
            replicas.min >= 1,
            &field("min"),
            replicas.min,
            "give 1 or more",
        )?;
        let remedy = "give `min` or more, and 10000 at most";
        let usable = (replicas.min..=10_000).contains(&replicas.max);
        ensure(usable, &field("max"), replicas.max, remedy)?;
        if let Some(start) = replicas.start {
            let usable = (1..=10_000).contains(&start);
            ensure(usable, &field("start"), start, "give 1 to 10000")?;
        }
        let gpus = *self.gpus_per_replica.get(role);
        let usable = (1..=1_000).contains(&gpus);
        ensure(
            usable,
            &format!("gpusPerReplica.{role}"),
            gpus,
            "give 1 to 1000",
        )
    }

    /// Time between two decisions.
    pub fn interval(&self) -> Nanos {
        from_seconds(self.interval_seconds)
    }

    /// Makes both roles take `lead` from being asked for to being ready.
    pub fn set_lead(&mut self, lead: Duration) {
        self.profile.prefill_startup_seconds = lead.as_secs_f64();
        self.profile.decode_startup_seconds = lead.as_secs_f64();
    }

    /// The same for the decision core.
    pub fn policy(&self) -> Policy {
        let limit = |latency: LatencySpec| LatencyTarget {
            limit: Duration::from_secs_f64(latency.limit_milliseconds / 1e3),
            percentile: latency.percentile,
        };
        let objective = self.objective;
        Policy {
            bounds: self.replicas.map(|replicas| Bounds {
                min_replicas: replicas.min,
                max_replicas: replicas.max,
            }),
            objective: Objective {
                ttft: limit(objective.ttft),
                tpot: limit(objective.tpot),
                attainment: AttainmentTarget {
                    percent: objective.attainment.percent,
                    window: Duration::from_secs_f64(objective.attainment.window_seconds),
                },
            },
            ratio: self.ratio.map(|ratio| RatioPolicy {
                band: RatioBand {
                    lowest: ratio.lowest,
                    highest: ratio.highest,
                    tolerance_percent: ratio.tolerance_percent,
                },
                enforcement: ratio.enforcement,
            }),
            budget_gpus: self.budget_gpus,
            behavior: self.behavior.rules(),
            on_missing_metrics: OnMissingMetrics::Hold,
            schedules: Vec::new(),
            scale_to_zero: None,
            // The product's defaults: lead times are measured, not told.
            lead: LeadPolicy {
                assumed: Duration::from_mins(2),
                stuck_after: Duration::from_mins(10),
            },
            operating_points: None,
            coefficients: Coefficients::default(),
        }
    }

    /// The world of this scenario, for `length`, starting with `replicas` where it names none.
    pub fn setup(&self, length: Nanos, replicas: PerRole<u32>) -> Setup {
        Setup {
            gpus_per_replica: self.gpus_per_replica,
            replicas_at_start: PerRole::from_fn(|role| {
                let spec = self.replicas.get(role);
                let within = (*replicas.get(role)).clamp(spec.min, spec.max.max(spec.min));
                spec.start.unwrap_or(within)
            }),
            interval: self.interval(),
            scrape_interval: from_seconds(self.scrape_interval_seconds),
            windows: Windows {
                wide: Windows::default().wide,
                rate: from_seconds(self.rate_window_seconds),
                gauge: from_seconds(self.gauge_window_seconds),
                attainment: from_seconds(self.objective.attainment.window_seconds),
            },
            warm_up: from_seconds(self.warm_up_seconds),
            lifecycle: self.lifecycle.lifecycle(),
            faults: self.faults.iter().map(FaultSpec::fault).collect(),
            told_profile: self.profile_skew.map(|skew| skew.told(&self.profile)),
            dispatch: Dispatch {
                routing: self.routing,
                prefix_caches: self.prefix_cache,
                links: self.links,
                seed: 0,
            },
            ..Setup::new(self.policy(), self.profile.clone(), length)
        }
    }
}

/// Refuses a field that is not `usable`.
fn ensure(
    usable: bool,
    field: &str,
    value: impl std::fmt::Display,
    remedy: &'static str,
) -> Result<(), ScenarioError> {
    if usable {
        return Ok(());
    }
    Err(ScenarioError::OutOfRange {
        field: field.to_owned(),
        value: value.to_string(),
        remedy,
    })
}

#[cfg(test)]
mod tests;
