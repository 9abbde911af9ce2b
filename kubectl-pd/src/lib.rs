//! The kubectl plugin of PDAutoscaler: what an object does, why, what keeps it from it, and how to
//! begin.
//!
//! Pure core, thin shell: [`status`], [`explain`], [`why_not`], [`pause`], [`import`] and
//! [`preflight::judge`] turn values of the API into texts and changes, without a cluster, a clock
//! or a file. [`cluster`], [`source`] and [`preflight::probe`] read and write, and [`run`] puts
//! both together.
//!
//! It decides nothing about replicas: it shows what the controller left in status, in the same
//! words. Columns have the names that `kubectl get` shows, reasons are those of conditions, events
//! and metrics.

pub mod args;
pub mod cluster;
pub mod complete;
pub mod controller;
pub mod exit;
pub mod explain;
pub mod import;
pub mod output;
pub mod pause;
pub mod placement;
pub mod preflight;
pub mod run;
pub mod source;
pub mod status;
pub mod table;
pub mod why_not;

#[cfg(test)]
mod tests;
