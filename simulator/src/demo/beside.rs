//! The rival's world on a thread of its own, in step with the product's.
//!
//! Every point of the charts is waited for on both sides: the product's run takes the rival's point
//! of the same time before it goes on, and the rival is never more than two points ahead. So the
//! page always compares the same moment, and the result does not depend on which is faster.

use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::{self, JoinHandle};

use super::record::{Point, Summary};
use super::world::World;

/// A rival's run in progress.
#[derive(Debug)]
pub(super) struct Beside {
    points: Receiver<Point>,
    playing: JoinHandle<Option<Summary>>,
}

impl Beside {
    /// Begins to play `world`.
    pub(super) fn start(world: World) -> Self {
        let (sender, points) = mpsc::sync_channel(1);
        let playing = thread::spawn(move || play(world, &sender));
        Self { points, playing }
    }

    /// The rival's points at the times of `ours`; waits for them.
    pub(super) fn points(&self, ours: &[Point]) -> Vec<Point> {
        // A rival that broke off has no more.
        ours.iter().map_while(|_| self.points.recv().ok()).collect()
    }

    /// Its summary, if it was played whole; a run that has not ended breaks off.
    pub(super) fn end(self) -> Option<Summary> {
        drop(self.points);
        match self.playing.join() {
            Ok(summary) => summary,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

fn play(mut world: World, points: &SyncSender<Point>) -> Option<Summary> {
    while let Some(step) = world.step() {
        for point in step.points {
            // Nobody listens to a run that was broken off.
            points.send(point).ok()?;
        }
    }
    Some(world.finish())
}
