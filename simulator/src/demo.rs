//! `pd-sim demo`: a day of a prefill/decode service under its autoscaler, in a minute.
//!
//! The decisions are the product's own: [`pd_core::plan()`], unchanged, audited at every step, fed
//! with what a scrape of the emulated workers shows. Only the workers, their users and the clock
//! are a model. [`World`] is that closed loop without a clock; the rest paces it, plays the same
//! requests under a rival beside it, shows both on a local page and in the terminal, and writes the
//! report.
//!
//! It asks nothing of the machine but a loopback port and a file, and leaves nothing behind but the
//! file.

pub mod options;
pub mod record;
pub mod rival;
pub mod scenario;
pub mod world;

mod beside;
mod browser;
mod hub;
mod ledger;
mod page;
mod terminal;
mod web;

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use thiserror::Error;

use self::beside::Beside;
use self::hub::Hub;
use self::options::DemoOptions;
use self::record::{Record, Summary};
use self::rival::RivalAbout;
use self::scenario::{Scenario, ScenarioError};
use self::terminal::Progress;
use self::web::Server;
use self::world::World;

/// A demo that cannot run.
#[derive(Debug, Error)]
pub enum DemoError {
    /// The scenario cannot be played.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// The report cannot be written.
    #[error("`--report {}` cannot be written ({source}): name a file in a directory you may write to", path.display())]
    Report {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The page cannot be served.
    #[error(
        "`--port {port}` cannot be listened on at 127.0.0.1 ({source}): give another one, or 0 for any free one"
    )]
    Port {
        /// The port.
        port: u16,
        /// Why.
        source: io::Error,
    },
    /// The page cannot be made.
    #[error("the page cannot be made: {0}")]
    Page(#[from] serde_json::Error),
    /// The player panicked.
    #[error("the run broke off: {0}")]
    Player(#[from] tokio::task::JoinError),
}

/// Runs the demo until the day is over or the user interrupts it, and writes the report either way.
pub async fn run(options: DemoOptions) -> Result<Summary, DemoError> {
    let scenario = match &options.trace {
        None => {
            let day = options.day;
            let rate = options.rate_scale.unwrap_or(day.rate_scale_default());
            Scenario::day(day, options.seed, rate)?
        }
        Some(path) => {
            let (rate, time) = (options.rate_scale.unwrap_or(1.0), options.time_scale);
            Scenario::trace(path, rate, time, options.seed)?
        }
    };
    let against = options.against.0;
    let record = Record::new(scenario.about(), against.map(RivalAbout::of));
    let hub = Arc::new(Hub::new(record));
    let server = Server::start(options.port, Arc::clone(&hub))
        .await
        .map_err(|source| DemoError::Port {
            port: options.port,
            source,
        })?;
    claim(&options.report)?;
    terminal::introduce(&scenario, against, &server.url());
    if !options.no_browser {
        browser::open(&server.url());
    }

    let rival = against
        .map(|policy| World::of_rival(&scenario, policy))
        .transpose()?;
    let (stop, stopped) = mpsc::channel();
    let player = Arc::clone(&hub);
    let duration = options.duration;
    let mut playing =
        tokio::task::spawn_blocking(move || play(&scenario, rival, duration, &stopped, &player));
    let summary = tokio::select! {
        summary = &mut playing => summary?,
        () = interrupted() => {
            // A player that has just ended does not listen, and need not.
            let _ = stop.send(());
            playing.await?
        }
    };

    let html = page::render(&hub.record(), false)?;
    let unwritable = |source| DemoError::Report {
        path: options.report.clone(),
        source,
    };
    fs::write(&options.report, html).map_err(unwritable)?;
    terminal::sum_up(&hub.record(), &summary, &options.report);
    server.close().await;
    Ok(summary)
}

/// Plays a scenario through, a rival beside it, paced so that it takes `duration`, or breaks off
/// when told to.
fn play(
    scenario: &Scenario,
    rival: Option<World>,
    duration: Duration,
    stopped: &Receiver<()>,
    hub: &Hub,
) -> Summary {
    let started = Instant::now();
    let mut progress = Progress::new(scenario.length);
    let mut world = World::new(scenario);
    let beside = rival.map(Beside::start);
    while let Some(step) = world.step() {
        let of_rival = match &beside {
            Some(beside) => beside.points(&step.points),
            None => Vec::new(),
        };
        hub.add(step, of_rival);
        progress.show(&world, &hub.record());
        let due = started + duration.mul_f64(world.progress());
        let pause = due.saturating_duration_since(Instant::now());
        match stopped.recv_timeout(pause) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    progress.end();
    let summary = world.finish();
    hub.end(summary.clone(), beside.and_then(Beside::end));
    summary
}

/// Makes sure before a minute is spent that the report can be written after it.
fn claim(path: &Path) -> Result<(), DemoError> {
    let opened = OpenOptions::new().create(true).append(true).open(path);
    opened.map(drop).map_err(|source| DemoError::Report {
        path: path.to_owned(),
        source,
    })
}

/// Waits for Ctrl-C or a request to terminate. Where signals cannot be had, it waits for ever.
async fn interrupted() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                Ok(()) = tokio::signal::ctrl_c() => return,
                _ = terminate.recv() => return,
            }
        }
    }
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests;
