//! A request-level model of one prefill/decode service: what its users and its metrics would see.
//!
//! The model is a discrete-event one. Prefill workers serve prompts first come, first served; a
//! decode worker steps a continuous batch whose every step takes longer the more requests and the
//! more context it holds; between the two the KV cache travels. Nothing advances step by step: the
//! time of the n-th step of an unchanged batch has a closed form, so only arrivals, prefill ends,
//! KV arrivals and changes of a batch cost work. Times come out of the [`Profile`] alone, so more
//! prefill workers shorten TTFT, and more decode workers shorten TPOT, only as far as the model
//! says so.
//!
//! The engine refuses to decide anything about replicas: workers are added and removed by the
//! caller. It has no clock and draws no random numbers. The same calls in the same order give the
//! same result, bit for bit, and looking at the metrics never changes it.

mod decode;
mod histogram;
mod metrics;
mod prefill;
mod profile;
mod request;
mod service;

pub use self::histogram::{Histogram, ITL_BUCKETS, PHASE_BUCKETS, TOKEN_BUCKETS, TTFT_BUCKETS};
pub use self::metrics::WorkerMetrics;
pub use self::profile::{Profile, ProfileError};
pub use self::request::{Arrival, Ending, Outcome, PromptBlocks};
pub use self::service::{Removal, Role, Service, ServiceError, WorkerState, WorkerView};
