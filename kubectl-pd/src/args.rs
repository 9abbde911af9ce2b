//! The command line: kubectl's own flags by their own names, and the commands.

#![expect(
    clippy::doc_markdown,
    reason = "--help prints these comments, and backticks are noise there"
)]

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;
use pd_api::v1alpha1::DurationText;
use pd_runtime::prometheus::PrometheusArgs;

use crate::{
    import::role::{MaxReplicasFlag, TargetFlag},
    output::Output,
};

/// Show what PDAutoscalers do, why, and what keeps them from it.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "kubectl-pd",
    bin_name = "kubectl pd",
    version,
    after_help = "Exit codes: 0 done, 1 something was found (why-not: it is kept from scaling; preflight: a check failed), 2 the command line is wrong, 3 the cluster cannot be reached or refuses, 4 there is no such object or file, 5 an input cannot be used."
)]
pub struct Cli {
    /// The command.
    #[command(subcommand)]
    pub command: Command,
    /// The cluster; before or behind the command.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// Where the cluster is.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Cluster")]
pub struct ClusterArgs {
    /// Kubeconfig file. By default KUBECONFIG, then ~/.kube/config.
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig. By default its current one.
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// Namespace. By default that of the context.
    #[arg(short, long, global = true, value_name = "NAME")]
    pub namespace: Option<String>,
}

/// The form of the answer.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct OutputArgs {
    /// Form of the answer. By default one for people.
    #[arg(short, long, value_enum, value_name = "FORM")]
    pub output: Option<Output>,
}

/// The commands.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// PDAutoscalers, one line each, or everything about one
    Status(StatusArgs),
    /// Why an object has the replicas that it has: its last decision as prose
    ///
    /// With placementgroup/NAME it says where the pods of a placement group are, and why others
    /// wait.
    Explain(NameArgs),
    /// All that keeps an object from scaling, the most important first, each with its remedy
    WhyNot(NameArgs),
    /// Stop an object: decisions are shown and not applied
    Pause(PauseArgs),
    /// Start an object again, in the mode that it had before its pause
    Resume(ResumeArgs),
    /// Make a PDAutoscaler in mode Recommend from another autoscaler's settings
    Import(ImportArgs),
    /// Whether the cluster has all that PDAutoscalers need
    Preflight(PreflightArgs),
    /// A script that completes this command line
    Completion(CompletionArgs),
    /// Candidates for the last of the words, as kubectl asks for them
    #[command(name = "__complete", hide = true)]
    Complete(CompleteArgs),
}

/// Arguments of `status`.
#[derive(Clone, Debug, Args)]
pub struct StatusArgs {
    /// The object; all of the namespace without.
    pub name: Option<String>,
    /// All namespaces, whatever --namespace says.
    #[arg(short = 'A', long, conflicts_with = "name")]
    pub all_namespaces: bool,
    /// Only objects with these labels.
    #[arg(short = 'l', long, value_name = "SELECTOR", conflicts_with = "name")]
    pub selector: Option<String>,
    /// The form.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Arguments of commands about one object.
#[derive(Clone, Debug, Args)]
pub struct NameArgs {
    /// The object.
    pub name: String,
    /// The form.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// A direction of scaling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Only {
    /// Replicas are not raised.
    Up,
    /// Replicas are not lowered.
    Down,
}

/// A mode, as the API spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum ModeArg {
    /// Nothing is decided.
    Off,
    /// Decisions are shown and not applied.
    Recommend,
    /// Decisions are applied.
    Auto,
}

/// Whether a change is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum DryRun {
    /// It is made.
    #[default]
    None,
    /// It is shown.
    Client,
    /// The API server judges it and makes nothing of it.
    Server,
}

