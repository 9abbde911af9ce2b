//! The commands: reads, judges and writes, in this order.
//!
//! Everything that decides is pure and elsewhere. Answers go to standard output, remarks and errors
//! to standard error, so that an answer can be piped.

mod import;

use std::io::Write;

use clap::CommandFactory as _;
use jiff::Timestamp;
use kube::ResourceExt;
use pd_api::{
    explanation::explanation,
    v1alpha1::{Mode, PDAutoscaler},
};
use serde_json::json;

use crate::{
    args::{
        Cli, ClusterArgs, Command, CompleteArgs, Completes, DryRun, ModeArg, NameArgs, Only,
        OutputArgs, PauseArgs, PreflightArgs, ResumeArgs, StatusArgs,
    },
    cluster::{Cluster, ClusterError},
    complete,
    controller::holder,
    exit::Exit,
    explain, output,
    output::{Output, OutputError},
    pause::{self, Change, Pause, PauseError},
    placement, preflight,
    source::SourceError,
    status::{self, Columns, detail::detail},
    why_not,
};

/// Why a command has no answer.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The cluster gave nothing.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// A file could not be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Nothing can be imported.
    #[error(transparent)]
    Import(#[from] crate::import::ImportError),
    /// An object is not resumed.
    #[error("{name}: {source}")]
    Pause {
        /// The object.
        name: String,
        /// Why.
        source: PauseError,
    },
    /// The answer could not be written in the form that is wanted.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The answer could not be printed.
    #[error("the answer cannot be written: {0}")]
    Write(#[from] std::io::Error),
}

impl RunError {
    /// How the command ends.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Cluster(error) => error.exit(),
            Self::Source(error) => error.exit(),
            Self::Import(_) | Self::Pause { .. } => Exit::Input,
            Self::Output(_) | Self::Write(_) => Exit::Cluster,
        }
    }
}

/// An answer.
#[derive(Debug)]
struct Answer {
    text: String,
    exit: Exit,
}

impl From<String> for Answer {
    fn from(text: String) -> Self {
        Self {
            text,
            exit: Exit::Done,
        }
    }
}

/// Runs the command line; gives how it ends.
pub async fn run(cli: Cli, out: &mut impl Write) -> Result<Exit, RunError> {
    let (now, flags) = (Timestamp::now(), &cli.cluster);
    let answer = match cli.command {
        Command::Status(args) => status(flags, &args, now).await?,
        Command::Explain(args) => explain(flags, &args, now).await?,
        Command::WhyNot(args) => why_not(flags, &args, now).await?,
        Command::Pause(args) => pause(flags, &args).await?,
        Command::Resume(args) => resume(flags, &args).await?,
        Command::Import(args) => import::import(flags, &args.source).await?.into(),
        Command::Preflight(args) => preflight(flags, &args, now).await?,
        Command::Completion(args) => completion(args.shell).into(),
        Command::Complete(args) => candidates(&args).await.into(),
    };
    match out.write_all(answer.text.as_bytes()) {
        // Whoever closed the pipe does not want to read it.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => return Err(error.into()),
        _ => {}
    }
    Ok(answer.exit)
}

async fn status(
    flags: &ClusterArgs,
    args: &StatusArgs,
    now: Timestamp,
) -> Result<Answer, RunError> {
    let cluster = Cluster::connect(flags).await?;
    if let Some(name) = &args.name {
        let object = cluster.object(name).await?;
        let text = match args.output.output {
            None => {
                let blockers = why_not::answer(&object, None).blockers.len();
                detail(&object, blockers, now)
            }
            Some(form) => in_form(std::slice::from_ref(&object), form, &object, false, now)?,
        };
        return Ok(text.into());
    }
    let objects = cluster
        .objects(args.all_namespaces, args.selector.as_deref())
        .await?;
    let form = args.output.output.unwrap_or(Output::Table);
    if objects.is_empty() && matches!(form, Output::Table | Output::Wide) {
        let place = if args.all_namespaces {
            "any namespace".to_owned()
        } else {
            format!("namespace {}", cluster.namespace)
        };
        eprintln!("No PDAutoscalers in {place}.");
        return Ok(String::new().into());
    }
    // As `kubectl get` gives them.
    let list = json!({ "apiVersion": "v1", "kind": "List", "metadata": {}, "items": objects });
    Ok(in_form(&objects, form, &list, args.all_namespaces, now)?.into())
}

