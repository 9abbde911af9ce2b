//! The ratio: a band of its own, operating points, or none; and no field that the policy would
//! ignore.

use std::collections::BTreeSet;

use pd_core::{
    Ratio,
    operating_point::OperatingPoint,
    policy::{Enforcement, OperatingPoints, RatioPolicy},
    ratio::RatioBand,
};

use super::{Errors, refused::is_object_name};
use crate::v1alpha1::{
    self as api,
    ratio::{
        NO_BAND_REMEDY, OPERATING_POINT_NAME_LENGTH_MAX, OPERATING_POINT_TOKENS_MAX,
        OPERATING_POINTS_MAX, RANGE_REMEDY, RATIO_PART_MAX, TOLERANCE_PERCENT_DEFAULT,
    },
    target::NAME_REMEDY,
};

/// The band of the ratio, where the policy has one of its own.
pub(super) fn band(spec: &api::RatioSpec, errors: &mut Errors) -> Option<RatioPolicy> {
    fields_fit_policy(spec, errors);
    let tolerance_percent = errors.percent(
        "ratio.tolerancePercent",
        spec.tolerance_percent.unwrap_or(TOLERANCE_PERCENT_DEFAULT),
        0,
        99,
    );
    let target = spec
        .target
        .as_deref()
        .and_then(|text| errors.ratio("ratio.target", text));
    let range = spec
        .range
        .as_ref()
        .and_then(|range| range_bounds(range, errors));
    let (lowest, highest) = match spec.policy {
        api::RatioPolicyKind::Auto | api::RatioPolicyKind::OperatingPoints => return None,
        api::RatioPolicyKind::Fixed => target.map(|target| (target, target))?,
        api::RatioPolicyKind::Range => range?,
        api::RatioPolicyKind::Preset => {
            let target = spec.preset?.ratio().parse().ok()?;
            (target, target)
        }
    };
    Some(RatioPolicy {
        band: RatioBand {
            lowest,
            highest,
            tolerance_percent,
        },
        enforcement: enforcement(spec),
    })
}

fn range_bounds(range: &api::RatioRange, errors: &mut Errors) -> Option<(Ratio, Ratio)> {
    let lowest = errors.ratio("ratio.range.lowest", &range.lowest);
    let highest = errors.ratio("ratio.range.highest", &range.highest);
    let (lowest, highest) = (lowest?, highest?);
    // Both sides are at most 1000, so the products fit.
    if lowest.prefill() * highest.decode() > highest.prefill() * lowest.decode() {
        let remedy = format!("is above highest `{highest}`; {RANGE_REMEDY}");
        errors.push("ratio.range.lowest", lowest, remedy);
    }
    Some((lowest, highest))
}

/// Each ratio policy has exactly its own fields.
fn fields_fit_policy(spec: &api::RatioSpec, errors: &mut Errors) {
    use api::RatioPolicyKind::{Auto, Fixed, OperatingPoints, Preset, Range};

    let fields = [
        ("target", Fixed, spec.target.is_some(), "1:2"),
        ("range", Range, spec.range.is_some(), "1:4 to 1:1"),
        ("preset", Preset, spec.preset.is_some(), "Balanced"),
        (
            "operatingPoints",
            OperatingPoints,
            spec.operating_points.is_some(),
            "one point",
        ),
    ];
    for (field, policy, present, example) in fields {
        let path = format!("ratio.{field}");
        if spec.policy == policy && !present {
            errors.push(
                &path,
                "unset",
                format!("is needed by policy `{policy:?}`, such as {example}"),
            );
        } else if spec.policy != policy && present {
            let remedy = format!(
                "is only for policy `{policy:?}`, and policy is `{:?}`; remove {field} or set policy to {policy:?}",
                spec.policy
            );
            errors.push(&path, "set", remedy);
        }
    }
    if spec.policy == Auto {
        if let Some(percent) = spec.tolerance_percent {
            errors.push("ratio.tolerancePercent", percent, NO_BAND_REMEDY);
        }
        if let Some(enforcement) = spec.enforcement {
            errors.push(
                "ratio.enforcement",
                format!("{enforcement:?}"),
                NO_BAND_REMEDY,
            );
        }
    }
}

fn enforcement(spec: &api::RatioSpec) -> Enforcement {
    match spec.enforcement.unwrap_or_default() {
        api::RatioEnforcement::Soft => Enforcement::Soft,
        api::RatioEnforcement::Hard => Enforcement::Hard,
    }
}

/// The points to switch among, where the policy asks for them.
pub(super) fn operating_points(
    spec: &api::RatioSpec,
    errors: &mut Errors,
) -> Option<OperatingPoints> {
    let specs = spec.operating_points.as_deref()?;
    let mut names = BTreeSet::new();
    if specs.is_empty() || specs.len() > OPERATING_POINTS_MAX {
        let count = format!("{} points", specs.len());
        let remedy = format!("must be 1 to {OPERATING_POINTS_MAX}");
        errors.push("ratio.operatingPoints", count, remedy);
    }
    let mut points = Vec::with_capacity(specs.len());
    for (index, point) in specs.iter().enumerate() {
        let path = format!("ratio.operatingPoints[{index}]");
        let name = format!("{path}.name");
        if !is_object_name(&point.name) || point.name.len() > OPERATING_POINT_NAME_LENGTH_MAX {
            let remedy =
                format!("{NAME_REMEDY}, at most {OPERATING_POINT_NAME_LENGTH_MAX} characters");
            errors.push(&name, &point.name, remedy);
        }
        if !names.insert(point.name.as_str()) {
            errors.push(&name, &point.name, "is there twice; names must differ");
        }
        let mut whole =
            |field: &str, value, most| errors.whole(&format!("{path}.{field}"), value, 1, most);
        points.push(OperatingPoint {
            name: point.name.clone(),
            prefill: whole("prefill", point.prefill, RATIO_PART_MAX),
            decode: whole("decode", point.decode, RATIO_PART_MAX),
            input_tokens: f64::from(whole(
                "inputTokens",
                point.input_tokens,
                OPERATING_POINT_TOKENS_MAX,
            )),
            output_tokens: f64::from(whole(
                "outputTokens",
                point.output_tokens,
                OPERATING_POINT_TOKENS_MAX,
            )),
            request_rate_rps: None,
        });
    }
    let tolerance = spec.tolerance_percent.unwrap_or(TOLERANCE_PERCENT_DEFAULT);
    Some(OperatingPoints {
        points,
        // A value out of range is reported with the band.
        tolerance_percent: u8::try_from(tolerance.clamp(0, 99)).unwrap_or_default(),
        enforcement: enforcement(spec),
    })
}
