//! A performance profile that the policy is told, and how wrong it is.
//!
//! The engines of a scenario are as its `profile` says; what is skewed is the policy's knowledge. A
//! factor is the engine's time divided by the time that the policy is told: at 1.5 the engine is
//! half as slow again as somebody measured, at 0.7 it is faster. So the clairvoyant bound, which
//! knows the engine, is the same whatever the policy believes.

use pd_core::capacity::coefficients::{DecodeCoefficients, PrefillCoefficients};
use pd_core::capacity::{DecodeModel, PrefillModel};
use serde::{Deserialize, Serialize};

use super::{ScenarioError, ensure};
use crate::engine::Profile;

/// The engine's times over those that the policy is told.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ProfileSkew {
    /// Of prefill, 0.1 to 10; 1 is told the truth.
    pub prefill: f64,
    /// Of decode, 0.1 to 10.
    pub decode: f64,
}

impl Default for ProfileSkew {
    fn default() -> Self {
        Self {
            prefill: 1.0,
            decode: 1.0,
        }
    }
}

impl ProfileSkew {
    pub(super) fn validate(self) -> Result<(), ScenarioError> {
        let factors = [
            ("profileSkew.prefill", self.prefill),
            ("profileSkew.decode", self.decode),
        ];
        for (field, factor) in factors {
            let usable = (0.1..=10.0).contains(&factor);
            ensure(usable, field, factor, "give 0.1 to 10")?;
        }
        Ok(())
    }

    /// The profile that the policy is told of engines that are as `engine` says.
    pub fn stated(self, engine: &Profile) -> pd_core::capacity::Profile {
        let prefill = 1e-3 / self.prefill;
        let decode = 1e-3 / self.decode;
        pd_core::capacity::Profile {
            prefill: Some(PrefillModel::Coefficients(PrefillCoefficients {
                base_seconds: engine.prefill_base_milliseconds * prefill,
                seconds_per_token: engine.prefill_milliseconds_per_kilotoken * 1e-3 * prefill,
                seconds_per_token_squared: engine.prefill_milliseconds_per_megatoken_squared
                    * 1e-6
                    * prefill,
            })),
            decode: Some(DecodeModel::Coefficients(DecodeCoefficients {
                base_seconds: engine.decode_base_milliseconds * decode,
                seconds_per_request: engine.decode_milliseconds_per_request * decode,
                seconds_per_context_token: engine.decode_milliseconds_per_megatoken * 1e-6 * decode,
            })),
            kv_capacity_tokens: Some(engine.kv_capacity_tokens as f64),
            batch_max: Some(engine.max_batch),
        }
    }
}
