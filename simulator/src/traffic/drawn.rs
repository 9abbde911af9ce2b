//! Traffic that is drawn and not read: a curve, how evenly requests come along it, and how long.
//!
//! Shapes are what services see and traces seldom show alone: a day's rise and fall, bursts, a mix
//! of lengths that shifts, an outage upstream. Everything follows from the few numbers given here
//! and a seed, and nothing is kept of what was drawn, so that a year takes no more memory than a
//! minute.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::arrivals::Arrivals;
use super::curve::{Curve, CurveError, Load};
use super::rates::{self, RatesError};
use crate::time::{DAY, HOUR, MINUTE, Nanos, SECOND, from_seconds};

/// Time between two points of a smooth curve.
const POINT_EVERY: Nanos = 10 * MINUTE;

/// How long a change takes that is sudden.
const SUDDEN: Nanos = SECOND;

/// Traffic as written: in a scenario, or by flags.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TrafficSpec {
    /// The course of its rate over time.
    pub shape: Shape,
    /// The load that the shape changes.
    pub load: Load,
    /// Coefficient of variation of the gaps between requests, 0.05 to 20: 1 is a Poisson process,
    /// more comes in clumps, less is more even.
    pub gap_cv: f64,
    /// Length, hours; without, the shape's own. A table of rates ends with its last row.
    pub hours: Option<f64>,
}

/// The course of a rate over time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    tag = "kind",
    rename_all = "camelCase",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
pub enum Shape {
    /// Nothing.
    Constant {},
    /// A sine of a day around the mean, least at 5 h and most at 17 h. A day, unless told.
    Diurnal {
        /// How far it swings, as a share of the mean, 0 to 1.
        #[serde(default = "swing")]
        swing: f64,
    },
    /// Sudden bursts at equal distances. Six hours, unless told.
    Burst {
        /// The rate of a burst over the rate between, 0 to 100.
        #[serde(default = "burst_factor")]
        factor: f64,
        /// How long a burst lasts, seconds.
        #[serde(default = "burst_seconds")]
        burst_seconds: f64,
        /// From the start of one to that of the next, seconds; the first comes after half of it.
        #[serde(default = "every_seconds")]
        every_seconds: f64,
    },
    /// Prompts and answers change their lengths over the middle third. Six hours, unless told.
    MixShift {
        /// Prompts at the end over those at the start, 0.01 to 100.
        #[serde(default = "input_factor")]
        input_factor: f64,
        /// The same for answers.
        #[serde(default = "output_factor")]
        output_factor: f64,
    },
    /// No requests at all for some time, as when the gateway is down. Eight hours, unless told.
    Outage {
        /// When requests end, seconds.
        #[serde(default = "outage_at_seconds")]
        at_seconds: f64,
        /// How long none come, seconds.
        #[serde(default = "outage_seconds")]
        for_seconds: f64,
    },
    /// The rates of a table, CSV or CSV.gz; its lengths, where it has them.
    Rates {
        /// The file, as seen from where `pd-sim` runs.
        file: PathBuf,
        /// Multiple of its rates.
        #[serde(default = "one")]
        rate_scale: f64,
    },
}

fn swing() -> f64 {
    0.6
}

fn burst_factor() -> f64 {
    3.0
}

fn burst_seconds() -> f64 {
    300.0
}

fn every_seconds() -> f64 {
    3_600.0
}

fn input_factor() -> f64 {
    3.0
}

fn output_factor() -> f64 {
    1.0 / 3.0
}

fn outage_at_seconds() -> f64 {
    3.0 * 3_600.0
}

fn outage_seconds() -> f64 {
    2.0 * 3_600.0
}

fn one() -> f64 {
    1.0
}

