//! Plumbing the PDAutoscaler binaries share: what a well-behaved process in a cluster needs, and
//! nothing about autoscaling.
//!
//! [`process`] starts a binary: [`telemetry`], [`shutdown`], the [`kubernetes`] client, then
//! [`readiness`] checks and [`metrics`] behind the [`admin`] server. [`leader`] election follows
//! where one replica acts, and [`prometheus`] is how a binary asks for what it did not measure
//! itself. [`feature_gate`] asks the API server whether it compares numbers. A [`server`] answers
//! others, which [`post_only`] keeps to the calls it is for, with [`tls`] whose [`certificates`] a
//! [`rotation`] keeps current. Each module brings its own flags as a clap `Args` struct that the
//! binary flattens into its command line.
//!
//! The crate depends on no other crate of the workspace, holds no global state of its own beyond
//! what the libraries under it require (the log subscriber and the TLS provider), and never ends
//! the process: it reports to `main`, which returns an exit code.

pub mod admin;
pub mod args;
pub mod certificates;
pub mod feature_gate;
pub mod kubernetes;
pub mod leader;
pub mod metrics;
pub mod post_only;
pub mod process;
pub mod prometheus;
pub mod readiness;
pub mod rotation;
pub mod server;
pub mod shutdown;
pub mod telemetry;
pub mod tls;
