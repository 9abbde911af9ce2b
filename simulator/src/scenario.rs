//! A scenario: the service that a trace is played on, as a YAML file.
//!
//! It says what one replica can do, how the controller is set up, how replicas live and what goes
//! wrong; and what is sent, unless a trace is given. What the owner wants is the spec of a
//! PDAutoscaler, the very type that a cluster stores. Whatever is left out has a default, so that
//! an empty file is a scenario. A field that does not exist is refused, since a misspelt limit
//! would silently be another experiment.

mod checked_spec;
mod faults;
mod lifecycle;
mod profile_skew;
mod routing;

use std::path::{Path, PathBuf};
use std::time::Duration;

use pd_core::policy::Policy;
use pd_core::{PerRole, Role};
use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

pub use self::checked_spec::{CheckedSpec, SpecError};
pub use self::faults::{FaultKind, FaultSpec};
pub use self::lifecycle::{LifecycleSpec, PartSpec, StartSpec};
pub use self::profile_skew::ProfileSkew;
use crate::engine::{Dispatch, Links, PrefixCaches, Profile, ProfileError, Routing};
use crate::observe::Windows;
use crate::time::{Nanos, from_duration, from_seconds};
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
    /// The JSON is no scenario.
    #[error("{0}")]
    Json(serde_json::Error),
    /// A field is known to nobody.
    #[error("scenario field `{0}` does not exist: correct its name or remove it")]
    UnknownField(String),
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
        /// The remedy.
        remedy: &'static str,
    },
}

/// A scenario as written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Scenario {
    /// A note for readers; not used.
    pub description: String,
    /// How fast the workers of both roles are, and how long they take to start: the lead time.
    pub profile: Profile,
    /// How requests find their workers.
    pub routing: Routing,
    /// The workers' memory of prompts; without, each finds the profile's `prefixHitRatio`.
    pub prefix_cache: Option<PrefixCaches>,
    /// The links that KV caches travel over; without, each has the profile's bandwidth to itself.
    pub links: Option<Links>,
    /// The spec of the service's PDAutoscaler: objective, bounds, ratio, budget, behavior.
    pub spec: CheckedSpec,
    /// Replicas of each role at the start of the run; without, those that the load of the first
    /// minutes takes.
    pub replicas_at_start: PerRole<Option<u32>>,
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
    /// The profile that the policy gets of a replica, and how wrong it is; without, it gets nothing
    /// and learns.
    pub profile_skew: Option<ProfileSkew>,
    /// How replicas start, serve and leave.
    pub lifecycle: LifecycleSpec,
    /// The faults, and when they happen.
    pub faults: Vec<FaultSpec>,
    /// The traffic where no trace is given; without, the embedded day.
    pub traffic: Option<TrafficSpec>,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            description: String::new(),
            profile: Profile::default(),
            routing: Routing::default(),
            prefix_cache: None,
            links: None,
            spec: CheckedSpec::default(),
            replicas_at_start: PerRole::default(),
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
        Self::parse(&text, path)
    }

    /// Checks the text of a scenario, which messages call `path`.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ScenarioError> {
        let read =
            serde_saphyr::with_deserializer_from_str(text, |yaml| Self::deserialize_all(yaml));
        let (scenario, unknown) = read.map_err(|error| ScenarioError::Yaml {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
        scenario.checked(unknown)
    }

    /// The scenario that JSON holds, checked.
    pub(crate) fn of_json(json: serde_json::Value) -> Result<Self, ScenarioError> {
        let (scenario, unknown) = Self::deserialize_all(json).map_err(ScenarioError::Json)?;
        scenario.checked(unknown)
    }

    /// The scenario, and a field of it that does not exist. The API server drops such a field of a
    /// spec; here it would silently be another experiment.
    fn deserialize_all<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<(Self, Option<String>), D::Error> {
        let mut unknown = None;
        let scenario = serde_ignored::deserialize(from, |path| {
            // The path has a `?` where a field is optional.
            unknown.get_or_insert(path.to_string().replace("?.", ""));
        })?;
        Ok((scenario, unknown))
    }

    fn checked(self, unknown: Option<String>) -> Result<Self, ScenarioError> {
        if let Some(field) = unknown {
            return Err(ScenarioError::UnknownField(field));
        }
        self.validate()?;
        Ok(self)
    }

    /// Refuses what cannot be played.
    pub fn validate(&self) -> Result<(), ScenarioError> {
        self.profile.validate()?;
        self.validate_times()?;
        self.validate_routing()?;
        for role in Role::ALL {
            if let Some(start) = self.replicas_at_start[role] {
                let usable = (1..=10_000).contains(&start);
                let field = format!("replicasAtStart.{role}");
                ensure(usable, &field, start, "give 1 to 10000")?;
            }
        }
        if let Some(skew) = self.profile_skew {
            skew.validate()?;
        }
        self.lifecycle.validate(&self.profile)?;
        for (index, fault) in self.faults.iter().enumerate() {
            fault.validate(index)?;
        }
        Ok(())
    }

    fn validate_times(&self) -> Result<(), ScenarioError> {
        let times = [
            ("intervalSeconds", self.interval_seconds),
            ("scrapeIntervalSeconds", self.scrape_interval_seconds),
            ("rateWindowSeconds", self.rate_window_seconds),
            ("gaugeWindowSeconds", self.gauge_window_seconds),
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

    /// Time between two decisions.
    pub fn interval(&self) -> Nanos {
        from_seconds(self.interval_seconds)
    }

    /// Makes both roles take `lead` from being asked for to being ready.
    pub fn set_lead(&mut self, lead: Duration) {
        self.profile.prefill_startup_seconds = lead.as_secs_f64();
        self.profile.decode_startup_seconds = lead.as_secs_f64();
    }

    /// Time from requesting a replica to its serving, seconds.
    pub fn lead_seconds(&self) -> PerRole<f64> {
        PerRole {
            prefill: self.profile.prefill_startup_seconds,
            decode: self.profile.decode_startup_seconds,
        }
    }

    /// The owner's policy.
    pub const fn policy(&self) -> &Policy {
        self.spec.policy()
    }

    /// The world of this scenario, for `length`, starting with `replicas` where it names none.
    pub fn setup(&self, length: Nanos, replicas: PerRole<u32>) -> Setup {
        let policy = self.policy();
        Setup {
            gpus_per_replica: self.spec.gpus_per_replica(),
            replicas_at_start: PerRole::from_fn(|role| {
                let bounds = policy.bounds[role];
                let within = replicas[role].clamp(bounds.min_replicas, bounds.max_replicas);
                self.replicas_at_start[role].unwrap_or(within)
            }),
            interval: self.interval(),
            scrape_interval: from_seconds(self.scrape_interval_seconds),
            windows: Windows {
                wide: Windows::default().wide,
                rate: from_seconds(self.rate_window_seconds),
                gauge: from_seconds(self.gauge_window_seconds),
                attainment: from_duration(policy.objective.attainment.window),
            },
            warm_up: from_seconds(self.warm_up_seconds),
            lifecycle: self.lifecycle.lifecycle(),
            faults: self.faults.iter().map(FaultSpec::fault).collect(),
            stated_profile: self.profile_skew.map(|skew| skew.stated(&self.profile)),
            dispatch: Dispatch {
                routing: self.routing,
                prefix_caches: self.prefix_cache,
                links: self.links,
                seed: 0,
            },
            ..Setup::new(policy.clone(), self.profile.clone(), length)
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
