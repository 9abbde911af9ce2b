//! docs/signals.md, made from the rows of the core and the catalogues of the engines.
//!
//! It is written with `PD_UPDATE=1 cargo test -p pd-signals --test catalogue`.

#![expect(clippy::unwrap_used, reason = "a failed step of a test ends it")]

use std::{env, fmt::Write as _, fs, path::Path};

use pd_core::signal::name::{SignalName, Unit};
use pd_signals::engine::{Engine, Metric, Recipe, VLLM};

const PAGE: &str = "../docs/signals.md";

const HEAD: &str = "# Signals

The signals that the controller reads, in the order of its reports. A test makes this page from the code.

A signal outside its plausible range is refused, and so is one whose workers are mostly not scraped: both are
unknown then, and unknown lowers nothing. Of a distribution the mean is held against the range. During a
rolling upgrade each pod counts by the newest name of a metric that it has.

Names may begin otherwise, such as `kserve_vllm:` or `vllm_`: the beginning is found in the first answer. An engine is a
pod with its labels `engine` and `dp_rank`; one that is scraped at several addresses counts once, and the condition
MetricsAvailable names it. The bounds of buckets may be spelt in any way. A histogram may be classic or native. Where
workers are scraped seldom, the windows of rates and gauges and the allowed age grow with the time between two scrapes. An
answer with a warning, as Thanos and Mimir give it when a part of them does not answer, lowers nothing.

";

fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Share => "share",
        Unit::Number => "number",
        named => named.as_text().trim(),
    }
}

/// Powers of ten where they are shorter.
fn short(number: f64) -> String {
    let (plain, power) = (number.to_string(), format!("{number:e}"));
    if power.len() < plain.len() {
        power
    } else {
        plain
    }
}

fn named(metric: Metric) -> String {
    let names: Vec<String> = metric
        .names
        .iter()
        .map(|name| format!("`{name}`"))
        .collect();
    let (newest, older) = names.split_first().unwrap();
    let names = if older.is_empty() {
        newest.clone()
    } else {
        format!("{newest} (formerly {})", older.join(", "))
    };
    match metric.matcher {
        None => names,
        Some((label, value)) => format!("{names} with `{label}=\"{value}\"`"),
    }
}

fn source(engine: &Engine, signal: SignalName) -> String {
    match engine.recipe(signal) {
        Recipe::GaugeSum(metric) => format!("sum of {}", named(metric)),
        Recipe::GaugeMean(metric) => format!("mean of {}", named(metric)),
        Recipe::GaugeGrowth(metric) => format!("growth of {}", named(metric)),
        Recipe::GaugeShrinkage(metric) => format!("shrinkage of {}", named(metric)),
        Recipe::GaugePeak(metrics) => {
            let metrics: Vec<String> = metrics.iter().map(|metric| named(*metric)).collect();
            format!("most of {}", metrics.join(" + "))
        }
        Recipe::CounterRate(metric) => format!("rate of {}", named(metric)),
        Recipe::CounterShare { part, whole } => {
            format!("rate of {} over that of {}", named(part), named(whole))
        }
        Recipe::CounterDispersion(metric) => {
            format!("variance over mean of the growth of {}", named(metric))
        }
        Recipe::LabelProduct {
            metric,
            labels: [one, other],
        } => format!("`{one}` x `{other}`, labels of {}", named(metric)),
        Recipe::Histogram(metric) => format!("histogram {}", named(metric)),
        Recipe::UserQuery => "the user's own query".to_owned(),
    }
}

#[test]
fn the_page_of_signals_is_that_of_the_code() {
    let mut page = HEAD.to_owned();
    let engine = &VLLM;
    // Writing to a String cannot fail.
    let _ = writeln!(
        page,
        "| Signal | Workers | Unit | Plausible | {} |",
        engine.name
    );
    page.push_str("|---|---|---|---|---|\n");
    for &signal in SignalName::ALL {
        let (least, most) = signal.plausible();
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {} to {} | {} |",
            signal.as_str(),
            signal.role().map_or("", |role| role.as_str()),
            unit(signal.unit()),
            short(least),
            short(most),
            source(engine, signal)
        );
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    if env::var_os("PD_UPDATE").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let recorded = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        recorded == page,
        "{PAGE} differs from the code: run with PD_UPDATE=1"
    );
}