/// Traffic that cannot be drawn.
#[derive(Debug, Error)]
pub enum DrawnError {
    /// A number is out of its range.
    #[error("traffic field `{field}` is `{value}`: {remedy}")]
    OutOfRange {
        /// The field.
        field: &'static str,
        /// Its value.
        value: f64,
        /// The remedy.
        remedy: &'static str,
    },
    /// The load cannot be drawn from.
    #[error("traffic {0}")]
    Curve(#[from] CurveError),
    /// The table cannot be read.
    #[error(transparent)]
    Rates(#[from] RatesError),
}

impl Default for TrafficSpec {
    fn default() -> Self {
        Self {
            shape: Shape::Constant {},
            load: Load {
                requests_per_second: 10.0,
                input_tokens_mean: 1_000.0,
                output_tokens_mean: 200.0,
                input_tokens_cv: 1.0,
                output_tokens_cv: 1.0,
            },
            gap_cv: 1.0,
            hours: None,
        }
    }
}

/// Traffic that can be drawn.
#[derive(Clone, Debug)]
pub struct Drawn {
    curve: Curve,
    gap_cv: f64,
    length: Nanos,
}

impl Drawn {
    /// A Poisson process along `curve` for `length`.
    pub fn poisson(curve: Curve, length: Nanos) -> Self {
        Self {
            curve,
            gap_cv: 1.0,
            length,
        }
    }

    /// Length of the traffic.
    pub fn length(&self) -> Nanos {
        self.length
    }

    /// The requests of a seed, until `until` or the end.
    pub fn arrivals(&self, seed: u64, until: Nanos) -> Arrivals {
        let end = self.length.min(until);
        Arrivals::with_gaps(self.curve.clone(), seed, 0, end, self.gap_cv)
    }

    /// The same with every rate multiplied by `factor`, which must be 0 or more.
    pub fn scaled(self, factor: f64) -> Result<Self, CurveError> {
        Ok(Self {
            curve: self.curve.scaled(factor)?,
            ..self
        })
    }
}

impl TrafficSpec {
    /// The shape to be drawn.
    pub fn drawn(&self) -> Result<Drawn, DrawnError> {
        ensure("gapCv", self.gap_cv, 0.05, 20.0, "give 0.05 to 20")?;
        if let Some(hours) = self.hours {
            ensure("hours", hours, 0.01, 100_000.0, "give 0.01 to 100000")?;
        }
        self.load.validate()?;
        if let Shape::Rates { file, rate_scale } = &self.shape {
            let remedy = "give 0.0001 to 10000";
            ensure("shape.rateScale", *rate_scale, 1e-4, 1e4, remedy)?;
            let (curve, length) = rates::read(file, &self.load)?;
            let told = self.hours.map_or(length, from_hours);
            return Ok(Drawn {
                curve: curve.scaled(*rate_scale)?,
                gap_cv: self.gap_cv,
                length: told.min(length),
            });
        }
        let length = self.hours.map_or(self.shape.length(), from_hours);
        Ok(Drawn {
            curve: Curve::new(self.points(length)?)?,
            gap_cv: self.gap_cv,
            length,
        })
    }

    fn points(&self, length: Nanos) -> Result<Vec<(Nanos, Load)>, DrawnError> {
        let load = self.load;
        let times = |factor: f64| Load {
            requests_per_second: load.requests_per_second * factor,
            ..load
        };
        Ok(match self.shape {
            Shape::Constant {} | Shape::Rates { .. } => vec![(0, load)],
            Shape::Diurnal { swing } => {
                ensure("shape.swing", swing, 0.0, 1.0, "give 0 to 1")?;
                let count = length.div_ceil(POINT_EVERY);
                let point = |index| {
                    let at = index * POINT_EVERY;
                    // Least at 5 h, most at 17 h.
                    let phase = (at as f64 / DAY as f64 - 11.0 / 24.0) * std::f64::consts::TAU;
                    (at, times((1.0 + swing * phase.sin()).max(0.0)))
                };
                (0..=count).map(point).collect()
            }
            Shape::Burst {
                factor,
                burst_seconds,
                every_seconds,
            } => self.bursts(length, factor, burst_seconds, every_seconds)?,
            Shape::MixShift {
                input_factor,
                output_factor,
            } => {
                let remedy = "give 0.01 to 100";
                ensure("shape.inputFactor", input_factor, 0.01, 100.0, remedy)?;
                ensure("shape.outputFactor", output_factor, 0.01, 100.0, remedy)?;
                let other = Load {
                    input_tokens_mean: (load.input_tokens_mean * input_factor).max(1.0),
                    output_tokens_mean: (load.output_tokens_mean * output_factor).max(1.0),
                    ..load
                };
                vec![(length / 3, load), (length / 3 * 2 + 1, other)]
            }
            Shape::Outage {
                at_seconds,
                for_seconds,
            } => {
                let remedy = "give 1 to 604800 seconds";
                ensure("shape.atSeconds", at_seconds, 1.0, 604_800.0, remedy)?;
                let remedy = "give 4 to 604800 seconds";
                ensure("shape.forSeconds", for_seconds, 4.0, 604_800.0, remedy)?;
                let at = from_seconds(at_seconds);
                let back = at + from_seconds(for_seconds);
                let mut points = vec![(0, load)];
                points.extend(sudden(at, back, load, times(0.0)));
                points
            }
        })
    }

    /// Bursts of `factor` times the load, the first half a distance after the start.
    fn bursts(
        &self,
        length: Nanos,
        factor: f64,
        burst_seconds: f64,
        every_seconds: f64,
    ) -> Result<Vec<(Nanos, Load)>, DrawnError> {
        let load = self.load;
        let peak = Load {
            requests_per_second: load.requests_per_second * factor,
            ..load
        };
        ensure("shape.factor", factor, 0.0, 100.0, "give 0 to 100")?;
        let remedy = "give 10 to 604800 seconds";
        ensure("shape.everySeconds", every_seconds, 10.0, 604_800.0, remedy)?;
        let (most, remedy) = (
            every_seconds / 2.0,
            "give 4 seconds to half of `everySeconds`",
        );
        ensure("shape.burstSeconds", burst_seconds, 4.0, most, remedy)?;
        let (burst, every) = (from_seconds(burst_seconds), from_seconds(every_seconds));
        let mut points = vec![(0, load)];
        let mut at = every / 2;
        while at < length {
            points.extend(sudden(at, at + burst, load, peak));
            at += every;
        }
        Ok(points)
    }
}

impl Shape {
    /// A day's rise and fall with its defaults.
    pub fn diurnal() -> Self {
        Self::Diurnal { swing: swing() }
    }

    /// Bursts with their defaults.
    pub fn burst() -> Self {
        Self::Burst {
            factor: burst_factor(),
            burst_seconds: burst_seconds(),
            every_seconds: every_seconds(),
        }
    }

    /// A shift of the mix with its defaults.
    pub fn mix_shift() -> Self {
        Self::MixShift {
            input_factor: input_factor(),
            output_factor: output_factor(),
        }
    }

    /// An outage with its defaults.
    pub fn outage() -> Self {
        Self::Outage {
            at_seconds: outage_at_seconds(),
            for_seconds: outage_seconds(),
        }
    }

    fn length(&self) -> Nanos {
        match self {
            Self::Constant {} | Self::Burst { .. } | Self::MixShift { .. } => 6 * HOUR,
            Self::Diurnal { .. } | Self::Rates { .. } => DAY,
            Self::Outage { .. } => 8 * HOUR,
        }
    }
}

/// Another load from `from` until `until`, begun and ended in a second.
fn sudden(from: Nanos, until: Nanos, load: Load, other: Load) -> [(Nanos, Load); 4] {
    [
        (from, load),
        (from + SUDDEN, other),
        (until, other),
        (until + SUDDEN, load),
    ]
}

fn from_hours(hours: f64) -> Nanos {
    from_seconds(hours * 3_600.0)
}

fn ensure(
    field: &'static str,
    value: f64,
    least: f64,
    most: f64,
    remedy: &'static str,
) -> Result<(), DrawnError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(DrawnError::OutOfRange {
        field,
        value,
        remedy,
    })
}

#[cfg(test)]
mod tests;
