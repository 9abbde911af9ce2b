//! The signals that may be believed, of those that were read.
//!
//! Three rules. A number outside what its unit allows is refused: an engine that reports
//! milliseconds as seconds, or percent as a share, must not scale anything. A latency is also held
//! against Little's law: rate times latency, which is the sum of a histogram over its window, is
//! the mean number of requests in the system, and a mean cannot exceed the most that were there.
//! Only that side can be judged: much less than the present queue is just what a burst looks like.
//!
//! And a role speaks when at least half of the workers that have ever been scraped still are. From
//! there up to all of them, sums are carried to the whole role; replicas are not lowered on that.

use super::{
    Coverage, Gap, HistogramReading, Reading, Signals,
    name::{SignalName, Unit},
};
use crate::role::{PerRole, Role};

/// How many times the most requests in the system the mean by Little's law may be. Windows end at
/// different samples and latencies reach back before them; a wrong unit is a thousand.
const LITTLE_FACTOR_MAX: f64 = 30.0;

/// Observations that Little's law is applied from.
const LITTLE_SAMPLES_MIN: f64 = 20.0;

/// A signal that is not believed.
#[derive(Clone, Debug, PartialEq)]
pub struct Doubt {
    /// Which.
    pub signal: SignalName,
    /// The gap that takes its place.
    pub gap: Gap,
    /// A sentence without its full stop that names it, with the numbers.
    pub message: String,
}

impl Coverage {
    /// Whether enough workers are scraped to speak for the role: one, and half of those that were
    /// ever scraped.
    pub fn quorum(self) -> bool {
        self.scraped > 0 && u64::from(self.scraped) * 2 >= u64::from(self.seen)
    }

    /// Workers that a sum speaks for once it was carried to the missing ones too. A mean per worker
    /// divides by them, and by no other number.
    pub fn spoken_for(self) -> u32 {
        if self.quorum() {
            self.seen.max(self.scraped)
        } else {
            self.scraped
        }
    }

    /// The factor, at least 1, that carries sums over the scraped workers to the missing ones too.
    pub fn scale(self) -> f64 {
        if self.quorum() {
            f64::from(self.spoken_for()) / f64::from(self.scraped)
        } else {
            1.0
        }
    }
}

impl Signals {
    /// Signals that cannot be true or speak for too few workers, in a fixed order.
    pub fn doubts(&self) -> Vec<Doubt> {
        let mut doubts: Vec<Doubt> = Vec::new();
        for (name, reading) in self.numbers() {
            let found = implausible(name, reading.known())
                .or_else(|| no_quorum(name, reading, self.coverage[name.role()?]));
            doubts.extend(found);
        }
        for (name, recent, wide) in self.distributions() {
            let means = [recent, wide].map(HistogramReading::mean);
            let by_range = means.into_iter().find_map(|mean| implausible(name, mean));
            doubts.extend(by_range.or_else(|| self.too_many_in_system(name, recent)));
        }
        doubts
    }

    /// The signals as decisions may use them: doubtful ones not known, sums of partly scraped roles
    /// carried to the whole role, and no zero known of a role that is not wholly scraped. To be
    /// applied once.
    #[must_use]
    pub fn judged(&self, ready: PerRole<u32>) -> Self {
        let doubts = self.doubts();
        let mut judged = self.clone();
        let idle = self.nothing_arrives();
        judged.update_numbers(|name, reading| {
            if let Some(gap) = reading.gap() {
                // A reading that was put together by hand may be no number; from here on it says
                // so.
                *reading = Reading::Unknown(gap);
            }
            if let Some(doubt) = doubts.iter().find(|doubt| doubt.signal == name) {
                *reading = Reading::Unknown(doubt.gap);
            } else if name.unit() == Unit::Share {
                *reading = at_most_one(*reading);
            } else if let Some(role) = name.role() {
                *reading = carried(*reading, name, self.coverage[role], ready[role]);
            } else if idle && *reading == Reading::Unknown(Gap::NotANumber) {
                // A quantile of nothing is NaN. The request counter says that nothing is right.
                *reading = Reading::KnownZero;
            }
        });
        judged.update_distributions(|name, reading| {
            let base = match name {
                SignalName::GatewayTtftAttainment => SignalName::GatewayTtft,
                SignalName::PrefillTtftAttainment => SignalName::PrefillTtft,
                SignalName::DecodeTtftAttainment => SignalName::DecodeTtft,
                SignalName::TpotAttainment => SignalName::Tpot,
                other => other,
            };
            if let Some(doubt) = doubts.iter().find(|doubt| doubt.signal == base) {
                *reading = HistogramReading::Unknown(doubt.gap);
            } else if implausible(name, reading.mean()).is_some() {
                *reading = HistogramReading::Unknown(Gap::OutOfRange);
            }
        });
        judged
    }

