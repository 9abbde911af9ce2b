//! Ordered shutdown: first the work stops, then the plumbing that the work relied on, then the
//! process.
//!
//! Owns the signals, the tasks of the process and the time they get to end. *Work* (reconcilers,
//! watchers) hears of the shutdown through [`Shutdown::stopping`]. *Services* (leader election, the
//! admin server) stay up until all work has ended, which [`Shutdown::drained`] announces: a lease
//! is released only once nobody can write under it any more, and metrics can be scraped while the
//! work drains.
//!
//! When the work does not end in time, `drained` is never announced and [`Shutdown::wait`] returns;
//! the lease then runs out by itself, which is slower than a release and always safe. A second
//! signal does the same at once. A panic in a task starts the shutdown too: half an operator is
//! worse than a restart.

use std::{
    future::Future,
    io,
    panic::AssertUnwindSafe,
    sync::{Arc, OnceLock},
    time::Duration,
};

use clap::Args;
use futures::FutureExt as _;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The share of the grace period that work may use; the rest is kept for the services to close.
const WORK_SHARE: f64 = 0.8;

/// The shutdown flags.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Shutdown")]
pub struct ShutdownArgs {
    /// How long tasks may take to end after the first signal. Keep it below the pod's
    /// terminationGracePeriodSeconds.
    #[arg(long, default_value = "25s", value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub shutdown_grace_period: Duration,
}

/// How the process came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "main turns the ending into its exit code"]
pub enum Ending {
    /// All work and all services ended within the grace period.
    Drained,
    /// Something was still running when the grace period ended.
    GraceExceeded,
    /// A second signal cut the shutdown short.
    Forced,
    /// A task panicked, which started the shutdown.
    Failed {
        /// The name the task was spawned under.
        task: String,
    },
}

impl Ending {
    /// Whether the process did all it had to do; `main` returns a failure code otherwise.
    pub fn is_clean(&self) -> bool {
        *self == Self::Drained
    }
}

/// The process's shutdown: cloned into every part that has something to end.
#[derive(Debug, Clone)]
pub struct Shutdown {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    grace: Duration,
    stopping: CancellationToken,
    drained: CancellationToken,
    forced: CancellationToken,
    work: TaskTracker,
    services: TaskTracker,
    failed: OnceLock<String>,
}

impl Shutdown {
    /// A shutdown that no signal triggers: for tests and for embedding.
    pub fn new(grace: Duration) -> Self {
        Self {
            shared: Arc::new(Shared {
                grace,
                stopping: CancellationToken::new(),
                drained: CancellationToken::new(),
                forced: CancellationToken::new(),
                work: TaskTracker::new(),
                services: TaskTracker::new(),
                failed: OnceLock::new(),
            }),
        }
    }

    /// A shutdown that SIGTERM or SIGINT triggers and that a second one forces. Needs a tokio
    /// runtime.
    ///
    /// Fails when the signal handlers cannot be installed.
    pub fn on_signals(args: &ShutdownArgs) -> io::Result<Self> {
        let shutdown = Self::new(args.shutdown_grace_period);
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        tokio::spawn(shutdown.clone().follow_signals(terminate, interrupt));
        Ok(shutdown)
    }

    /// Starts the shutdown, as the first signal does.
    pub fn trigger(&self) {
        self.shared.stopping.cancel();
    }

    /// Cuts the shutdown short, as the second signal does.
    pub fn force(&self) {
        self.trigger();
        self.shared.forced.cancel();
    }

    /// Cancelled when the shutdown starts. Work ends after its current step.
    pub fn stopping(&self) -> CancellationToken {
        self.shared.stopping.clone()
    }

    /// Cancelled when all work has ended. Services end then.
    pub fn drained(&self) -> CancellationToken {
        self.shared.drained.clone()
    }

    /// Runs `task` as work: it must end soon after [`stopping`](Self::stopping) is cancelled.
    pub fn spawn(&self, name: &str, task: impl Future<Output = ()> + Send + 'static) {
        self.shared.work.spawn(self.guarded(name, task));
    }

    /// Runs `task`, which never ends by itself, as work that is dropped when the shutdown starts.
    pub fn spawn_until_stopped(&self, name: &str, task: impl Future<Output = ()> + Send + 'static) {
        let stopping = self.stopping();
        self.spawn(name, async move {
            tokio::select! {
                () = stopping.cancelled() => {}
                () = task => {}
            }
        });
    }

    /// Runs `task` as a service: it must end soon after [`drained`](Self::drained) is cancelled.
    pub fn spawn_service(&self, name: &str, task: impl Future<Output = ()> + Send + 'static) {
        self.shared.services.spawn(self.guarded(name, task));
    }

