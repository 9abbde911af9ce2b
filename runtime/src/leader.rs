//! Leader election on a `coordination.k8s.io/v1` Lease: of several replicas, one acts.
//!
//! Owns the requests and the pauses between them, and publishes the result as a watch channel; the rules are in
//! [`state`]. A leader renews every retry period. If no renewal succeeds within the renew deadline, even because
//! a request hangs, it steps down at that very moment. At shutdown it goes on renewing until the work has
//! drained and only then clears the lease, so that the next leader starts at once and never beside it.
//!
//! [`Leadership::is_leader`] also looks at the clock, so a process that was frozen past its deadline knows it
//! before this module's task has run again. It cannot fence a request that is already under way; writers also
//! need a resource version.

use std::{error::Error, iter, time::Duration};

use clap::{ArgAction, Args};
use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Api, Client, api::PostParams};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use self::state::{Action, Election, Reason, Timing, TimingError};
use crate::shutdown::Shutdown;

pub mod state;

/// The share of the retry period by which followers vary their pauses, so that they do not ask in step.
const JITTER: f64 = 0.2;

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

    /// Name of this candidate, unique among the replicas. By default the host name and a random suffix.
    #[arg(long, value_name = "NAME", env = "POD_NAME")]
    pub leader_election_identity: Option<String>,
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

/// Whether this process may act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leadership {
    /// This process leads.
    Leading {
        /// When the term began.
        since: Instant,
        /// When the term ends unless it is renewed before; `None` when no election is held.
        until: Option<Instant>,
    },
    /// Another process leads, or none does.
    Following {
        /// The leader, as far as this process knows one.
        leader: Option<String>,
    },
}

impl Leadership {
    /// Whether this process may act at this moment. Ask again before each write.
    pub fn is_leader(&self) -> bool {
        match self {
            Self::Leading { until, .. } => until.is_none_or(|until| Instant::now() < until),
            Self::Following { .. } => false,
        }
    }

    /// Whether `self` and `other` differ in more than the end of the term, which moves at every renewal.
    fn differs(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Leading { since, .. }, Self::Leading { since: other, .. }) => since != other,
            _ => self != other,
        }
    }
}

/// One candidate for one Lease.
#[derive(Debug)]
pub struct LeaderElection {
    candidate: Option<Candidate>,
}

