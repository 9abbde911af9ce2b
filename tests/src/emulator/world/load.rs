//! The load of a service as it is stated from outside, and what becomes of it when it is changed.

use pd_sim::{
    engine::{Profile, ProfileError},
    exposition::Dialect,
    traffic::{Curve, CurveError, Load},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

/// A change of the stated load; what is absent stays as it is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LoadChange {
    /// The namespace it is for; without one, all of them, those that appear later included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Arrivals per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<f64>,
    /// Mean prompt tokens per request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_tokens_mean: Option<f64>,
    /// Mean output tokens per request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_tokens_mean: Option<f64>,
    /// Coefficient of variation of prompt tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_tokens_cv: Option<f64>,
    /// Coefficient of variation of output tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_tokens_cv: Option<f64>,
    /// Coefficients of the workers to change, by their names in [`Profile`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<Value>,
    /// Whose metric names all pods use from now on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dialect: Option<Dialect>,
}

/// A load that cannot be played.
#[derive(Debug, Error)]
pub enum LoadError {
    /// A number of the load is out of its range.
    #[error(transparent)]
    Load(#[from] CurveError),
    /// A coefficient is out of its range.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// The profile does not have this shape.
    #[error("load field `profile` cannot be read: {0}")]
    Shape(#[from] serde_json::Error),
    /// The emulator plays another namespace.
    #[error("namespace `{asked}` is not played: this emulator plays `{played}` only")]
    Namespace {
        /// The namespace asked for.
        asked: String,
        /// The one it plays.
        played: String,
    },
}

/// A service as it was stated.
#[derive(Clone, Debug)]
pub(in crate::emulator) struct Stated {
    pub(in crate::emulator) load: Load,
    /// The load as a curve; absent as long as none was stated.
    pub(super) curve: Option<Curve>,
    pub(super) profile: Profile,
    pub(super) dialect: Option<Dialect>,
}

impl Stated {
    pub(super) fn changed(&self, change: &LoadChange) -> Result<Self, LoadError> {
        let old = &self.load;
        let load = Load {
            requests_per_second: change
                .requests_per_second
                .unwrap_or(old.requests_per_second),
            input_tokens_mean: change.input_tokens_mean.unwrap_or(old.input_tokens_mean),
            output_tokens_mean: change.output_tokens_mean.unwrap_or(old.output_tokens_mean),
            input_tokens_cv: change.input_tokens_cv.unwrap_or(old.input_tokens_cv),
            output_tokens_cv: change.output_tokens_cv.unwrap_or(old.output_tokens_cv),
        };
        let curve = Some(Curve::constant(load)?);
        let profile = match &change.profile {
            None => self.profile.clone(),
            Some(overrides) => merged(&self.profile, overrides)?,
        };
        profile.validate()?;
        Ok(Self {
            load,
            curve,
            profile,
            dialect: change.dialect.or(self.dialect),
        })
    }
}

fn merged(profile: &Profile, overrides: &Value) -> Result<Profile, serde_json::Error> {
    let mut whole = serde_json::to_value(profile)?;
    match (whole.as_object_mut(), overrides.as_object()) {
        (Some(whole), Some(overrides)) => whole.extend(overrides.clone()),
        _ => whole = overrides.clone(),
    }
    serde_json::from_value(whole)
}
