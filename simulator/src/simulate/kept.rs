//! The requests of a source in memory, so that they are read and drawn once for any number of
//! plays.
//!
//! A request without blocks of its prompt takes sixteen bytes. Sources that tell blocks, or have
//! more requests than [`REQUESTS_MAX`], are read again each time: memory stays bounded by 32 MiB a
//! run.

use std::sync::Arc;

use crate::engine::Arrival;
use crate::time::Nanos;
use crate::trace::TraceError;

/// Requests in order of arrival, which may turn out to be unreadable.
pub(crate) type Requests = Box<dyn Iterator<Item = Result<Arrival, TraceError>> + Send>;

/// Most requests that are kept: a few weeks of a service.
const REQUESTS_MAX: usize = 1 << 21;

/// A request whose prompt is known by its length alone.
#[derive(Clone, Copy, Debug)]
struct Plain {
    at: Nanos,
    input_tokens: u32,
    output_tokens: u32,
}

/// The requests read so far, until one does not fit.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    requests: Vec<Plain>,
    overflowed: bool,
}

impl Keeper {
    /// Keeps the next request.
    pub(super) fn add(&mut self, arrival: &Arrival) {
        if self.overflowed {
            return;
        }
        if arrival.prompt.is_some() || self.requests.len() == REQUESTS_MAX {
            *self = Self {
                overflowed: true,
                ..Self::default()
            };
            return;
        }
        self.requests.push(Plain {
            at: arrival.at,
            input_tokens: arrival.input_tokens,
            output_tokens: arrival.output_tokens,
        });
    }

    /// All requests, if all fit.
    pub(super) fn kept(self) -> Option<Kept> {
        (!self.overflowed).then(|| Kept(Arc::new(self.requests)))
    }
}

/// All requests of a source.
#[derive(Clone, Debug)]
pub(super) struct Kept(Arc<Vec<Plain>>);

impl Kept {
    /// The requests from the start.
    pub(super) fn open(&self) -> Requests {
        let requests = Arc::clone(&self.0);
        let mut place = 0;
        Box::new(std::iter::from_fn(move || {
            let plain = *requests.get(place)?;
            place += 1;
            Some(Ok(Arrival {
                at: plain.at,
                input_tokens: plain.input_tokens,
                output_tokens: plain.output_tokens,
                prompt: None,
            }))
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::PromptBlocks;

    fn keeper(count: usize) -> Keeper {
        let mut keeper = Keeper::default();
        for at in 0..count {
            keeper.add(&Arrival {
                at: at as Nanos,
                input_tokens: 2,
                output_tokens: 3,
                prompt: None,
            });
        }
        keeper
    }

    #[test]
    fn requests_come_back_as_they_were_as_often_as_asked() {
        let kept = keeper(5).kept().unwrap();
        for _ in 0..2 {
            let requests: Vec<Arrival> = kept.open().map(Result::unwrap).collect();
            assert_eq!(requests.len(), 5);
            assert!(
                requests
                    .iter()
                    .all(|r| (r.input_tokens, r.output_tokens) == (2, 3))
            );
            assert_eq!(requests.last().map(|request| request.at), Some(4));
        }
    }

    #[test]
    fn too_many_requests_and_prompts_of_blocks_are_not_kept() {
        assert!(keeper(REQUESTS_MAX).kept().is_some());
        assert!(keeper(REQUESTS_MAX + 1).kept().is_none());
        let mut with_blocks = keeper(1);
        with_blocks.add(&Arrival {
            prompt: Some(Arc::new(PromptBlocks::new(512, vec![1]))),
            ..Arrival::default()
        });
        assert!(with_blocks.kept().is_none());
    }
}