/// `objects` as a table, or `value` for programs.
fn in_form(
    objects: &[PDAutoscaler],
    form: Output,
    value: &impl serde::Serialize,
    namespace: bool,
    now: Timestamp,
) -> Result<String, OutputError> {
    let columns = |wide| Columns { namespace, wide };
    match form {
        Output::Table => Ok(status::list(objects, columns(false), now)),
        Output::Wide => Ok(status::list(objects, columns(true), now)),
        Output::Yaml => output::yaml(value),
        Output::Json => output::json(value),
    }
}

async fn explain(flags: &ClusterArgs, args: &NameArgs, now: Timestamp) -> Result<Answer, RunError> {
    let cluster = Cluster::connect(flags).await?;
    if let Some(name) = placement::named(&args.name) {
        let (group, pods) = cluster.placement_group(name).await?;
        let text = match args.output.output {
            None | Some(Output::Table | Output::Wide) => placement::prose(&group, &pods, now),
            Some(Output::Yaml) => output::yaml(&group)?,
            Some(Output::Json) => output::json(&group)?,
        };
        return Ok(text.into());
    }
    let object = cluster.object(&args.name).await?;
    let text = match args.output.output {
        None => explain::prose(&object, now),
        Some(Output::Table | Output::Wide) => explain::steps(&object),
        Some(Output::Yaml) => output::yaml(&explanation(&object))?,
        Some(Output::Json) => output::json(&explanation(&object))?,
    };
    Ok(text.into())
}

async fn why_not(flags: &ClusterArgs, args: &NameArgs, now: Timestamp) -> Result<Answer, RunError> {
    let cluster = Cluster::connect(flags).await?;
    let object = cluster.object(&args.name).await?;
    let leaderless = leaderless(&cluster, &object, now).await;
    let answer = why_not::answer(&object, leaderless.as_deref());
    let text = match args.output.output {
        None => why_not::text(&object, &answer),
        Some(Output::Table | Output::Wide) => why_not::columns(&answer),
        Some(Output::Yaml) => output::yaml(&answer)?,
        Some(Output::Json) => output::json(&answer)?,
    };
    let exit = if answer.blockers.is_empty() {
        Exit::Done
    } else {
        Exit::Found
    };
    Ok(Answer { text, exit })
}

/// Why no controller leads that handles `object`; nothing where one does, or where that cannot be
/// seen, which most users may not.
async fn leaderless(cluster: &Cluster, object: &PDAutoscaler, now: Timestamp) -> Option<String> {
    let controllers = cluster.controllers().await.ok()?;
    let handling = controllers
        .iter()
        .filter(|(controller, _)| controller.handles(object));
    let mut why = None;
    for (controller, lease) in handling {
        let (namespace, name) = controller.lease.as_ref()?;
        match holder(lease.as_ref().ok()?.as_ref(), now) {
            Ok(_) => return None,
            Err(fault) => {
                why = Some(format!(
                    "no controller leads, Lease {namespace}/{name}: {fault}"
                ));
            }
        }
    }
    why
}

async fn pause(flags: &ClusterArgs, args: &PauseArgs) -> Result<Answer, RunError> {
    let wanted = match (args.only, args.off) {
        (Some(Only::Up), _) => Pause::ScaleUp,
        (Some(Only::Down), _) => Pause::ScaleDown,
        (None, true) => Pause::Mode(Mode::Off),
        (None, false) => Pause::Mode(Mode::Recommend),
    };
    let cluster = Cluster::connect(flags).await?;
    let object = cluster.object(&args.name).await?;
    let change = pause::pause(&object, wanted);
    changed(&cluster, object, &change, args.dry_run, args.output).await
}