/// Arguments of `pause`.
#[derive(Clone, Debug, Args)]
pub struct PauseArgs {
    /// The object.
    pub name: String,
    /// Stop one direction alone, by annotation; the mode stays.
    #[arg(long, value_enum, value_name = "DIRECTION")]
    pub only: Option<Only>,
    /// Stop deciding too: spec.mode becomes Off.
    #[arg(long, conflicts_with = "only")]
    pub off: bool,
    /// Whether the change is made.
    #[arg(long, value_enum, default_value_t, value_name = "WHERE")]
    pub dry_run: DryRun,
    /// The form.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Arguments of `resume`.
#[derive(Clone, Debug, Args)]
pub struct ResumeArgs {
    /// The object.
    pub name: String,
    /// The mode to go to. By default the one before the pause.
    #[arg(long, value_enum, value_name = "MODE")]
    pub to: Option<ModeArg>,
    /// Whether the change is made.
    #[arg(long, value_enum, default_value_t, value_name = "WHERE")]
    pub dry_run: DryRun,
    /// The form.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Arguments of `import`.
#[derive(Clone, Debug, Args)]
pub struct ImportArgs {
    /// The source.
    #[command(subcommand)]
    pub source: Source,
}

/// Sources of `import`.
#[derive(Clone, Debug, Subcommand)]
pub enum Source {
    /// Two HorizontalPodAutoscalers, one for each role
    Hpa(PairArgs),
    /// Two ScaledObjects of KEDA, one for each role
    Keda(PairArgs),
    /// A DynamoGraphDeployment with its planner
    Dynamo(DynamoArgs),
    /// The output directory of AIConfigurator
    Aiconfigurator(AiconfiguratorArgs),
}

/// The arguments of an import beside its source.
#[derive(Clone, Debug, Args)]
pub struct ObjectArgs {
    /// Name of the PDAutoscaler. By default what the names of both workloads have in common.
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Limit of the time to first token, such as 500ms.
    #[arg(long, value_name = "DURATION", value_parser = limit)]
    pub ttft: Option<DurationText>,
    /// Limit of the time per output token, such as 50ms.
    #[arg(long, value_name = "DURATION", value_parser = limit)]
    pub tpot: Option<DurationText>,
    /// Workload of the prefill role, where the source has none: KIND/NAME.
    #[arg(long, value_name = "KIND/NAME")]
    pub prefill_target: Option<TargetFlag>,
    /// Workload of the decode role, where the source has none: KIND/NAME.
    #[arg(long, value_name = "KIND/NAME")]
    pub decode_target: Option<TargetFlag>,
    /// Most replicas of each role, or of prefill and decode as 16:32. By default the source's, and
    /// needed where it has none.
    #[arg(long, value_name = "N|P:D")]
    pub max_replicas: Option<MaxReplicasFlag>,
    /// The form; YAML by default, and as a table the remarks alone.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Arguments of `import hpa` and `import keda`.
#[derive(Clone, Debug, Args)]
pub struct PairArgs {
    /// The object of the prefill role. By default the one whose name speaks of prefill.
    #[arg(long, value_name = "NAME", conflicts_with = "prefill_target")]
    pub prefill: Option<String>,
    /// The object of the decode role. By default the one whose name speaks of decode.
    #[arg(long, value_name = "NAME", conflicts_with = "decode_target")]
    pub decode: Option<String>,
    /// File with the objects, - for standard input. By default they are read from the cluster.
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub filename: Option<PathBuf>,
    /// The object to make.
    #[command(flatten)]
    pub object: ObjectArgs,
}

/// Arguments of `import dynamo`.
#[derive(Clone, Debug, Args)]
pub struct DynamoArgs {
    /// The DynamoGraphDeployment in the cluster.
    #[arg(value_name = "GRAPH", required_unless_present_any = ["filename", "planner_config"], conflicts_with = "filename")]
    pub graph: Option<String>,
    /// File with the DynamoGraphDeployment, - for standard input.
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub filename: Option<PathBuf>,
    /// File with the planner's configuration, where the graph only names it.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub planner_config: Option<PathBuf>,
    /// The object to make.
    #[command(flatten)]
    pub object: ObjectArgs,
}

/// Arguments of `import aiconfigurator`.
#[derive(Clone, Debug, Args)]
pub struct AiconfiguratorArgs {
    /// Output directories of runs for one service, each for a kind of traffic.
    #[arg(value_name = "DIRECTORY", required = true, value_hint = ValueHint::DirPath)]
    pub directories: Vec<PathBuf>,
    /// The object to make.
    #[command(flatten)]
    pub object: ObjectArgs,
}

/// Arguments of `preflight`.
#[derive(Clone, Debug, Args)]
pub struct PreflightArgs {
    /// PDAutoscalers of all namespaces, whatever --namespace says.
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// The form.
    #[command(flatten)]
    pub output: OutputArgs,
    /// Prometheus, where it is not the controllers' or is not reached through the API server.
    #[command(flatten)]
    pub prometheus: PrometheusArgs,
}

/// A shell, or kubectl itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Completes {
    /// The command kubectl-pd in bash.
    Bash,
    /// The command kubectl-pd in elvish.
    Elvish,
    /// The command kubectl-pd in fish.
    Fish,
    /// The command kubectl-pd in PowerShell.
    Powershell,
    /// The command kubectl-pd in zsh.
    Zsh,
    /// The command kubectl pd in every shell that kubectl completes: kubectl_complete-pd.
    Kubectl,
}

impl Completes {
    /// The shell, if it is one.
    pub const fn shell(self) -> Option<Shell> {
        match self {
            Self::Bash => Some(Shell::Bash),
            Self::Elvish => Some(Shell::Elvish),
            Self::Fish => Some(Shell::Fish),
            Self::Powershell => Some(Shell::PowerShell),
            Self::Zsh => Some(Shell::Zsh),
            Self::Kubectl => None,
        }
    }
}

/// Arguments of `completion`.
#[derive(Clone, Copy, Debug, Args)]
pub struct CompletionArgs {
    /// The shell.
    #[arg(value_enum, value_name = "SHELL")]
    pub shell: Completes,
}

/// Arguments of `__complete`.
#[derive(Clone, Debug, Args)]
pub struct CompleteArgs {
    /// The words behind `kubectl pd`.
    #[arg(last = true, allow_hyphen_values = true)]
    pub words: Vec<String>,
}

fn limit(text: &str) -> Result<DurationText, String> {
    let limit = DurationText(text.to_owned());
    match limit.parse() {
        Ok(span) if span > Duration::ZERO => Ok(limit),
        _ => Err("must be a duration above 0, such as 500ms".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use rstest::rstest;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[rstest]
    #[case::kubectls_flags("status -A -o json --kubeconfig f --context c")]
    #[case::wide("status -n inference -o wide -l team=a")]
    #[case::flags_first("-n inference --context=c explain llama")]
    #[case::one("explain llama -n inference -o yaml")]
    #[case::blockers("why-not llama")]
    #[case::direction("pause llama --only=down --dry-run=server")]
    #[case::back("resume llama --to=Auto")]
    #[case::hpa(
        "import hpa --prefill a --decode-target Deployment/d -f - --ttft=500ms --tpot 50ms"
    )]
    #[case::graph("import dynamo qwen")]
    #[case::bound("import keda --max-replicas 16")]
    #[case::bounds("import dynamo qwen --max-replicas=16:32")]
    #[case::run("import aiconfigurator out out2 --max-replicas=4")]
    #[case::checks("preflight -A --prometheus-url http://p:9090")]
    #[case::shell("completion zsh")]
    #[case::words("__complete -- why-not -n a ")]
    fn commands_are_understood(#[case] line: &str) {
        let words = std::iter::once("kubectl-pd").chain(line.split(' '));
        Cli::try_parse_from(words).unwrap();
    }

    #[rstest]
    #[case::all_and_one("status llama -A", "--all-namespaces")]
    #[case::no_name("explain", "<NAME>")]
    #[case::no_time("import hpa --ttft soon", "--ttft")]
    #[case::mode("resume llama --to auto", "--to")]
    #[case::two_sources("import dynamo qwen -f x", "--filename")]
    #[case::no_source("import dynamo", "GRAPH")]
    #[case::two_workloads(
        "import hpa --prefill a --prefill-target Deployment/b",
        "--prefill-target"
    )]
    #[case::no_replicas("import dynamo qwen --max-replicas=0", "--max-replicas")]
    #[case::no_number("import hpa --max-replicas many", "PREFILL:DECODE")]
    #[case::no_kind("import hpa --prefill-target b", "KIND/NAME")]
    fn faults_name_the_flag(#[case] line: &str, #[case] want: &str) {
        let words = std::iter::once("kubectl-pd").chain(line.split(' '));
        let error = Cli::try_parse_from(words).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    }
}
