//! The names of an answer's parts: where queries and decoding meet.
//!
//! One query unites many parts, each under a label that names it. Both sides spell the name through
//! [`Tag`], so no part can be queried under one name and read under another.

use std::fmt;

use pd_core::{Role, signal::name::SignalName};

/// Label that names the parts of an answer.
pub(crate) const TAG: &str = "signal";

/// Label that every part by pod puts the pod's name under.
pub(crate) const POD: &str = "pod";

/// Label that holds the bound of a histogram's bucket in its shortest spelling, as `le` is spelt
/// differently by different pipelines.
pub(crate) const EDGE: &str = "edge";

/// Label that names the pieces of a native histogram: [`NATIVE_COUNT`], [`NATIVE_SUM`] and, with
/// an [`EDGE`], [`NATIVE_BUCKET`].
pub(crate) const NATIVE: &str = "native";

/// Observations of a native histogram.
pub(crate) const NATIVE_COUNT: &str = "count";

/// Sum of a native histogram's observations.
pub(crate) const NATIVE_SUM: &str = "sum";

/// Observations up to an edge of a native histogram.
pub(crate) const NATIVE_BUCKET: &str = "bucket";

/// Label that keeps the summands of a sum apart.
pub(crate) const TERM: &str = "term";

/// Label of the part [`Tag::Generation`] that holds a metric's name.
pub(crate) const METRIC: &str = "metric";

/// One part of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tag {
    /// A part of a signal.
    Signal(SignalName, Part),
    /// By pod: seconds since its newest sample.
    Age,
    /// By pod: samples within the wide window.
    Seen,
    /// By metric: series of each name of the metrics that show an engine and its generation.
    Generation,
    /// Most samples of a worker within the wide window, of those that were there all along.
    Samples,
    /// By pod: addresses under which one engine of it is scraped, where they are several.
    Addresses,
    /// By metric: series of the names that show a gateway.
    Gateway,
    /// By metric: series of each model that the pods serve.
    Models,
    /// A part of a signal over the wide window, where one query has several windows.
    Wide(SignalName, Part),
    /// Workers of a role with a sample in the window.
    Workers(Role),
}

/// The place of a part in its signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// All of it, in one number or by pod.
    Value,
    /// Counts up to each bound of a histogram.
    Buckets,
    /// Observations of a histogram.
    Count,
    /// Sum of the observations.
    Sum,
    /// All of a native histogram.
    Native,
    /// Counters of disjoint ranges.
    Ranges,
    /// Tokens of requests, counted where no histogram is.
    Tokens,
    /// The requests that they belong to.
    Requests,
    /// The counted part of a whole, for a share.
    Share,
    /// The whole that it is a share of.
    Whole,
    /// Mean of counts in short spans.
    Mean,
    /// Mean squared change of them from span to span.
    SquaredChange,
}

impl Part {
    const fn suffix(self) -> &'static str {
        match self {
            Self::Value => "",
            Self::Buckets => "_buckets",
            Self::Count => "_count",
            Self::Sum => "_sum",
            Self::Native => "_native",
            Self::Ranges => "_ranges",
            Self::Tokens => "_tokens",
            Self::Requests => "_requests",
            Self::Share => "_share",
            Self::Whole => "_whole",
            Self::Mean => "_mean",
            Self::SquaredChange => "_squared_change",
        }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal(signal, part) => write!(f, "{}{}", signal.as_str(), part.suffix()),
            Self::Age => f.write_str("age"),
            Self::Seen => f.write_str("seen"),
            Self::Generation => f.write_str("generation"),
            Self::Samples => f.write_str("samples"),
            Self::Addresses => f.write_str("addresses"),
            Self::Gateway => f.write_str("gateway"),
            Self::Models => f.write_str("models"),
            Self::Wide(signal, part) => write!(f, "{}_wide{}", signal.as_str(), part.suffix()),
            Self::Workers(role) => write!(f, "{role}_workers"),
        }
    }
}
