//! The controller on an API server that fails on purpose: a file for each kind of fault.
//!
//! Every scenario holds the same laws. No fault scales anything down. A fault is visible as a
//! condition, as an event and as a metric. The object beside is served as if nothing had happened,
//! and when the fault is over the plan is carried out. Time is virtual, and no test waits for real
//! time.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod api_server;
mod beside;
mod budget;
mod bug;
mod classes;
mod conflict;
mod decoding;
mod drain;
mod late;
mod leadership;
mod login;
mod memory;
mod refusal;
mod room;
mod silence;
mod stage;
mod watches;
