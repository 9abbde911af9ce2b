//! Leader election on a `coordination.k8s.io/v1` Lease: of several replicas, one acts.
//!
//! Owns the flags and the start of an election. [`state`] has the rules, `candidate` makes the
//! requests, and [`leadership`] is how the rest of the process learns the result. At shutdown a
//! leader goes on renewing until the work has drained and only then clears the lease, so that the
//! next leader starts at once and never beside it.
//!
//! It is our own because kubert and kube-leader-election compare the times written in a lease with
//! the local clock, so that a wrong clock makes two leaders. It cannot fence a request that is
//! already under way; writers also need a resource version.

use std::time::Duration;

use clap::{ArgAction, Args};
use k8s_openapi::api::{coordination::v1::Lease, core::v1::ObjectReference};
use kube::{Api, Client};
use tokio::{sync::watch, time::Instant};

use self::{
    candidate::Candidate,
    state::{Election, Timing, TimingError},
};
use crate::shutdown::Shutdown;

pub use self::leadership::{Leadership, Term};

mod candidate;
pub mod leadership;
pub mod state;

/// The flags of leader election.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Leader election")]
pub struct LeaderArgs {
    /// Elect one leader among the replicas. Without it this process acts as if it were alone.
    #[arg(
        long, action = ArgAction::Set, value_name = "BOOL",
        default_value_t = true, default_missing_value = "true", num_args = 0..=1, require_equals = true
    )]
    pub leader_elect: bool,

    /// How long followers wait after the last renewal they saw before one of them takes over.
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = humantime::parse_duration)]
    pub leader_election_lease_duration: Duration,

    /// How long the leader tries to renew before it steps down.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    pub leader_election_renew_deadline: Duration,

    /// Pause between two attempts to acquire or renew.
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = humantime::parse_duration)]
    pub leader_election_retry_period: Duration,

    /// Namespace of the Lease. By default the namespace of the pod or of the kubeconfig's context.
    #[arg(long, value_name = "NAMESPACE", env = "POD_NAMESPACE")]
    pub leader_election_namespace: Option<String>,

    /// Name of the Lease. By default the program's name; two installations in one namespace need
    /// two.
    #[arg(long, value_name = "NAME", env = "PD_LEADER_ELECTION_LEASE")]
    pub leader_election_lease: Option<String>,

    /// Name of this candidate, unique among the replicas. By default the host name and a random
    /// suffix.
    #[arg(long, value_name = "NAME", env = "POD_NAME")]
    pub leader_election_identity: Option<String>,
}

impl LeaderArgs {
    /// The pod that the process runs in, if it knows: its name is the identity in the election.
    /// `default_namespace` is the client's.
    pub fn own_pod(&self, default_namespace: &str) -> Option<ObjectReference> {
        let namespace = self.leader_election_namespace.as_deref();
        Some(ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: Some(self.leader_election_identity.clone()?),
            namespace: Some(namespace.unwrap_or(default_namespace).to_owned()),
            ..ObjectReference::default()
        })
    }
}

/// Why an election cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum LeaderError {
    /// The three durations do not fit together.
    #[error("the leader election flags do not fit together")]
    Timing(#[from] TimingError),
    /// An empty identity reads as a released lease.
    #[error(
        "leader election identity `` must not be empty: unset POD_NAME, or give --leader-election-identity"
    )]
    IdentityEmpty,
}

/// An election that is prepared.
#[derive(Debug)]
pub struct LeaderElection {
    candidate: Option<Candidate>,
}

impl LeaderElection {
    /// Prepares to stand for the Lease of `args`, else for `lease_name`.
    pub fn new(client: Client, args: &LeaderArgs, lease_name: &str) -> Result<Self, LeaderError> {
        let timing = Timing::new(
            args.leader_election_lease_duration,
            args.leader_election_renew_deadline,
            args.leader_election_retry_period,
        )?;
        let identity = args
            .leader_election_identity
            .clone()
            .unwrap_or_else(random_identity);
        if identity.is_empty() {
            return Err(LeaderError::IdentityEmpty);
        }
        let namespace = args
            .leader_election_namespace
            .as_deref()
            .filter(|name| !name.is_empty());
        let api: Api<Lease> = match namespace {
            Some(namespace) => Api::namespaced(client, namespace),
            None => Api::default_namespaced(client),
        };
        let lease_name = args.leader_election_lease.as_deref().unwrap_or(lease_name);
        let election = Election::new(identity, timing);
        let candidate = args
            .leader_elect
            .then(|| Candidate::new(api, lease_name, election));
        Ok(Self { candidate })
    }

    /// Stands for election until `shutdown` has drained. The receiver is notified when leadership
    /// changes, and not when a term is merely renewed.
    pub fn run(self, shutdown: &Shutdown) -> watch::Receiver<Leadership> {
        if let Some(candidate) = self.candidate {
            let leadership = candidate.subscribe();
            shutdown.spawn_service("leader-election", candidate.stand(shutdown.clone()));
            return leadership;
        }
        tracing::info!("no leader election: this process acts alone");
        let alone = Leadership::Leading {
            since: Instant::now(),
            until: None,
        };
        let (publisher, leadership) = watch::channel(alone);
        let drained = shutdown.drained();
        shutdown.spawn_service("leadership", async move {
            drained.cancelled().await;
            publisher.send_replace(Leadership::Following { leader: None });
        });
        leadership
    }
}

fn random_identity() -> String {
    let host = hostname::get().map(|name| name.to_string_lossy().into_owned());
    format!(
        "{}_{:08x}",
        host.as_deref().unwrap_or("unknown"),
        rand::random::<u32>()
    )
}

#[cfg(test)]
mod tests;
