//! Finds the programs a control plane is made of, and builds those the machine lacks.
//!
//! A program is taken from `KUBEBUILDER_ASSETS`, then from `PATH`, if it tells a version that is
//! recent enough; else from the cache (`$XDG_CACHE_HOME/pdautoscaler/tools`, by default under
//! `~/.cache`); else it is built there from the Go modules in `tests/tools`. Nothing is ever
//! downloaded as a binary: Go's checksum database stands for what is built.
//!
//! Recent enough is: Kubernetes programs of the same minor version as asked for, etcd 3.6, KWOK
//! 0.7, Prometheus 3.0, helm 3.16.

mod build;
mod go;
mod module;
mod version;

use std::{
    collections::HashMap,
    env, io,
    path::{Path, PathBuf},
    process::Command,
};

pub use module::source;
pub use version::{KubernetesVersion, VersionError};

use module::{MODULES, Module, OPERATORS, Program};

/// Where each program is.
#[derive(Debug, Clone)]
pub struct Tools {
    /// The version of the Kubernetes programs (of the same minor version when they were found).
    pub kubernetes_version: KubernetesVersion,
    /// The etcd server.
    pub etcd: PathBuf,
    /// The API server.
    pub kube_apiserver: PathBuf,
    /// The controllers of Deployments, `StatefulSet`s, nodes and so on.
    pub kube_controller_manager: PathBuf,
    /// The scheduler.
    pub kube_scheduler: PathBuf,
    /// The command line client.
    pub kubectl: PathBuf,
    /// Plays the kubelets.
    pub kwok: PathBuf,
    /// The metrics server.
    pub prometheus: PathBuf,
    /// Checks Prometheus configuration and rules.
    pub promtool: PathBuf,
    /// Installs charts.
    pub helm: PathBuf,
}

/// Why a tool cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ToolsError {
    /// No Go to build with.
    #[error(
        "the `go` command is not on PATH and tools must be built: install Go 1.24 or newer \
         (https://go.dev/doc/install), or put the missing programs in KUBEBUILDER_ASSETS"
    )]
    GoMissing,
    /// The Go command failed.
    #[error(
        "`{label}` failed; is the Go module proxy reachable (`go env GOPROXY`)? It said:\n{log}"
    )]
    Build {
        /// The program that was built or run.
        label: String,
        /// The last lines of its output.
        log: String,
    },
    /// Neither cache variable is set.
    #[error("no cache directory: set XDG_CACHE_HOME or HOME to an absolute path")]
    NoCacheDirectory,
    /// A name that no operator has.
    #[error("no operator is called `{0}`: the only one is `kueue`")]
    NoOperator(&'static str),
    /// A `go.mod` without the module it is there for.
    #[error("`{}` requires no version of `{module}`", go_mod.display())]
    NoVersion {
        /// The module looked for.
        module: &'static str,
        /// The file looked in.
        go_mod: PathBuf,
    },
    /// The Go command answered in an unknown form.
    #[error("the answer of the `go` command about `{subject}` could not be read")]
    Answer {
        /// The subject of the question.
        subject: String,
        /// The fault of the answer.
        source: serde_json::Error,
    },
    /// A file could not be read or written.
    #[error("cannot use `{}`", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl ToolsError {
    fn io(path: &Path) -> impl Fn(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            path: path.clone(),
            source,
        }
    }

    fn answer(subject: &str) -> impl Fn(serde_json::Error) -> Self {
        move |source| Self::Answer {
            subject: subject.to_owned(),
            source,
        }
    }
}

impl Tools {
    /// Finds all programs, building what is missing. Blocks, for many minutes on a machine that has
    /// built nothing yet; says so on standard error.
    pub fn locate_or_build(kubernetes_version: KubernetesVersion) -> Result<Self, ToolsError> {
        let mut found = HashMap::new();
        for module in &MODULES {
            locate_module(module, kubernetes_version, &mut found)?;
        }
        let mut take = |name: &'static str| found.remove(name).unwrap_or_else(|| name.into());
        Ok(Self {
            kubernetes_version,
            etcd: take("etcd"),
            kube_apiserver: take("kube-apiserver"),
            kube_controller_manager: take("kube-controller-manager"),
            kube_scheduler: take("kube-scheduler"),
            kubectl: take("kubectl"),
            kwok: take("kwok"),
            prometheus: take("prometheus"),
            promtool: take("promtool"),
            helm: take("helm"),
        })
    }

    /// The programs' names and paths, for display.
    pub fn paths(&self) -> [(&'static str, &Path); 9] {
        [
            ("etcd", &self.etcd),
            ("kube-apiserver", &self.kube_apiserver),
            ("kube-controller-manager", &self.kube_controller_manager),
            ("kube-scheduler", &self.kube_scheduler),
            ("kubectl", &self.kubectl),
            ("kwok", &self.kwok),
            ("prometheus", &self.prometheus),
            ("promtool", &self.promtool),
            ("helm", &self.helm),
        ]
    }
}

/// The program of another project's operator, such as `kueue`, built if the cache lacks it. Blocks,
/// for many minutes at its first use.
pub fn operator(program: &'static str) -> Result<PathBuf, ToolsError> {
    let has_it = |module: &&Module| module.programs.iter().any(|known| known.name == program);
    let module = OPERATORS.iter().find(has_it);
    let module = module.ok_or(ToolsError::NoOperator(program))?;
    // Its own libraries of Kubernetes are in its module, whatever the control plane's version is.
    let kubernetes = KubernetesVersion::shipped();
    let reason = "operators of others are never taken from PATH";
    let version = module.shipped_version()?;
    Ok(build::cached_or_built(module, &version, kubernetes, reason)?.join(program))
}

fn locate_module(
    module: &Module,
    kubernetes: KubernetesVersion,
    found: &mut HashMap<&'static str, PathBuf>,
) -> Result<(), ToolsError> {
    let version = match module.name {
        "kubernetes" => kubernetes.to_string(),
        _ => module.shipped_version()?,
    };
    let mut missing = Vec::new();
    for program in module.programs {
        match installed(program, kubernetes) {
            Some(path) => {
                found.insert(program.name, path);
            }
            None => missing.push(program.name),
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let reason = format!(
        "no recent enough {} in KUBEBUILDER_ASSETS or PATH",
        missing.join(", ")
    );
    let directory = build::cached_or_built(module, &version, kubernetes, &reason)?;
    found.extend(missing.into_iter().map(|name| (name, directory.join(name))));
    Ok(())
}

/// The first installed program of that name which is recent enough.
fn installed(program: &Program, kubernetes: KubernetesVersion) -> Option<PathBuf> {
    let assets = env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from);
    let path = env::var_os("PATH").unwrap_or_default();
    assets
        .into_iter()
        .chain(env::split_paths(&path))
        .map(|directory| directory.join(program.name))
        .filter(|candidate| candidate.is_file())
        .find(|candidate| {
            let answer =
                version::reported_version(Command::new(candidate).args(program.version_arguments));
            answer.is_some_and(|version| match program.minimum {
                Some(minimum) => version >= minimum,
                None => version[..2] == [kubernetes.major, kubernetes.minor],
            })
        })
}
