//! A simulated prefill and decode service that drives the same decisions as the controller.
//!
//! [`engine`] is the model of the serving engines, [`traffic`] the requests that are sent to it,
//! and [`exposition`] the metrics text that such an engine would show to Prometheus. All of it is a
//! library without clock, threads or network, so that the demo runs a day in a minute and the test
//! suite's engine emulator runs the same model in real time.

pub mod demo;
pub mod engine;
pub mod exposition;
pub mod observe;
pub mod time;
pub mod traffic;
