//! A request-level model of one prefill/decode service: what its users and its metrics would see.
//!
//! The model is a discrete-event one of what vLLM's scheduler does. Prefill workers compute prompts
//! in steps of a bounded number of tokens, first come, first served, so that short prompts share a
//! step and long ones take several; a decode worker steps a continuous batch whose every step takes
//! longer the more requests and the more context it holds; between the two the KV cache travels,
//! and holds its blocks on both sides while it does. A prefill step is one event. Decode does not
//! advance step by step: the time of the n-th step of an unchanged batch and its KV blocks have a
//! closed form, so only KV arrivals and changes of a batch cost work. Times come out of the
//! [`Profile`] alone, so more prefill workers shorten TTFT, and more decode workers shorten TPOT,
//! only as far as the model says so.
//!
//! The engine refuses to decide anything about replicas: workers are added and removed by the
//! caller. It has no clock and draws no random numbers. The same calls in the same order give the
//! same result, bit for bit, and looking at the metrics never changes it.

mod blocks;
mod clock;
mod decode;
mod histogram;
mod link;
mod metrics;
mod prefill;
mod prefix_cache;
mod profile;
mod prompt_blocks;
mod request;
mod role;
mod router;
mod service;

pub use self::histogram::{
    Edges, Histogram, ITL_BUCKETS, PHASE_BUCKETS, STEP_BUCKETS, TOKEN_BUCKETS, TTFT_BUCKETS,
};
pub use self::link::{BetweenDomains, KvTraffic, Links};
pub use self::metrics::WorkerMetrics;
pub use self::prefix_cache::{PrefixCaches, Sessions};
pub use self::profile::{DecodeStair, Profile, ProfileError};
pub use self::prompt_blocks::PromptBlocks;
pub use self::request::{Arrival, Ending, RequestOutcome};
pub use self::role::Role;
pub use self::router::{CacheAware, EppScoring, LocalPrefill, Routing, Rule};
pub use self::service::{Dispatch, Removal, Service, ServiceError, WorkerState, WorkerView};
