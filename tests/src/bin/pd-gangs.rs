//! `pd-gangs`: how fast gangs get their nodes on kube-scheduler, beside single pods, on a control
//! plane of its own.
//!
//! Run it in release mode and with nothing else on the machine. It ends with an error when gangs of
//! 4 are below their bar.

use std::process::ExitCode;

use clap::Parser;
use pd_tests::{
    gangs::{GangOptions, GangTurn, Gangs},
    meter::ending,
    throughput::median,
};

/// The least part of the rate of single pods that gangs of 4 must reach.
const BAR: f64 = 0.9;

/// How fast gangs get their nodes on kube-scheduler.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    options: GangOptions,
}

#[tokio::main]
async fn main() -> ExitCode {
    ending("pd-gangs", run(Arguments::parse().options).await)
}

/// Whether the bar is met.
async fn run(options: GangOptions) -> anyhow::Result<bool> {
    let gangs = Gangs::start(options.clone()).await?;
    eprintln!("{} nodes, {} pods a turn", options.nodes, options.pods);
    let report = |round, size: usize, turn: GangTurn| {
        eprintln!("round {round}: {}", line(size, &[turn]));
    };
    let turns = gangs.measure(report).await?;
    for (size, each) in &turns {
        println!("{}", line(*size, each));
    }
    let rate = |size| {
        let turns = turns.get(&size)?;
        median(turns.iter().map(|turn| turn.pods_per_second).collect())
    };
    let Some(ratio) = rate(4).zip(rate(1)).map(|(four, single)| four / single) else {
        return Ok(true);
    };
    println!("gangs of 4 at {ratio:.2} of single pods, the bar is {BAR}");
    Ok(ratio >= BAR)
}

fn line(size: usize, turns: &[GangTurn]) -> String {
    let of = |part: fn(&GangTurn) -> Option<f64>| {
        let found = median(turns.iter().filter_map(part).collect());
        found.map_or_else(|| "?".to_owned(), |found| format!("{found:.2}"))
    };
    format!(
        "gangs of {size:<3} {:>8} pods/s, all bound after {} s (p99 {} s), CPU per pod: scheduler {} ms, controllers {} ms",
        of(|turn| Some(turn.pods_per_second)),
        of(|turn| Some(turn.p50_seconds)),
        of(|turn| Some(turn.p99_seconds)),
        of(|turn| turn.scheduler_ms),
        of(|turn| turn.control_ms),
    )
}
