//! Many runs at once: on all cores, in a fixed order, with a bar on a terminal.
//!
//! Runs know nothing of each other, so the result does not depend on how many are played at once.
//! The bar goes to standard error and only to a terminal, so that what is printed stays clean
//! wherever it is sent.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use indicatif::{ProgressBar, ProgressStyle};
use rayon::iter::{ParallelBridge as _, ParallelIterator as _};

/// A bar over so many steps; on no terminal it shows nothing.
pub(crate) fn progress(steps: usize) -> ProgressBar {
    let bar = ProgressBar::new(steps as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {msg}") {
        bar.set_style(style);
    }
    bar
}

/// Steps of the bar of a single run.
pub(crate) const PERMILLE: u64 = 1_000;

/// A bar over one run, under the same rules; while it stands at 0 the traffic is read.
pub(crate) fn progress_of_one() -> ProgressBar {
    let bar = ProgressBar::new(PERMILLE);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {percent} % {elapsed} {msg}") {
        bar.set_style(style);
    }
    bar
}

/// Runs at once when the user does not say.
pub(crate) fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Does `work` for all `items`, so many at once, and gives the results in their order. After an
/// error no further item is begun; the error of the earliest item is given.
pub(crate) fn parallel<T: Sync, U: Send, E: Send>(
    jobs: usize,
    items: &[T],
    work: impl Fn(&T) -> Result<U, E> + Sync,
) -> Result<Vec<U>, E> {
    let failed = AtomicBool::new(false);
    let play = || {
        // Items are begun in their order, not in halves as `par_iter` would. So every item before
        // one that failed has been begun, and the earliest error does not depend on the number of
        // cores.
        let in_order = items.iter().enumerate().par_bridge();
        let begun = in_order.filter(|_| !failed.load(Ordering::Relaxed));
        let done = begun.map(|(place, item)| {
            let result = work(item);
            if result.is_err() {
                failed.store(true, Ordering::Relaxed);
            }
            (place, result)
        });
        done.collect::<Vec<_>>()
    };
    let threads = jobs.clamp(1, items.len().max(1));
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    // A machine that gives no threads of our own still has those that rayon shares.
    let mut done = pool.map_or_else(|_| play(), |pool| pool.install(play));
    done.sort_by_key(|(place, _)| *place);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_order_however_many_run_at_once() {
        let items: Vec<u32> = (0..100).collect();
        for jobs in [0, 1, 3, 1_000] {
            let twice = parallel(jobs, &items, |item| Ok::<_, ()>(item * 2)).unwrap();
            assert_eq!(twice, items.iter().map(|item| item * 2).collect::<Vec<_>>());
        }
        let none: [u32; 0] = [];
        assert_eq!(parallel(4, &none, |_| Ok::<_, ()>(())), Ok(Vec::new()));
    }

    #[test]
    fn the_earliest_error_is_given() {
        let items: Vec<u32> = (0..100).collect();
        let failing = |item: &u32| if *item >= 7 { Err(*item) } else { Ok(()) };
        assert_eq!(parallel(1, &items, failing), Err(7));
        assert_eq!(parallel(4, &items, failing), Err(7));
    }
}
