//! Time to first token where two workers share it: that on prefill and that on decode after it.
//!
//! Each role publishes its part as a distribution of its own. Together they are a sum of two times,
//! so shares and quantiles come from both distributions and not from one and the other's mean: a
//! mean hides a tail, and requests whose prompts decode computes itself.

use crate::{
    histogram::{Bound, Histogram, Share, legs::Legs},
    signal::{
        HistogramReading, Signals,
        estimate::{self, Estimate, Source, samples_min},
    },
};

/// TTFT at `quantile` (0 to 1) as the engines show it, of requests of which `prefill_share` (0 to
/// 1) use prefill. Where samples are too few for that, the prefill part plus `transfer_seconds`.
pub(super) fn ttft(
    signals: &Signals,
    quantile: f64,
    prefill_share: f64,
    transfer_seconds: f64,
) -> Option<Estimate> {
    let (recent, wide) = (&signals.recent, &signals.wide);
    let prefill = estimate::quantile(&recent.prefill_ttft, &wide.prefill_ttft, quantile).ok()?;
    let added = prefill.plus(transfer_seconds);
    let window = match prefill.source {
        Source::Engine => recent,
        Source::WideWindow => wide,
        Source::Gateway | Source::UserQuery => return Some(added),
    };
    let needed = samples_min(quantile);
    let (false, Bound::Near, Ok(first), Ok(second)) = (
        prefill.is_mean,
        prefill.bound,
        window.prefill_ttft.with_samples(needed),
        window.decode_ttft.with_samples(needed),
    ) else {
        return Some(added);
    };
    let legs = Legs {
        first,
        first_share: prefill_share,
        second,
    };
    Some(Estimate {
        value: legs.quantile(quantile).unwrap_or(added.value),
        ..prefill
    })
}

/// Share of requests within the TTFT limit over the attainment window. Nothing below `samples_min`
/// requests.
pub(super) fn within(
    signals: &Signals,
    limit_seconds: f64,
    prefill_share: f64,
    samples_min: f64,
) -> Option<Share> {
    let HistogramReading::Value(first) = &signals.prefill_ttft_attainment else {
        return None;
    };
    let Some((second, same_window)) = second_leg(signals, samples_min) else {
        return enough(first, samples_min)?.share_within(limit_seconds);
    };
    if first.count() <= 0.0 {
        return second.share_within(limit_seconds);
    }
    let first_share = if same_window {
        (first.count() / second.count()).min(1.0)
    } else {
        prefill_share
    };
    if first.count().max(second.count()) < samples_min {
        return None;
    }
    let legs = Legs {
        first,
        first_share,
        second,
    };
    legs.share_within(limit_seconds)
}

/// The decode part over the attainment window, or as it was lately; and whether it is the former.
fn second_leg(signals: &Signals, samples_min: f64) -> Option<(&Histogram, bool)> {
    let whole = signals.decode_ttft_attainment.with_samples(samples_min);
    let lately = [&signals.wide.decode_ttft, &signals.recent.decode_ttft];
    let lately = lately
        .into_iter()
        .find_map(|reading| reading.with_samples(samples_min).ok());
    whole
        .ok()
        .map(|whole| (whole, true))
        .or(lately.map(|lately| (lately, false)))
}

fn enough(histogram: &Histogram, samples_min: f64) -> Option<&Histogram> {
    (histogram.count() >= samples_min).then_some(histogram)
}
