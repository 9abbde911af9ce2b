//! A simulated prefill and decode service that drives the same decisions as the controller.
//!
//! [`engine`] is the model of the serving engines, [`traffic`] the requests that are sent to it,
//! [`exposition`] the metrics text that such an engine would show to Prometheus, and [`observe`]
//! what a controller would learn from it. These have no clock, threads or network, so that a day
//! runs in a minute and the test suite's engine emulator runs the same model in real time. Clock,
//! page and terminal are [`demo`]'s alone.

pub mod demo;
pub mod engine;
pub mod exposition;
pub mod observe;
pub mod time;
pub mod traffic;
