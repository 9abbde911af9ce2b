//! A simulated prefill and decode service that drives the same decisions as the controller.
//!
//! [`engine`] is the model of the serving engines, [`traffic`] the requests that are sent to it,
//! [`exposition`] the metrics text that such an engine would show to Prometheus, and [`observe`]
//! what a controller would learn from it. [`lifecycle`] is what becomes of replicas that are asked
//! for, and [`fault`] what goes wrong. [`world`] closes the loop with an [`autoscaler`]. These have
//! no clock, threads or network, so that a day runs in seconds and the test suite's engine emulator
//! runs the same model in real time.
//!
//! Commands are made of them: [`demo`] shows a day on a local page, [`simulate`] plays a [`trace`]
//! in a [`scenario`] and prints what it came to, beside the [`clairvoyant`] bound, [`compare`] does
//! so for many policies, traces and lead times, [`sweep`] for one policy over a grid of parameters,
//! and [`policy`] is the product as a process of the [`protocol`] that lets foreign policies decide
//! here and ours elsewhere; [`replay`] decides on recordings again.

pub mod autoscaler;
pub mod backtest;
pub mod calibrate;
pub mod clairvoyant;
pub mod compare;
pub mod demo;
pub mod engine;
pub mod exposition;
pub mod fault;
pub mod lifecycle;
pub mod measured;
pub mod observe;
pub mod policy;
pub mod protocol;
pub mod replay;
pub mod scenario;
pub mod simulate;
pub mod sweep;
pub mod time;
pub mod trace;
pub mod traffic;
pub mod world;

mod batch;
mod chart;
#[cfg(test)]
mod testing;
