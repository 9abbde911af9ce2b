//! Parameters that can be varied: short names for what is varied often, and paths of the scenario
//! for the rest.
//!
//! A scenario is changed as JSON and read back, so that every check of a scenario file holds for
//! every point of the grid, and a field that a later version adds can be varied without a word
//! here.

use pd_api::v1alpha1::DurationText;
use serde_json::{Number, Value, json};

use crate::simulate::options::{SimulateOptions, constant, lead};
use crate::simulate::play_options::{rate_scale, time_scale};

/// Short names of fields of the scenario, what their values are, and the path.
const SHORT: [(&str, Kind, &str); 6] = [
    ("ttft", Kind::Duration, "/spec/objective/ttft/target"),
    ("tpot", Kind::Duration, "/spec/objective/tpot/target"),
    (
        "attainment",
        Kind::Plain,
        "/spec/objective/attainment/percent",
    ),
    ("tolerance", Kind::Plain, "/spec/ratio/tolerancePercent"),
    ("budget", Kind::Gpus, "/spec/budget"),
    ("interval", Kind::Seconds, "/intervalSeconds"),
];

/// Where the spec of the PDAutoscaler begins.
const SPEC: &str = "/spec/";

/// Options of `pd-sim simulate` by their short names.
const OPTIONS: [&str; 6] = ["lead", "seed", "rate", "copies", "time-scale", "constant"];

/// The kind of a value, and the field that it sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A time with its unit, as the spec of a PDAutoscaler writes it.
    Duration,
    /// A time with its unit, in seconds.
    Seconds,
    /// A budget of so many GPUs, or `none`.
    Gpus,
    /// As it is.
    Plain,
}

/// A parameter of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Parameter {
    /// An option of `pd-sim simulate`.
    Option(&'static str),
    /// A field of the scenario.
    Field(Kind, String),
}

impl Parameter {
    /// The parameter that users call `name`.
    pub(super) fn named(name: &str) -> Self {
        if let Some(option) = OPTIONS.into_iter().find(|option| *option == name) {
            return Self::Option(option);
        }
        match SHORT.iter().find(|(short, ..)| *short == name) {
            Some((_, kind, path)) => Self::Field(*kind, (*path).to_owned()),
            None => Self::Field(Kind::Plain, format!("/{}", name.replace('.', "/"))),
        }
    }

    /// Sets it to a value, or says why not and what to give instead.
    pub(super) fn set(
        &self,
        value: &str,
        options: &mut SimulateOptions,
        scenario: &mut Value,
    ) -> Result<(), String> {
        match self {
            Self::Option(name) => set_option(name, value, options),
            Self::Field(kind, path) => {
                let field = field(scenario, path).ok_or_else(unknown)?;
                *field = read(*kind, value)?;
                Ok(())
            }
        }
    }
}

/// The place of a field. A field of the spec that is not set gets one: whether it exists is known
/// when the scenario is read back.
fn field<'a>(scenario: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    if path.starts_with(SPEC) {
        let (parent, name) = path.rsplit_once('/')?;
        let parent = scenario.pointer_mut(parent)?.as_object_mut()?;
        return Some(parent.entry(name).or_insert(Value::Null));
    }
    scenario.pointer_mut(path)
}

fn unknown() -> String {
    let short = SHORT.iter().map(|(name, ..)| *name);
    let names: Vec<&str> = OPTIONS.into_iter().chain(short).collect();
    format!(
        "there is no such parameter: give {}, or a field of the scenario such as profile.prefixHitRatio",
        names.join(", ")
    )
}

fn set_option(name: &str, value: &str, options: &mut SimulateOptions) -> Result<(), String> {
    let whole = || format!("give a whole number, not `{value}`");
    match name {
        "lead" => options.lead = Some(lead(value)?),
        "seed" => options.play.seed = value.parse().map_err(|_| whole())?,
        "rate" => options.play.rate_scale = rate_scale(value)?,
        "constant" => options.constant = Some(constant(value)?),
        "time-scale" => options.play.time_scale = time_scale(value)?,
        _ => {
            let copies = value.parse().ok();
            let copies = copies.filter(|copies| (1..=1_000).contains(copies));
            options.play.copies = copies.ok_or("give a whole number from 1 to 1000")?;
        }
    }
    Ok(())
}

fn read(kind: Kind, value: &str) -> Result<Value, String> {
    if matches!(kind, Kind::Plain | Kind::Gpus) {
        return Ok(match serde_json::from_str(value) {
            Ok(plain) if kind == Kind::Gpus => json!({ "gpus": plain }),
            Ok(plain) => plain,
            Err(_) if value == "none" => Value::Null,
            Err(_) => Value::String(value.to_owned()),
        });
    }
    let time = humantime::parse_duration(value)
        .map_err(|_| "give a time with its unit, such as 500ms or 15s".to_owned())?;
    if kind == Kind::Duration {
        return Ok(Value::String(DurationText::from(time).0));
    }
    let number = Number::from_f64(time.as_secs_f64()).ok_or("give a shorter time")?;
    Ok(Value::Number(number))
}

/// A value as a number for an axis: a number, or a time in seconds.
pub(super) fn number(value: &str) -> Option<f64> {
    let plain = value
        .parse::<f64>()
        .ok()
        .filter(|number| number.is_finite());
    let time = || humantime::parse_duration(value).ok();
    plain.or_else(|| time().map(|time| time.as_secs_f64()))
}

/// The name of a parameter with the unit that [`number`] gives its values.
pub(super) fn label(name: &str, values: &[&str]) -> String {
    let is_time = |value: &&str| value.parse::<f64>().is_err() && number(value).is_some();
    if values.iter().any(is_time) {
        format!("{name}, s")
    } else {
        name.to_owned()
    }
}
