//! The engine emulator: plays the prefill and decode pods of a real cluster with the engine model.
//!
//! KWOK makes pods `Ready` but nothing runs in them. The emulator watches those pods and lets each
//! be a worker of its namespace's simulated service, in real time and under a stated load.
//! Prometheus finds the workers by `http_sd` and scrapes from each what a vLLM server would answer.
//! No number is scripted: replicas change TTFT and TPOT only through the model.
//!
//! It refuses to write to the cluster. [`Emulator`] runs in a test's own process or, as
//! `pd-engine-emulator`, beside it; the HTTP interface is the same.

mod http;
mod options;
mod pods;
mod state;
mod world;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use kube::Client;
use tokio::{net::TcpListener, task::JoinSet, time::Instant};

use self::world::World;
pub use self::{
    options::{EmulatorOptions, LabelValue},
    state::{NamespaceState, Percentiles, RoleState, State, WorkerReport},
    world::{LoadChange, LoadError},
};

/// How often the model catches up with the clock while nobody asks it anything.
const TICK: Duration = Duration::from_millis(100);

/// A running emulator; dropping it stops it.
#[derive(Debug)]
pub struct Emulator {
    shared: Shared,
    address: SocketAddr,
    // Dropping the set aborts the tasks.
    tasks: JoinSet<()>,
}

impl Emulator {
    /// Begins to watch pods and to answer on `options.listen`. Pods appear as the watch finds them.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn start(client: Client, options: EmulatorOptions) -> std::io::Result<Self> {
        let listener = TcpListener::bind(options.listen).await?;
        let address = listener.local_addr()?;
        let shared = Shared::new(World::new(options.clone()));
        let mut tasks = JoinSet::new();
        tasks.spawn(pods::watch(client, options, shared.clone()));
        tasks.spawn(tick(shared.clone()));
        let router = http::router(shared.clone(), address);
        tasks.spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "the emulator's HTTP server stopped");
            }
        });
        Ok(Self {
            shared,
            address,
            tasks,
        })
    }

    /// Its address, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The address for Prometheus' `http_sd_configs`.
    pub fn service_discovery_url(&self) -> String {
        format!("{}/sd", self.url())
    }

    /// Changes the stated load at once.
    ///
    /// # Errors
    /// A number is out of its range; nothing is changed.
    pub fn set_load(&self, change: &LoadChange) -> Result<(), LoadError> {
        self.shared.with(|world, now| world.set_load(now, change))
    }

    /// The state that users and workers see now.
    pub fn state(&self) -> State {
        self.shared.with(World::state)
    }

    /// Waits until the emulator stops by itself, which it does only on a defect.
    pub async fn stopped(&mut self) {
        self.tasks.join_next().await;
    }
}

async fn tick(shared: Shared) {
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        interval.tick().await;
        shared.with(World::advance);
    }
}

/// The world and the clock that drives it, shared by the tasks. Never held across an await.
#[derive(Clone, Debug)]
struct Shared {
    world: Arc<Mutex<World>>,
    started: Instant,
}

impl Shared {
    fn new(world: World) -> Self {
        Self {
            world: Arc::new(Mutex::new(world)),
            started: Instant::now(),
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut World, u64) -> T) -> T {
        // A panic elsewhere is reported there; the model itself is still whole.
        let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        let now = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        act(&mut world, now)
    }
}
