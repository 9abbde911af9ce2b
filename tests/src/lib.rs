//! The real control plane for tests, and the tests that run on it.
//!
//! Nothing here is a stand-in for Kubernetes: etcd, kube-apiserver, kube-controller-manager,
//! kube-scheduler, KWOK and Prometheus run as child processes of the test, built from their own Go
//! modules when the machine does not have them. Only the nodes' kubelets are played (by KWOK) and
//! only the inference engines are emulated.
//!
//! [`tools`] finds or builds the binaries, [`supervisor`] runs them so that none outlives the test,
//! [`control_plane`] composes them into a cluster, [`prometheus`] adds a metrics server,
//! [`add_ons`] what a cluster without numeric tolerations needs to have them, [`foreign`] operators
//! of other projects. [`dashboards`] are those of the chart, and [`scrape`] says whether they show
//! what our programs are scraped for.

pub mod add_ons;
pub mod admission_load;
pub mod binaries;
pub mod bindings;
pub mod chart;
pub mod control_plane;
pub mod dashboards;
pub mod emulator;
pub mod foreign;
pub mod gangs;
pub mod late;
pub mod meter;
pub mod mirror_pace;
pub mod ports;
pub mod prometheus;
pub mod scrape;
pub mod stage;
pub mod supervisor;
mod text;
pub mod throughput;
pub mod tools;
