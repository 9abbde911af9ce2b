//! `pd-throughput`: pods a second of kube-scheduler with and without the extender, on a control
//! plane of its own.
//!
//! Run it in release mode and with nothing else on the machine. It ends with an error when one of
//! the ways that were measured is below its bar.

use std::process::ExitCode;

use clap::Parser;
use pd_tests::{
    meter::ending,
    throughput::{Throughput, ThroughputOptions, Turn, Way, middle, ratio, summary},
};

/// Pods a second of kube-scheduler with and without the extender.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    options: ThroughputOptions,
    /// Print one JSON object at the end instead of a table.
    #[arg(long)]
    json: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    ending("pd-throughput", run(Arguments::parse()).await)
}

/// Whether the bar is met.
async fn run(arguments: Arguments) -> anyhow::Result<bool> {
    let Arguments { options, json } = arguments;
    let mut measured = Throughput::start(options.clone()).await?;
    eprintln!("{} nodes, {} pods a turn", options.nodes, options.pods);
    let told = |way: Way, rate, scheduler: Option<f64>, extender: Option<f64>| {
        let milliseconds = |time: Option<f64>| time.map_or("?".to_owned(), |ms| format!("{ms:.2}"));
        let (scheduler, extender) = (milliseconds(scheduler), milliseconds(extender));
        format!(
            "{:<55} {rate:7.1} pods/s, CPU per pod: scheduler {scheduler} ms, extender {extender} ms",
            way.name()
        )
    };
    let tell = |round, way, turn: Turn| {
        let line = told(
            way,
            turn.pods_per_second,
            turn.scheduler_ms,
            turn.extender_ms,
        );
        eprintln!("round {round}: {line}");
    };
    let turns = measured.measure(tell).await?;
    let to_stock = |way| ratio(&turns, way, Way::Stock).unwrap_or(0.0);
    if json {
        println!("{}", summary(&options, &turns));
    } else {
        for (way, each) in &turns {
            let rate = middle(each, |turn| Some(turn.pods_per_second)).unwrap_or(0.0);
            let scheduler = middle(each, |turn| turn.scheduler_ms);
            let line = told(*way, rate, scheduler, middle(each, |turn| turn.extender_ms));
            println!("{line}, {:.2} of stock", to_stock(*way));
        }
    }
    let bar = |way: Way| match way {
        Way::Unmanaged | Way::Managed => Some(options.bar),
        other => other.bar(),
    };
    let mut met = true;
    for (way, bar) in turns.keys().filter_map(|way| Some((*way, bar(*way)?))) {
        let reached = ratio(&turns, way, Way::Stock);
        if let Some(reached) = reached.filter(|reached| *reached < bar) {
            eprintln!(
                "{}: {reached:.2} of the stock scheduler's rate, less than {bar}",
                way.name()
            );
            met = false;
        }
    }
    Ok(met)
}
