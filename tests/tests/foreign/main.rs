//! Beside the real operators of other projects: Kueue's, built from its Go module.
//!
//! It takes long to build, so these tests run only with the feature `foreign`.

#![expect(clippy::unwrap_used, reason = "a failed step of a test ends it")]

mod kueue;
mod kueue_placement;
