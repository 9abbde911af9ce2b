//! Plumbing the PDAutoscaler binaries share: what a well-behaved process in a cluster needs, and nothing about
//! autoscaling.
//!
//! A binary puts it together in this order: [`telemetry`] first, so that every later step is logged;
//! [`shutdown`] next, so that a signal during start-up is honoured; then the [`kubernetes`] client, the
//! [`metrics`] registry, [`readiness`] checks behind the [`admin`] server, and [`leader`] election.
//! [`prometheus`] is how a binary asks for what it did not measure itself.
//! What others call is behind a [`server`], with [`tls`] whose [`certificates`] a [`rotation`] keeps current. Each module
//! brings its own flags as a clap `Args` struct that the binary flattens into its command line.
//!
//! The crate depends on no other crate of the workspace, holds no global state of its own beyond what the
//! libraries under it require (the log subscriber and the TLS provider), and never ends the process: it reports
//! to `main`, which returns an exit code.

pub mod admin;
pub mod certificates;
pub mod kubernetes;
pub mod leader;
pub mod metrics;
pub mod prometheus;
pub mod readiness;
pub mod rotation;
pub mod server;
pub mod shutdown;
pub mod telemetry;
pub mod tls;
