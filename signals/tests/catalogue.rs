//! docs/signals.md, made from the rows of the core and the catalogues of the engines.
//!
//! It is written with `PD_UPDATE=1 cargo test -p pd-signals --test catalogue`.

#![expect(clippy::unwrap_used, reason = "a failed step of a test ends it")]

use std::{env, fmt::Write as _, fs, path::Path};

use pd_core::signal::name::{SignalName, Unit};
use pd_signals::{
    engine::{ENGINES, Engine, Metric, Recipe},
    gateway::{FirstToken, GATEWAYS, Gateway},
};

const PAGE: &str = "../docs/signals.md";

const HEAD: &str = "# Signals

The signals that the controller reads, in the order of its reports. A test makes this page from the code.

A signal outside its plausible range is refused, and so is one whose workers are mostly not scraped: both are
unknown then, and unknown lowers nothing. Of a distribution the mean is held against the range. During a
rolling upgrade each pod counts by the newest name of a metric that it has.

The engine is found out from the metrics that Prometheus has, and kept in `status.engine`; `spec.metrics.engine` states it.
Names may begin otherwise, such as `kserve_vllm:` or `vllm_`: the beginning is found in the first answer. An engine is a
pod with its labels `engine` and `dp_rank`; ranks of tensor parallelism repeat each other and count once. One that is scraped at several addresses counts once, and the condition
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
    let text = match metric.matcher {
        None => names,
        Some((label, value)) => format!("{names} with `{label}=\"{value}\"`"),
    };
    metric.instead.map_or(text.clone(), |other| {
        format!("{text}, or else {}", named(*other))
    })
}

fn added(metrics: &[Metric]) -> String {
    let metrics: Vec<String> = metrics.iter().map(|metric| named(*metric)).collect();
    metrics.join(" + ")
}

fn source(engine: &Engine, signal: SignalName) -> String {
    match engine.recipe(signal) {
        Recipe::GaugeSum(metric) => format!("sum of {}", named(metric)),
        Recipe::GaugeMean(metric) => format!("mean of {}", named(metric)),
        Recipe::GaugeGrowth(metric) => format!("growth of {}", named(metric)),
        Recipe::GaugeShrinkage(metric) => format!("shrinkage of {}", named(metric)),
        Recipe::GaugesSum(metrics) => format!("sum of {}", added(metrics)),
        Recipe::WorkerMean(metric) => format!("of a worker, {}", named(metric)),
        Recipe::GaugeProduct([one, other]) => format!("{} x {}", named(one), named(other)),
        Recipe::GaugePeak(metrics) => format!("most of {}", added(metrics)),
        Recipe::CounterRate(metric) => format!("rate of {}", named(metric)),
        Recipe::CounterShare { parts, whole } => {
            format!("rate of {} over that of {}", added(parts), named(whole))
        }
        Recipe::CounterDispersion(metric) => {
            format!("variance over mean of the growth of {}", named(metric))
        }
        Recipe::LabelProduct {
            metric,
            labels: [one, other],
        } => format!("`{one}` x `{other}`, labels of {}", named(metric)),
        Recipe::Histogram(metric) => format!("histogram {}", named(metric)),
        Recipe::HistogramAt(role, metric) => {
            format!("histogram {} of {role} workers", named(metric))
        }
        Recipe::Lengths {
            histogram,
            tokens,
            requests,
        } => {
            let mean = format!("mean {} / {}", named(tokens), named(requests));
            histogram.map_or(mean.clone(), |metric| {
                format!("histogram {}, or else {mean}", named(metric))
            })
        }
        Recipe::Absent => "not published".to_owned(),
        Recipe::UserQuery => "the user's own query".to_owned(),
    }
}

/// The tables of the engines: which versions, and each signal's series.
fn engines(page: &mut String) {
    page.push_str(
        "\n## Engines\n\n| `spec.metrics.engine` | Versions | Checked against |\n|---|---|---|\n",
    );
    for engine in ENGINES {
        let Engine {
            name,
            product,
            versions,
            checked,
            ..
        } = engine;
        let _ = writeln!(page, "| `{name}` ({product}) | {versions} | {checked} |");
    }
    for engine in ENGINES {
        let _ = write!(
            page,
            "\n### {}\n\n| Signal | Series |\n|---|---|\n",
            engine.product
        );
        for &signal in SignalName::ALL {
            if !signal.is_override() && !signal.is_gateway() {
                let _ = writeln!(
                    page,
                    "| `{}` | {} |",
                    signal.as_str(),
                    source(engine, signal)
                );
            }
        }
    }
}

/// The tables of the gateways: which versions, and the series of arrivals and TTFT.
fn gateways(page: &mut String) {
    page.push_str(GATEWAYS_HEAD);
    for gateway in GATEWAYS {
        let Gateway {
            name,
            product,
            versions,
            checked,
            ..
        } = gateway;
        let _ = writeln!(page, "| `{name}` ({product}) | {versions} | {checked} |");
    }
    page.push_str("\n| Gateway | Arrivals | Counted | TTFT |\n|---|---|---|---|\n");
    for gateway in GATEWAYS {
        let counted = if gateway.counts_ended {
            "when they end"
        } else {
            "when they come"
        };
        let ttft = match gateway.first_token {
            FirstToken::Histogram(metric) => format!("histogram {}", named(metric)),
            FirstToken::OfStreams { histogram, .. } => {
                format!("histogram {}, while 99 % are streamed", named(histogram))
            }
            FirstToken::Ranges(metric) => format!("ranges of {}", named(metric)),
            FirstToken::Absent => "not published".to_owned(),
        };
        let arrivals = added(gateway.arrivals);
        let _ = writeln!(
            page,
            "| `{}` | {arrivals} | {counted} | {ttft} |",
            gateway.name
        );
    }
    page.push_str(OTHERS);
}

const GATEWAYS_HEAD: &str = "
## Gateways

A gateway counts a request when it comes and times it as its user does. It is looked for in the object's namespace and in those
of `--gateway-namespaces`, by the model that the pods serve, and kept in `status.gateway`; `spec.metrics.gateway` states it, or
`None`. Arrivals are the most of what the gateway counts and what the engines serve. TTFT and its attainment in status are the
gateway's where it has enough requests for a percentile. The error budget is that of the way through the workers.

| `spec.metrics.gateway` | Versions | Checked against |
|---|---|---|
";

const OTHERS: &str = "
## What else publishes metrics

- LMCache: its hits enter `prefixHitShare` of vLLM, by vLLM's own counter since 0.13 and by LMCache's before.
- KServe has no metrics of its own: its pods publish the engine's, and its scheduler is the gateway `EPP`.
- NVIDIA Dynamo: its workers publish their engine's metrics under the engine's names.
- The router of vLLM's production stack repeats the engines' names with a label `server`. It is no pod of a target, so it does not
  count.
- DCGM is not read: a decode worker keeps its GPU busy at any load, so its utilisation says nothing of the need.
";

#[test]
fn the_page_of_signals_is_that_of_the_code() {
    let mut page = HEAD.to_owned();
    page.push_str("| Signal | Workers | Unit | Plausible |\n|---|---|---|---|\n");
    for &signal in SignalName::ALL {
        let (least, most) = signal.plausible();
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {} to {} |",
            signal.as_str(),
            signal.role().map_or("", |role| role.as_str()),
            unit(signal.unit()),
            short(least),
            short(most),
        );
    }
    engines(&mut page);
    gateways(&mut page);
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
