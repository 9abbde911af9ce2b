//! The options for traffic that is drawn and not read from a trace.
//!
//! Each changes one number of the scenario's `traffic`, or of the default where it has none.
//! Whoever needs more than these writes it into the scenario.

use std::path::PathBuf;

use clap::ValueEnum;

use crate::traffic::{Shape, TrafficSpec};

/// Traffic by flags.
#[derive(Clone, Debug, Default, clap::Args)]
#[group(id = "drawn-traffic", multiple = true, conflicts_with = "trace")]
pub struct TrafficOptions {
    /// Draw requests of this shape instead of reading a trace
    #[arg(long, value_name = "SHAPE")]
    pub traffic: Option<ShapeName>,
    /// Draw requests at the rates of a table, CSV or CSV.gz with `minute,requests_per_minute` or
    /// the like
    #[arg(long, value_name = "FILE", conflicts_with = "traffic")]
    pub rates: Option<PathBuf>,
    /// Requests per second of drawn traffic, its mean; of a table, a multiple of its rates
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub rate: Option<f64>,
    /// Mean prompt of drawn traffic, tokens
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub input_tokens: Option<f64>,
    /// Mean answer of drawn traffic, tokens
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub output_tokens: Option<f64>,
    /// Coefficient of variation of the gaps of drawn traffic: 1 is Poisson, more comes in clumps
    #[arg(long, value_name = "CV", allow_negative_numbers = true)]
    pub gap_cv: Option<f64>,
}

/// Shapes with their defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ShapeName {
    /// The same all along, six hours.
    Constant,
    /// A day's rise and fall.
    Diurnal,
    /// Five minutes of three times the rate, every hour of six.
    Burst,
    /// Prompts grow to three times their length while answers shrink to a third, over six hours.
    MixShift,
    /// Two hours without any request, of eight.
    Outage,
}

impl ShapeName {
    fn shape(self) -> Shape {
        match self {
            Self::Constant => Shape::Constant {},
            Self::Diurnal => Shape::diurnal(),
            Self::Burst => Shape::burst(),
            Self::MixShift => Shape::mix_shift(),
            Self::Outage => Shape::outage(),
        }
    }
}

impl TrafficOptions {
    /// The traffic to draw: these options over `written`; nothing where neither says anything.
    pub(super) fn spec(&self, written: Option<&TrafficSpec>) -> Option<TrafficSpec> {
        let numbers = [
            self.rate,
            self.input_tokens,
            self.output_tokens,
            self.gap_cv,
        ];
        let silent =
            self.traffic.is_none() && self.rates.is_none() && numbers.iter().all(Option::is_none);
        if silent {
            return written.cloned();
        }
        let mut spec = written.cloned().unwrap_or_default();
        if let Some(name) = self.traffic {
            spec.shape = name.shape();
        }
        if let Some(file) = &self.rates {
            spec.shape = Shape::Rates {
                file: file.clone(),
                rate_scale: 1.0,
            };
        }
        if let Some(rate) = self.rate {
            match &mut spec.shape {
                Shape::Rates { rate_scale, .. } => *rate_scale = rate,
                _ => spec.load.requests_per_second = rate,
            }
        }
        if let Some(tokens) = self.input_tokens {
            spec.load.input_tokens_mean = tokens;
        }
        if let Some(tokens) = self.output_tokens {
            spec.load.output_tokens_mean = tokens;
        }
        if let Some(cv) = self.gap_cv {
            spec.gap_cv = cv;
        }
        Some(spec)
    }
}
