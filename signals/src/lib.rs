//! pd-signals: what the engines, and the profiles of them, say about a service.
//!
//! Owns the PromQL texts and what becomes of the answers, the names of a workload's pods, and the
//! formats of performance profiles. The controller and the simulator read with the same code, so a
//! service that one can read can be read by the other.
//!
//! The one idea: a signal is one row of an [`engine`]'s catalogue, from which both the query and
//! the reading of its answer follow.
//!
//! Refuses Kubernetes and HTTP: the caller sends the texts of [`queries`] and hands the samples to
//! [`decode`], reads `ConfigMap`s or files and hands their texts to [`profile`] or [`import`].
//! Every function is one of its arguments alone.

pub mod decode;
pub mod engine;
pub mod gateway;
pub mod import;
pub mod pods;
pub mod profile;
pub mod queries;
pub mod sample;
pub mod stated;
mod tag;

pub use sample::Sample;
