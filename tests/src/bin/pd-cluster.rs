//! `pd-cluster`: the tests' control plane for a developer to play with, and its supervisor.
//!
//! `up` starts a cluster, says how to reach it, and takes it away again at Ctrl-C. `tools` finds or
//! builds the programs. `supervise` is not for people: it is the second process that keeps a
//! cluster from outliving its owner.

use std::{path::PathBuf, process::ExitCode, time::Instant};

use anyhow::Context;
use clap::{Parser, Subcommand};
use pd_tests::{
    control_plane::{ControlPlane, NodeSpec, Options},
    prometheus::{Prometheus, PrometheusOptions},
    supervisor,
    tools::{KubernetesVersion, Tools},
};
use tokio::signal::unix::{SignalKind, signal};

/// A real Kubernetes control plane with emulated GPU nodes, on this machine, without containers.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a cluster and keep it until Ctrl-C.
    Up {
        /// How many emulated nodes it has.
        #[arg(long, default_value_t = 4)]
        nodes: usize,
        /// GPUs (nvidia.com/gpu) of each node.
        #[arg(long, default_value_t = 8)]
        gpus_per_node: u32,
        /// Kubernetes release, such as 1.37.1; another than the shipped one is built first.
        #[arg(long, env = "PD_KUBERNETES_VERSION")]
        kubernetes_version: Option<KubernetesVersion>,
        /// Also start Prometheus, discovering targets from the files in a directory it prints.
        #[arg(long)]
        prometheus: bool,
    },
    /// Find or build all programs of a control plane and print where they are.
    Tools {
        /// Kubernetes release, such as 1.37.1.
        #[arg(long, env = "PD_KUBERNETES_VERSION")]
        kubernetes_version: Option<KubernetesVersion>,
    },
    /// Run children for the process at the other end of standard input, and end with it.
    #[command(hide = true)]
    Supervise {
        /// Temporary directory, removed at the end.
        #[arg(long)]
        directory: PathBuf,
        /// Leave the directory.
        #[arg(long)]
        keep: bool,
    },
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Up {
            nodes,
            gpus_per_node,
            kubernetes_version,
            prometheus,
        } => up(nodes, gpus_per_node, kubernetes_version, prometheus),
        Command::Tools { kubernetes_version } => print_tools(kubernetes_version),
        Command::Supervise { directory, keep } => {
            supervisor::serve(&directory, keep).context("the supervisor failed")
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pd-cluster: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn print_tools(version: Option<KubernetesVersion>) -> anyhow::Result<()> {
    let tools = Tools::locate_or_build(version.unwrap_or_else(KubernetesVersion::shipped))?;
    for (name, path) in tools.paths() {
        println!("{name:<24}{}", path.display());
    }
    Ok(())
}

#[tokio::main]
async fn up(
    nodes: usize,
    gpus: u32,
    kubernetes_version: Option<KubernetesVersion>,
    prometheus: bool,
) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let stop = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hang_up.recv() => {}
        }
    };
    let spec = NodeSpec {
        count: nodes,
        gpus,
        nodes_per_rack: 4,
        ..NodeSpec::default()
    };
    let options = Options {
        kubernetes_version,
        nodes: vec![spec],
        ..Options::default()
    };
    let serve = async {
        let started = Instant::now();
        let plane = ControlPlane::start(options).await?;
        let seconds = started.elapsed().as_secs_f64();
        let metrics = if prometheus {
            Some(start_prometheus(&plane).await?)
        } else {
            None
        };
        print_usage(&plane, metrics.as_ref(), nodes, gpus, seconds);
        std::future::pending::<()>().await;
        anyhow::Ok(())
    };
    tokio::select! {
        served = serve => served,
        () = stop => {
            eprintln!("pd-cluster: taking the cluster down");
            Ok(())
        }
    }
}

async fn start_prometheus(plane: &ControlPlane) -> anyhow::Result<Prometheus> {
    let targets = plane.directory().join("targets");
    std::fs::create_dir_all(&targets).context("cannot make the directory of scrape targets")?;
    let options = PrometheusOptions {
        file_sd_directories: vec![targets],
        ..PrometheusOptions::default()
    };
    Ok(Prometheus::start(&options).await?)
}

fn print_usage(
    plane: &ControlPlane,
    prometheus: Option<&Prometheus>,
    nodes: usize,
    gpus: u32,
    seconds: f64,
) {
    let version = plane.tools().kubernetes_version;
    println!("Kubernetes {version}, {nodes} nodes with {gpus} GPUs each, ready in {seconds:.1} s");
    println!();
    println!("  export KUBECONFIG={}", plane.kubeconfig().display());
    println!("  {} get nodes", plane.tools().kubectl.display());
    println!();
    println!("logs        {}", plane.logs_directory().display());
    println!("helm        {}", plane.tools().helm.display());
    if let Some(prometheus) = prometheus {
        println!("prometheus  {}", prometheus.url());
        println!(
            "targets     {} (file_sd)",
            plane.directory().join("targets").display()
        );
    }
    println!();
    println!("Ctrl-C takes it down and removes its files.");
}