    /// Prompts that prefill workers compute; nothing where the engine does not count them.
    pub fn running_prompts(&self) -> Option<Reading> {
        match self.running_requests.prefill {
            Reading::Unknown(Gap::NotAsked | Gap::Empty) => None,
            counted => Some(counted),
        }
    }

    /// Requests that run on a decode worker, mean; of judged signals.
    pub fn decode_batch(&self) -> Option<f64> {
        let running = self.running_requests.decode.known()?;
        let workers = self.coverage.decode.spoken_for();
        (workers > 0).then(|| running / f64::from(workers))
    }

    /// Requests that run on decode or wait for a place in a batch. Those that wait for their KV
    /// cache to arrive need no other worker, and do not count.
    pub fn decode_in_flight(&self) -> Option<f64> {
        let running = self.running_requests.decode.known()?;
        let waiting = self.waiting_requests.decode.known().unwrap_or(0.0);
        let deferred = self.decode_deferred_requests.known().unwrap_or(0.0);
        Some(running + (waiting - deferred).max(0.0))
    }

    /// Whether the request counter stands still, as all workers that are being scraped show.
    fn nothing_arrives(&self) -> bool {
        self.prefill_completion_rate_rps == Reading::KnownZero
            && self.waiting_requests.prefill.known() == Some(0.0)
    }

    /// Little's law for the latency `name`, over the window that the most requests are known of.
    fn too_many_in_system(&self, name: SignalName, reading: &HistogramReading) -> Option<Doubt> {
        let role = match name {
            SignalName::PrefillTtft | SignalName::PrefillTime => Role::Prefill,
            SignalName::DecodeTtft | SignalName::InterTokenLatency => Role::Decode,
            _ => return None,
        };
        let histogram = reading.with_samples(LITTLE_SAMPLES_MIN).ok()?;
        let peak = self.requests_peak[role].known()?.max(1.0);
        let seconds = self.rate_window.as_secs_f64();
        let in_system = histogram.sum() / seconds;
        if seconds <= 0.0 || in_system <= peak * LITTLE_FACTOR_MAX {
            return None;
        }
        let mean = histogram.mean()?;
        Some(Doubt {
            signal: name,
            gap: Gap::OutOfRange,
            message: format!(
                "`{}` has a mean of {mean:.3} s, which at its rate is {in_system:.0} requests in the \
                 system; there were at most {peak:.0}, so its unit is not seconds",
                name.as_str()
            ),
        })
    }
}

fn implausible(name: SignalName, number: Option<f64>) -> Option<Doubt> {
    let number = number.filter(|number| *number != 0.0)?;
    let (least, most) = name.plausible();
    if (least..=most).contains(&number) {
        return None;
    }
    let hint = match name.unit() {
        Unit::Share if number <= 100.0 => "; it looks like percent",
        Unit::Seconds if number > most => "; it looks like milliseconds",
        _ => "",
    };
    let unit = name.unit().as_text();
    // A share a little over 1 is rounding; that is nobody's to know.
    let most = if name.unit() == Unit::Share {
        1.0
    } else {
        most
    };
    Some(Doubt {
        signal: name,
        gap: Gap::OutOfRange,
        message: format!(
            "`{}` is {number}{unit} and is plausible from {least} to {most}{unit}{hint}",
            name.as_str()
        ),
    })
}

fn no_quorum(name: SignalName, reading: Reading, coverage: Coverage) -> Option<Doubt> {
    if coverage.quorum() || reading.gap().is_some() {
        return None;
    }
    Some(Doubt {
        signal: name,
        gap: Gap::NoQuorum,
        message: format!(
            "`{}` is not known because {} of {} workers are scraped",
            name.as_str(),
            coverage.scraped,
            coverage.seen
        ),
    })
}

fn at_most_one(reading: Reading) -> Reading {
    match reading {
        Reading::Value(share) => Reading::Value(share.min(1.0)),
        other => other,
    }
}

fn carried(reading: Reading, name: SignalName, coverage: Coverage, ready: u32) -> Reading {
    match reading {
        Reading::Value(sum) if name.is_sum() => Reading::of(sum * coverage.scale()),
        Reading::KnownZero if coverage.scraped < ready => Reading::Value(0.0),
        other => other,
    }
}

#[cfg(test)]
mod tests;
