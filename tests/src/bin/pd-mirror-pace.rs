//! `pd-mirror-pace`: how long the label mirror takes for many nodes, on a control plane of its own.
//!
//! Run it in release mode.

use std::process::ExitCode;

use clap::Parser;
use pd_tests::{
    meter::ending,
    mirror_pace::{MirrorOptions, Mirrored, measure},
};

/// How long the label mirror takes for many nodes.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    options: MirrorOptions,
    /// Print one JSON object in place of text.
    #[arg(long)]
    json: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { options, json } = Arguments::parse();
    let measured = measure(options).await;
    let told = measured.map(|mirrored| {
        if json {
            println!("{}", mirrored.summary(&options));
        } else {
            println!("{}", text(&mirrored, &options));
        }
        true
    });
    ending("pd-mirror-pace", told)
}

fn text(mirrored: &Mirrored, options: &MirrorOptions) -> String {
    let shown =
        |number: Option<f64>| number.map_or("?".to_owned(), |number| format!("{number:.1}"));
    let (now, most) = mirrored.resident_mib.unzip();
    format!(
        "{} nodes at {} writes/s: all labelled {:.1} s after the start, {:.1} s from the first label to the last\n\
         CPU until then {} ms, memory {} MiB, at most {} MiB\n\
         {} changes of one node: p50 {:.1} ms, p99 {:.1} ms, CPU {} ms each",
        options.nodes,
        options.rate,
        mirrored.first.as_secs_f64(),
        mirrored.writing.as_secs_f64(),
        shown(mirrored.processor_ms),
        shown(now),
        shown(most),
        mirrored.changes.len(),
        mirrored.change_ms(0.5),
        mirrored.change_ms(0.99),
        shown(mirrored.change_processor_ms),
    )
}
