//! Lives of replicas.
