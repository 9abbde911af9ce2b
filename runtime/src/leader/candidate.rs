//! One candidate: the requests for its Lease and the pauses between them.
//!
//! Owns what is sent and when; what it follows from is [`super::state`]. A leader renews every
//! retry period. If no renewal succeeds within the renew deadline, even because a request hangs, it
//! steps down at that very moment.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Api, api::PostParams};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::{
    leadership::Leadership,
    state::{Action, Election, Reason},
};
use crate::{kubernetes::error_message, shutdown::Shutdown};

/// The share of the retry period by which followers vary their pauses, so that they do not ask in
/// step.
const JITTER: f64 = 0.2;

/// One candidate for one Lease.
#[derive(Debug)]
pub(super) struct Candidate {
    api: Api<Lease>,
    lease_name: String,
    origin: Instant,
    election: Election,
    /// The metadata of the lease as last seen: its resource version guards the next write.
    metadata: Option<ObjectMeta>,
    publisher: watch::Sender<Leadership>,
    /// Whether the last attempt failed, so that an outage is a warning once and not every retry
    /// period.
    failing: bool,
}

impl Candidate {
    pub(super) fn new(api: Api<Lease>, lease_name: &str, election: Election) -> Self {
        Self {
            api,
            lease_name: lease_name.to_owned(),
            origin: Instant::now(),
            election,
            metadata: None,
            publisher: watch::Sender::new(Leadership::Following { leader: None }),
            failing: false,
        }
    }

    /// Where the candidate publishes whether it leads.
    pub(super) fn subscribe(&self) -> watch::Receiver<Leadership> {
        self.publisher.subscribe()
    }

    /// Stands for election until `shutdown` has drained.
    pub(super) async fn stand(mut self, shutdown: Shutdown) {
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
        // A term that was lost a moment ago may still have work under way, so nothing is released
        // before the end.
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
            Ok(Err(error)) => Err(error_message(&error)),
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

    /// A leader writes on what it knows; when that is outdated, and for a follower always, it reads
    /// first.
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
            Ok(result) => result.map_err(|error| error_message(&error)),
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
