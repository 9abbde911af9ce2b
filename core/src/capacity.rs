//! The work that one replica can do.
//!
//! Either somebody measured it ([`profile`]; pd-signals reads the texts), or it is learnt online
//! from plain engine metrics ([`learn`]); both are corrected by what is observed now
//! ([`calibrate`]). The [`Estimator`] puts these together and answers with a [`Capacity`], which
//! knows how wrong it may be.

pub mod calibrate;
pub mod ceiling;
pub mod coefficients;
pub mod estimator;
mod fit;
pub mod kv;
pub mod learn;
pub mod limits;
pub mod profile;
pub mod proven;
pub mod table;

pub use ceiling::Ceiling;
pub use estimator::{Capacity, Estimator, Source};
pub use kv::{KvCapacity, kv_capacity};
pub use profile::{DecodeModel, PrefillModel, Profile};
pub use proven::{Fit, Proven};
