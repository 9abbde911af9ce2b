//! `pd-throughput`: pods a second of kube-scheduler with and without the extender, on a control plane of its own.
//!
//! Run it in release mode and with nothing else on the machine. It ends with an error when the extender costs more than
//! the bar allows.

use std::process::ExitCode;

use clap::Parser;
use pd_tests::throughput::{Throughput, ThroughputOptions, Way, median, ratio, summary};

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
    match run(Arguments::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("pd-throughput: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether the bar is met.
async fn run(arguments: Arguments) -> anyhow::Result<bool> {
    let Arguments { options, json } = arguments;
    let mut measured = Throughput::start(options).await?;
    eprintln!("{} nodes, {} pods a turn", options.nodes, options.pods);
    let tell = |round, way: Way, rate| eprintln!("round {round}: {:<25} {rate:7.1} pods/s", way.name());
    let rates = measured.measure(tell).await?;
    let to_stock = |way| ratio(&rates, way, Way::Stock).unwrap_or(0.0);
    if json {
        println!("{}", summary(options, &rates));
    } else {
        for (way, each) in &rates {
            let middle = median(each.clone()).unwrap_or(0.0);
            println!("{:<25} {middle:7.1} pods/s  {:.2}", way.name(), to_stock(*way));
        }
    }
    let worst = to_stock(Way::Unmanaged).min(to_stock(Way::Managed));
    if worst < options.bar {
        eprintln!("the extender leaves {worst:.2} of the throughput, less than {}", options.bar);
    }
    Ok(worst >= options.bar)
}
