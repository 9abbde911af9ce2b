//! `pd-throughput`: pods a second of kube-scheduler with and without the extender, on a control
//! plane of its own.
//!
//! Run it in release mode and with nothing else on the machine. It ends with an error when the
//! extender costs more than the bar allows.

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
            "{:<39} {rate:7.1} pods/s, CPU per pod: scheduler {scheduler} ms, extender {extender} ms",
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
    let measured = |way: &Way| turns.contains_key(way);
    let held = [Way::Unmanaged, Way::Managed].into_iter().filter(measured);
    let worst = held.map(to_stock).fold(f64::INFINITY, f64::min);
    if worst < options.bar {
        eprintln!(
            "the extender leaves {worst:.2} of the throughput, less than {}",
            options.bar
        );
    }
    Ok(worst >= options.bar)
}
