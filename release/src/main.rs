//! The command line of [`pd_release`]; `release/build.sh` calls it.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;
use pd_release::{
    assemble::{Binaries, Release, assemble},
    date::SourceDate,
};

/// Put a release together from programs that are built.
#[derive(Debug, Parser)]
#[command(name = "pd-release", version)]
struct Cli {
    /// Folder with the programs of a platform, such as
    /// linux/amd64=target/x86_64-unknown-linux-musl/dist.
    #[arg(long, value_name = "PLATFORM=FOLDER", required = true)]
    binaries: Vec<Binaries>,
    /// Only these programs. By default all that ship.
    #[arg(long, value_name = "NAME")]
    program: Vec<String>,
    /// Commit of the source.
    #[arg(long, value_name = "COMMIT")]
    revision: String,
    /// Date of the source in seconds since 1970; the date of everything that is made.
    #[arg(long, env = "SOURCE_DATE_EPOCH", value_name = "SECONDS")]
    source_date: u64,
    /// Folder of the repository.
    #[arg(long, default_value = ".", value_name = "FOLDER")]
    source: PathBuf,
    /// Folder to write into; it is made, and must not be there.
    #[arg(long, value_name = "FOLDER")]
    output: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let release = Release {
        binaries: cli.binaries,
        only: cli.program,
        revision: cli.revision,
        date: SourceDate::new(cli.source_date).context("--source-date")?,
        source: cli.source,
    };
    let summary = assemble(&release, &cli.output)?;
    print!("{summary}");
    Ok(())
}
