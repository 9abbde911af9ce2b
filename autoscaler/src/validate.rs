//! The first step: from an object as watched to the policy to decide by. No I/O.
//!
//! It comes before anything is read, because names and queries of a spec go into requests to the
//! API server and to Prometheus: a text that nobody has checked must not.

use kube::{ResourceExt as _, core::error_boundary::InvalidObject};
use pd_api::{
    PauseReading,
    v1alpha1::{Mode, PDAutoscaler},
};
use pd_core::Policy;

use crate::{Guarded, outcome::Stopped};

/// An object that can be decided about.
#[derive(Debug)]
pub struct ValidObject<'a> {
    /// The object.
    pub object: &'a PDAutoscaler,
    /// The policy of its user.
    pub policy: Policy,
    /// Its pause annotations.
    pub pauses: PauseReading,
}

/// The policy of `object`, or why there is nothing to decide.
pub fn validate(object: &Guarded) -> Result<ValidObject<'_>, Stopped> {
    let object = match &object.0 {
        Ok(object) => object,
        Err(InvalidObject { error, metadata: _ }) => {
            return Err(Stopped::Undecodable(error.clone()));
        }
    };
    if object.spec.mode == Mode::Off {
        return Err(Stopped::Off);
    }
    Ok(ValidObject {
        object,
        policy: object.spec.policy().map_err(Stopped::Invalid)?,
        pauses: PauseReading::from_annotations(object.annotations()),
    })
}
