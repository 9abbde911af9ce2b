//! The requests that users send: when they arrive and how long prompt and answer are.
//!
//! Owns the load curve and its shapes, tables of rates, the draws, and the embedded days. Requests
//! come one at a time from an endless or bounded iterator, so that a week needs no more memory than
//! a second. Arrivals, prompt lengths and answer lengths draw from separate streams of one seed: a
//! change of the answer lengths leaves every arrival where it was.

mod arrivals;
mod curve;
mod day;
mod drawn;
mod rates;

pub use self::arrivals::Arrivals;
pub use self::curve::{Curve, CurveError, Load};
pub use self::day::{DayError, reasoning_day, servegen_day};
pub use self::drawn::{Drawn, DrawnError, Shape, TrafficSpec};
pub use self::rates::RatesError;