impl LeaderElection {
    /// Prepares to stand for the Lease `lease_name`.
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
        let candidate = args.leader_elect.then(|| Candidate {
            api,
            lease_name: lease_name.to_owned(),
            origin: Instant::now(),
            election: Election::new(identity, timing),
            metadata: None,
            publisher: watch::Sender::new(Leadership::Following { leader: None }),
            failing: false,
        });
        Ok(Self { candidate })
    }

    /// Stands for election until `shutdown` has drained. The receiver is notified when leadership changes, and
    /// not when a term is merely renewed.
    pub fn run(self, shutdown: &Shutdown) -> watch::Receiver<Leadership> {
        if let Some(candidate) = self.candidate {
            let leadership = candidate.publisher.subscribe();
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

#[derive(Debug)]
struct Candidate {
    api: Api<Lease>,
    lease_name: String,
    origin: Instant,
    election: Election,
    /// The metadata of the lease as last seen: its resource version guards the next write.
    metadata: Option<ObjectMeta>,
    publisher: watch::Sender<Leadership>,
    /// Whether the last attempt failed, so that an outage is a warning once and not every retry period.
    failing: bool,
}

impl Candidate {
    async fn stand(mut self, shutdown: Shutdown) {
        let (stopping, drained) = (shutdown.stopping(), shutdown.drained());
        tracing::info!(
            identity = self.election.identity(),
            lease = self.lease_name,
            "stands for election"
        );
        loop {
            tokio::select! {
                biased;
                () = drained.cancelled() => break,
                () = stopping.cancelled(), if self.election.leading().is_none() => break,
                () = self.attempt_and_pause() => {}
            }
        }
        // A term that was lost a moment ago may still have work under way, so nothing is released before the end.
        drained.cancelled().await;
        if self.election.has_stood() {
            self.release().await;
        }
        self.publisher
            .send_replace(Leadership::Following { leader: None });
    }

    async fn attempt_and_pause(&mut self) {
        self.attempt().await;
        let now = self.now();
        let retry = self.election.timing().retry_period();
        let pause = match (self.election.leading(), self.election.decide(now)) {
            (Some(leading), _) => retry.min(leading.until.saturating_sub(now)),
            (None, Action::Wait { until }) if until > now => {
                jittered(retry.min(until.saturating_sub(now)))
            }
            (None, _) => jittered(retry),
        };
        sleep(pause).await;
        self.step_down_if_expired();
    }

    async fn attempt(&mut self) {
        let now = self.now();
        let limit = match self.election.leading() {
            Some(leading) => leading.until.saturating_sub(now),
            None => self.election.timing().renew_deadline(),
        };
        let result = match timeout(limit, self.round()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(with_causes(&error)),
            Err(_) => Err(format!(
                "no answer within {}",
                humantime::format_duration(limit)
            )),
        };
        match result {
            Ok(()) => self.failing = false,
            Err(error) if self.failing => tracing::debug!(error, "leader election still fails"),
            Err(error) => {
                self.failing = true;
                tracing::warn!(
                    error,
                    lease = self.lease_name,
                    "leader election request failed, retrying"
                );
            }
        }
        self.step_down_if_expired();
        self.publish();
    }

    /// A leader writes on what it knows; when that is outdated, and for a follower always, it reads first.
    async fn round(&mut self) -> Result<(), kube::Error> {
        if self.election.leading().is_none() {
            self.read().await?;
        }
        match self.act().await {
            Err(error) if is_outdated(&error) => {
                self.read().await?;
                self.act().await
            }
            result => result,
        }
    }

    async fn read(&mut self) -> Result<(), kube::Error> {
        let lease = self.api.get_opt(&self.lease_name).await?;
        let (metadata, spec) = match lease {
            Some(lease) => (Some(lease.metadata), Some(lease.spec.unwrap_or_default())),
            None => (None, None),
        };
        self.metadata = metadata;
        self.election.observe(spec.as_ref(), self.now());
        Ok(())
    }

    async fn act(&mut self) -> Result<(), kube::Error> {
        match self.election.decide(self.now()) {
            Action::Wait { .. } => Ok(()),
            Action::StepDown(reason) => {
                self.step_down(&reason);
                Ok(())
            }
            Action::Acquire | Action::Renew => {
                let proposal = self.election.proposal(Timestamp::now());
                let sent_at = self.now();
                let accepted = self.write(proposal).await?;
                self.election.accepted(&accepted, sent_at, self.now());
                Ok(())
            }
        }
    }

    async fn write(&mut self, spec: LeaseSpec) -> Result<LeaseSpec, kube::Error> {
        let params = PostParams::default();
        let written = if let Some(mut metadata) = self.metadata.clone() {
            metadata.managed_fields = None;
            let lease = Lease {
                metadata,
                spec: Some(spec),
            };
            self.api.replace(&self.lease_name, &params, &lease).await?
        } else {
            let name = Some(self.lease_name.clone());
            let metadata = ObjectMeta {
                name,
                ..ObjectMeta::default()
            };
            let lease = Lease {
                metadata,
                spec: Some(spec),
            };
            self.api.create(&params, &lease).await?
        };
        self.metadata = Some(written.metadata);
        Ok(written.spec.unwrap_or_default())
    }

    fn step_down_if_expired(&mut self) {
        if self
            .election
            .leading()
            .is_some_and(|leading| self.now() >= leading.until)
        {
            self.step_down(&Reason::RenewDeadline);
        }
    }

    fn step_down(&mut self, reason: &Reason) {
        self.election.step_down();
        tracing::warn!(?reason, lease = self.lease_name, "steps down");
        self.publish();
    }

    async fn release(&mut self) {
        let limit = self.election.timing().renew_deadline();
        let result = match timeout(limit, self.read_and_release()).await {
            Ok(result) => result.map_err(|error| with_causes(&error)),
            Err(_) => Err(format!(
                "no answer within {}",
                humantime::format_duration(limit)
            )),
        };
        if let Err(error) = result {
            tracing::warn!(
                error,
                lease = self.lease_name,
                "lease not released, it runs out by itself"
            );
        }
    }

    /// Reads first, because the shutdown may have cut off a write whose outcome is unknown.
    async fn read_and_release(&mut self) -> Result<(), kube::Error> {
        self.read().await?;
        if let Some(released) = self.election.release(Timestamp::now()) {
            self.write(released).await?;
            tracing::info!(lease = self.lease_name, "lease released");
        }
        Ok(())
    }

    fn publish(&self) {
        let next = self.leadership();
        self.publisher.send_if_modified(|current| {
            let changed = current.differs(&next);
            if changed {
                tracing::info!(leadership = ?next, lease = self.lease_name, "leadership changed");
            }
            *current = next;
            changed
        });
    }

    fn leadership(&self) -> Leadership {
        if let Some(leading) = self.election.leading() {
            let until = Some(self.origin + leading.until);
            return Leadership::Leading {
                since: self.origin + leading.since,
                until,
            };
        }
        // One's own name in the lease without a term says that nobody leads.
        let own = self.election.identity();
        let leader = self.election.holder().filter(|holder| *holder != own);
        Leadership::Following {
            leader: leader.map(str::to_owned),
        }
    }

    fn now(&self) -> Duration {
        self.origin.elapsed()
    }
}

fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(1.0 + JITTER * rand::random::<f64>())
}

/// Whether a write failed because the lease is no longer what it was taken for.
fn is_outdated(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status)
        if status.is_conflict() || status.is_already_exists() || status.is_not_found())
}

/// The error and what caused it: the client's own message for a refused connection does not say so much.
fn with_causes(error: &dyn Error) -> String {
    let causes = iter::successors(error.source(), |&cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
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