async fn resume(flags: &ClusterArgs, args: &ResumeArgs) -> Result<Answer, RunError> {
    let to = args.to.map(|mode| match mode {
        ModeArg::Off => Mode::Off,
        ModeArg::Recommend => Mode::Recommend,
        ModeArg::Auto => Mode::Auto,
    });
    let cluster = Cluster::connect(flags).await?;
    let object = cluster.object(&args.name).await?;
    let change = pause::resume(&object, to).map_err(|source| RunError::Pause {
        name: args.name.clone(),
        source,
    })?;
    changed(&cluster, object, &change, args.dry_run, args.output).await
}

/// Makes a change, and says it.
async fn changed(
    cluster: &Cluster,
    object: PDAutoscaler,
    change: &Change,
    dry_run: DryRun,
    output: OutputArgs,
) -> Result<Answer, RunError> {
    let name = object.name_any();
    let after = match &change.patch {
        Some(patch) if dry_run != DryRun::Client => cluster.patch(&name, patch, dry_run).await?,
        _ => object,
    };
    let note = match dry_run {
        DryRun::None => "",
        DryRun::Client => " (dry run)",
        DryRun::Server => " (server dry run)",
    };
    let text = match output.output {
        None | Some(Output::Table | Output::Wide) => format!("{}{note}\n", change.message),
        Some(Output::Yaml) => output::yaml(&after)?,
        Some(Output::Json) => output::json(&after)?,
    };
    Ok(text.into())
}

async fn preflight(
    flags: &ClusterArgs,
    args: &PreflightArgs,
    now: Timestamp,
) -> Result<Answer, RunError> {
    let cluster = Cluster::connect(flags).await?;
    // Whoever is not answered at all learns that first, and not from each check.
    let version = cluster.client.apiserver_version().await;
    version.map_err(|error| ClusterError::Refused {
        action: "reach the API server".to_owned(),
        cause: pd_runtime::kubernetes::error_message(&error),
    })?;
    let facts = preflight::probe::look(&cluster, args.all_namespaces, &args.prometheus).await;
    let checks = preflight::judge::judge(&facts, now);
    let text = match args.output.output {
        None | Some(Output::Table | Output::Wide) => preflight::text(&checks),
        Some(Output::Yaml) => output::yaml(&json!({ "checks": checks }))?,
        Some(Output::Json) => output::json(&json!({ "checks": checks }))?,
    };
    let exit = if preflight::fails(&checks) {
        Exit::Found
    } else {
        Exit::Done
    };
    Ok(Answer { text, exit })
}

fn completion(shell: Completes) -> String {
    let Some(shell) = shell.shell() else {
        return complete::KUBECTL_SCRIPT.to_owned();
    };
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "kubectl-pd", &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// The lines for kubectl. Whatever goes wrong, nobody wants an error in the middle of a word.
async fn candidates(args: &CompleteArgs) -> String {
    match complete::wanted(&Cli::command(), &args.words) {
        complete::Wanted::Words(words) => complete::lines(&words, false),
        complete::Wanted::Files => complete::lines(&[], true),
        complete::Wanted::Objects(beginning) => {
            let names = names(&args.words).await.unwrap_or_default();
            let fitting: Vec<String> = names
                .into_iter()
                .filter(|name| name.starts_with(&beginning))
                .collect();
            complete::lines(&fitting, false)
        }
    }
}

/// The names of the PDAutoscalers in the namespace that the words name.
async fn names(words: &[String]) -> Option<Vec<String>> {
    let value = |long: &str, short: Option<&str>| {
        words.iter().enumerate().find_map(|(at, word)| {
            if let Some(value) = word.strip_prefix(&format!("{long}=")) {
                return Some(value.to_owned());
            }
            let is_flag = word == long || short == Some(word.as_str());
            is_flag.then(|| words.get(at + 1).cloned()).flatten()
        })
    };
    let args = ClusterArgs {
        kubeconfig: value("--kubeconfig", None).map(Into::into),
        context: value("--context", None),
        namespace: value("--namespace", Some("-n")),
    };
    let cluster = Cluster::connect(&args).await.ok()?;
    let objects = cluster.objects(false, None).await.ok()?;
    Some(objects.iter().map(ResourceExt::name_any).collect())
}
