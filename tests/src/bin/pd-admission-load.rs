//! `pd-admission-load`: how long the running webhook takes for reviews at a steady rate, on a
//! control plane of its own.
//!
//! Run it in release mode and with nothing else on the machine. It ends with an error when the
//! server's own 99th percentile is above a bar.

use std::process::ExitCode;

use clap::Parser;
use pd_tests::{
    admission_load::{AdmissionLoad, AdmissionOptions, Answered, Sent},
    meter::ending,
};
use serde_json::Value;

/// How long the running webhook takes for reviews at a steady rate.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    options: AdmissionOptions,
    /// Print a JSON list in place of a table.
    #[arg(long)]
    json: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    ending("pd-admission-load", run(Arguments::parse()).await)
}

/// Whether the bars are met.
async fn run(arguments: Arguments) -> anyhow::Result<bool> {
    let Arguments { options, json } = arguments;
    let load = AdmissionLoad::start(options).await?;
    eprintln!(
        "{} reviews/s for {} s over {} connections",
        options.rate, options.seconds, options.connections
    );
    let mut all = Vec::new();
    for sent in Sent::ALL {
        let answered = load.send(sent).await?;
        if !json {
            println!("{}", line(&answered, &options));
        }
        all.push(answered);
    }
    if json {
        let all = all.iter().map(|one| one.summary(&options));
        println!("{}", Value::Array(all.collect()));
    }
    Ok(all
        .iter()
        .all(|one| one.server_ms(0.99) <= options.bar(one.sent)))
}

fn line(one: &Answered, options: &AdmissionOptions) -> String {
    let processor = one
        .processor_ms
        .map_or("?".to_owned(), |ms| format!("{ms:.2}"));
    format!(
        "{:<24} {} reviews; server: mean {:.3} ms, p50 <= {} ms, p99 <= {} ms (bar {} ms), CPU {processor} ms; client: p50 {:.2} ms, p99 {:.2} ms",
        one.sent.name(),
        one.round_trips.len(),
        one.server.mean() * 1000.0,
        one.server_ms(0.5),
        one.server_ms(0.99),
        options.bar(one.sent),
        one.client_ms(0.5),
        one.client_ms(0.99),
    )
}
