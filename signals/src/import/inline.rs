//! Coefficients as people write them: YAML or JSON, in milliseconds per thousand and million
//! tokens.
//!
//! ```yaml
//! prefill:
//!   baseMilliseconds: 8.0
//!   millisecondsPerKilotoken: 41.9
//!   millisecondsPerMegatokenSquared: 0.478
//! decode:
//!   baseMilliseconds: 8.64
//!   millisecondsPerRequest: 0.047
//!   millisecondsPerMegatoken: 13.4
//! kvCapacityTokens: 2760000
//! batchMax: 256
//! ```
//!
//! Either role may be left out, and is learnt then. A field that is not known is refused: a
//! misspelt coefficient would be a missing one.

use pd_core::capacity::{
    coefficients::{DecodeCoefficients, PrefillCoefficients},
    profile::{DecodeModel, PrefillModel, Profile},
};
use serde::{Deserialize, de::DeserializeOwned};

use super::{ImportError, TEXT_BYTES_MAX};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Text {
    prefill: Option<Prefill>,
    decode: Option<Decode>,
    kv_capacity_tokens: Option<f64>,
    batch_max: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Prefill {
    base_milliseconds: f64,
    milliseconds_per_kilotoken: f64,
    #[serde(default)]
    milliseconds_per_megatoken_squared: f64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Decode {
    base_milliseconds: f64,
    milliseconds_per_request: f64,
    #[serde(default)]
    milliseconds_per_megatoken: f64,
}

/// The profile that `text` states.
pub fn profile(text: &str) -> Result<Profile, ImportError> {
    let text: Text = yaml(text)?;
    let profile = Profile {
        prefill: text.prefill.map(|prefill| {
            PrefillModel::Coefficients(PrefillCoefficients {
                base_seconds: prefill.base_milliseconds * 1e-3,
                seconds_per_token: prefill.milliseconds_per_kilotoken * 1e-6,
                seconds_per_token_squared: prefill.milliseconds_per_megatoken_squared * 1e-9,
            })
        }),
        decode: text.decode.map(|decode| {
            DecodeModel::Coefficients(DecodeCoefficients {
                base_seconds: decode.base_milliseconds * 1e-3,
                seconds_per_request: decode.milliseconds_per_request * 1e-3,
                seconds_per_context_token: decode.milliseconds_per_megatoken * 1e-9,
            })
        }),
        kv_capacity_tokens: text.kv_capacity_tokens,
        batch_max: text.batch_max,
    };
    Ok(profile.validated()?)
}

/// `text` read as YAML, of which JSON is a part.
pub(super) fn yaml<T: DeserializeOwned>(text: &str) -> Result<T, ImportError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(ImportError::TooLarge { bytes: text.len() });
    }
    serde_saphyr::from_str(text).map_err(|error| ImportError::Yaml {
        // The first line says what and where; a picture of the place follows.
        message: error
            .to_string()
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned(),
    })
}