    /// Waits for the shutdown to start and then for the tasks to end, for at most the grace period.
    ///
    /// After it returns, `main` returns: tasks still running are dropped with the runtime.
    pub async fn wait(&self) -> Ending {
        let shared = &*self.shared;
        shared.stopping.cancelled().await;
        let started = Instant::now();
        tracing::info!(grace_seconds = shared.grace.as_secs_f64(), "shutting down");

        let ending = tokio::select! {
            biased;
            () = shared.forced.cancelled() => Ending::Forced,
            drained = self.drain(started) => if drained { Ending::Drained } else { Ending::GraceExceeded },
        };
        let ending = match shared.failed.get() {
            Some(task) if ending == Ending::Drained => Ending::Failed { task: task.clone() },
            _ => ending,
        };
        let took_seconds = started.elapsed().as_secs_f64();
        if ending.is_clean() {
            tracing::info!(took_seconds, "shut down");
        } else {
            let (work, services) = (shared.work.len(), shared.services.len());
            tracing::warn!(
                ?ending,
                took_seconds,
                work,
                services,
                "shut down with faults"
            );
        }
        ending
    }

    async fn drain(&self, started: Instant) -> bool {
        let shared = &*self.shared;
        shared.work.close();
        if timeout(shared.grace.mul_f64(WORK_SHARE), shared.work.wait())
            .await
            .is_err()
        {
            return false;
        }
        shared.drained.cancel();
        shared.services.close();
        let left = shared.grace.saturating_sub(started.elapsed());
        timeout(left, shared.services.wait()).await.is_ok()
    }

    fn guarded(
        &self,
        name: &str,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> impl Future<Output = ()> + Send + 'static {
        let (shutdown, name) = (self.clone(), name.to_owned());
        async move {
            if AssertUnwindSafe(task).catch_unwind().await.is_err() {
                tracing::error!(task = name, "task panicked, shutting down");
                // Only the first panic is reported: the later ones may follow from it.
                let _ = shutdown.shared.failed.set(name);
                shutdown.trigger();
            }
        }
    }

    async fn follow_signals(self, mut terminate: Signal, mut interrupt: Signal) {
        let mut next = async || {
            tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            }
        };
        let first = next().await;
        tracing::info!(
            signal = first,
            "signal received, a second one skips the grace period"
        );
        self.trigger();
        let second = next().await;
        tracing::warn!(signal = second, "second signal received, ending now");
        self.force();
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, sync::Mutex};

    use super::*;

    fn shutdown() -> Shutdown {
        Shutdown::new(Duration::from_secs(10))
    }

    #[tokio::test(start_paused = true)]
    async fn services_close_only_after_work_has_ended() {
        let shutdown = shutdown();
        let order = Arc::new(Mutex::new(Vec::new()));
        for (name, token, lag) in [
            ("work", shutdown.stopping(), 3),
            ("service", shutdown.drained(), 0),
        ] {
            let order = order.clone();
            let task = async move {
                token.cancelled().await;
                tokio::time::sleep(Duration::from_secs(lag)).await;
                order.lock().unwrap().push(name);
            };
            match name {
                "work" => shutdown.spawn(name, task),
                _ => shutdown.spawn_service(name, task),
            }
        }
        shutdown.trigger();
        assert_eq!(shutdown.wait().await, Ending::Drained);
        assert_eq!(*order.lock().unwrap(), ["work", "service"]);
    }

    #[tokio::test(start_paused = true)]
    async fn stuck_work_ends_the_wait_in_time_and_leaves_services_undisturbed() {
        let shutdown = shutdown();
        shutdown.spawn("stuck", pending());
        shutdown.trigger();
        let started = Instant::now();
        assert_eq!(shutdown.wait().await, Ending::GraceExceeded);
        assert!(started.elapsed() <= Duration::from_secs(10));
        assert!(
            !shutdown.drained().is_cancelled(),
            "a lease must not be released under live work"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn stuck_services_end_the_wait_at_the_grace_period() {
        let shutdown = shutdown();
        shutdown.spawn_service("stuck", pending());
        shutdown.trigger();
        let started = Instant::now();
        assert_eq!(shutdown.wait().await, Ending::GraceExceeded);
        assert_eq!(started.elapsed().as_secs(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_signal_ends_the_wait_at_once() {
        let shutdown = shutdown();
        shutdown.spawn("stuck", pending());
        shutdown.force();
        let started = Instant::now();
        assert_eq!(shutdown.wait().await, Ending::Forced);
        assert_eq!(started.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_panicking_task_shuts_the_process_down_and_is_named() {
        let shutdown = shutdown();
        shutdown.spawn("reconciler", async { panic!("a bug") });
        assert_eq!(
            shutdown.wait().await,
            Ending::Failed {
                task: "reconciler".into()
            }
        );
    }
}
