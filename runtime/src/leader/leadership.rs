//! Whether this process leads, and the terms in which it does.
//!
//! Owns no request: [`super::candidate`] publishes [`Leadership`] on a watch channel, and everybody
//! else reads it here. [`Leadership::is_leader`] also looks at the clock, so a process that was
//! frozen past its deadline knows it before any task has run again.

use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

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

    /// Whether `self` and `other` differ in more than the end of the term, which moves at every
    /// renewal.
    pub(super) fn differs(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Leading { since, .. }, Self::Leading { since: other, .. }) => since != other,
            _ => self != other,
        }
    }
}

/// One term of leadership. Clones are of the same term.
#[derive(Debug, Clone)]
pub struct Term {
    /// Cancelled when the term ends, or the process: finish the request under way and return.
    pub stop: CancellationToken,
    leadership: watch::Receiver<Leadership>,
}

impl Term {
    /// The next term of this process; nothing once `stopping` is cancelled.
    pub async fn next(
        leadership: &watch::Receiver<Leadership>,
        stopping: &CancellationToken,
    ) -> Option<Self> {
        let leads = until(leadership.clone(), true);
        stopping.run_until_cancelled(leads).await?;
        tracing::info!("leading");
        Some(Self {
            stop: stopping.child_token(),
            leadership: leadership.clone(),
        })
    }

    /// Whether a write may be made at this moment.
    pub fn may_write(&self) -> bool {
        !self.stop.is_cancelled() && self.leadership.borrow().is_leader()
    }

    /// Runs `work`, which ends soon after [`Term::stop`] is cancelled, to its end.
    pub async fn run(self, work: impl Future<Output = ()>) {
        let watched = async {
            let lost = until(self.leadership.clone(), false);
            if self.stop.run_until_cancelled(lost).await.is_some() {
                self.stop.cancel();
            }
        };
        tokio::join!(watched, work);
        tracing::info!("not leading");
    }
}

/// Completes when this process leads, or no longer does.
async fn until(mut leadership: watch::Receiver<Leadership>, leads: bool) {
    // The sender lives as long as the process; its end means nobody leads any more.
    let gone = leadership
        .wait_for(|now| now.is_leader() == leads)
        .await
        .is_err();
    if gone && leads {
        std::future::pending::<()>().await;
    }
}
