//! The table of Go modules the tools are built from, and the modules made for other Kubernetes
//! versions.
//!
//! Each tool is a directory under `tests/tools` holding a `go.mod` with Go's `tool` directive and
//! no Go code. `k8s.io/kubernetes` points its own libraries at a staging directory, which only its
//! own repository has, so a module that depends on it must replace each of them by the published
//! release of the same minor version; that list is read from the release itself.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{
    ToolsError,
    go::go,
    version::{KubernetesVersion, required_version},
};

/// One Go module and the programs it gives.
#[derive(Debug)]
pub(super) struct Module {
    /// Directory under `tests/tools`.
    pub(super) name: &'static str,
    /// The module whose version is the tool's.
    pub(super) path: &'static str,
    /// The programs that come out of it.
    pub(super) programs: &'static [Program],
    /// Go build tags.
    pub(super) tags: &'static str,
    /// Linker settings that stamp the version, with `VERSION`, `MAJOR` and `MINOR` to be filled in.
    pub(super) stamps: &'static [&'static str],
    /// Roughly how long a build with empty caches takes on two cores.
    pub(super) minutes: &'static str,
}

/// One program of a module.
#[derive(Debug)]
pub(super) struct Program {
    /// The name under which it is looked for and installed.
    pub(super) name: &'static str,
    /// The Go package.
    pub(super) package: &'static str,
    /// The name `go build` gives it.
    pub(super) built_as: &'static str,
    /// Arguments that make it tell its version.
    pub(super) version_arguments: &'static [&'static str],
    /// The oldest version of an installed program that is used; `None` asks for the same minor
    /// version of Kubernetes as the control plane's.
    pub(super) minimum: Option<[u64; 3]>,
}

const fn kubernetes(name: &'static str, package: &'static str) -> Program {
    Program {
        name,
        package,
        built_as: name,
        version_arguments: &["--version"],
        minimum: None,
    }
}

/// All modules, in the order in which they are built.
pub(super) const MODULES: [Module; 5] = [
    Module {
        name: "etcd",
        path: "go.etcd.io/etcd/server/v3",
        programs: &[Program {
            name: "etcd",
            package: "go.etcd.io/etcd/server/v3",
            built_as: "server",
            version_arguments: &["--version"],
            minimum: Some([3, 6, 0]),
        }],
        tags: "",
        stamps: &[],
        minutes: "half a minute",
    },
    Module {
        name: "kubernetes",
        path: "k8s.io/kubernetes",
        programs: &[
            kubernetes("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
            kubernetes(
                "kube-controller-manager",
                "k8s.io/kubernetes/cmd/kube-controller-manager",
            ),
            kubernetes("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"),
            Program {
                version_arguments: &["version", "--client"],
                ..kubernetes("kubectl", "k8s.io/kubernetes/cmd/kubectl")
            },
        ],
        tags: "",
        stamps: &[
            "k8s.io/component-base/version.gitVersion=vVERSION",
            "k8s.io/component-base/version.gitMajor=MAJOR",
            "k8s.io/component-base/version.gitMinor=MINOR",
            "k8s.io/client-go/pkg/version.gitVersion=vVERSION",
            "k8s.io/client-go/pkg/version.gitMajor=MAJOR",
            "k8s.io/client-go/pkg/version.gitMinor=MINOR",
        ],
        minutes: "7 minutes",
    },
    Module {
        name: "kwok",
        path: "sigs.k8s.io/kwok",
        programs: &[Program {
            name: "kwok",
            package: "sigs.k8s.io/kwok/cmd/kwok",
            built_as: "kwok",
            version_arguments: &["--version"],
            minimum: Some([0, 7, 0]),
        }],
        tags: "",
        stamps: &["sigs.k8s.io/kwok/pkg/consts.Version=vVERSION"],
        minutes: "a minute and a half",
    },
    Module {
        name: "prometheus",
        path: "github.com/prometheus/prometheus",
        programs: &[
            Program {
                name: "prometheus",
                package: "github.com/prometheus/prometheus/cmd/prometheus",
                built_as: "prometheus",
                version_arguments: &["--version"],
                minimum: Some([3, 0, 0]),
            },
            Program {
                name: "promtool",
                package: "github.com/prometheus/prometheus/cmd/promtool",
                built_as: "promtool",
                version_arguments: &["--version"],
                minimum: Some([3, 0, 0]),
            },
        ],
        // The clients of some thirty clouds are most of Prometheus's build; static, file and HTTP
        // discovery stay.
        tags: "remove_all_sd",
        stamps: &["github.com/prometheus/common/version.Version=VERSION"],
        minutes: "4 minutes",
    },
    Module {
        name: "helm",
        path: "helm.sh/helm/v4",
        programs: &[Program {
            name: "helm",
            package: "helm.sh/helm/v4/cmd/helm",
            built_as: "helm",
            version_arguments: &["version", "--short"],
            minimum: Some([3, 16, 0]),
        }],
        tags: "",
        stamps: &["helm.sh/helm/v4/internal/version.version=vVERSION"],
        minutes: "2 minutes",
    },
];

/// Operators of others, each built where a test first asks for it: most tests need none of them.
pub(super) const OPERATORS: [Module; 1] = [Module {
    name: "kueue",
    path: "sigs.k8s.io/kueue",
    programs: &[operator("kueue", "sigs.k8s.io/kueue/cmd/kueue", "kueue")],
    tags: "",
    stamps: &["sigs.k8s.io/kueue/pkg/version.GitVersion=vVERSION"],
    minutes: "2 minutes",
}];

const fn operator(name: &'static str, package: &'static str, built_as: &'static str) -> Program {
    Program {
        name,
        package,
        built_as,
        // One that is installed says nothing of its version: it is never taken.
        version_arguments: &[],
        minimum: None,
    }
}

impl Module {
    /// The directory in the repository.
    pub(super) fn shipped_directory(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tools")
            .join(self.name)
    }

    /// The version the shipped `go.mod` requires.
    pub(super) fn shipped_version(&self) -> Result<String, ToolsError> {
        let path = self.shipped_directory().join("go.mod");
        let text = fs::read_to_string(&path).map_err(ToolsError::io(&path))?;
        required_version(&text, self.path)
            .map(str::to_owned)
            .ok_or(ToolsError::NoVersion {
                module: self.path,
                go_mod: path,
            })
    }

    /// The linker settings that make the programs tell their version.
    pub(super) fn linker_flags(&self, version: &str) -> String {
        let mut numbers = version.split('.');
        let (major, minor) = (numbers.next().unwrap_or("0"), numbers.next().unwrap_or("0"));
        // The Go module v0.315.0 of Prometheus is its release 3.15.0.
        let release = match (self.name, minor.parse::<u64>()) {
            ("prometheus", Ok(number)) => format!("{}.{}.0", number / 100, number % 100),
            _ => version.to_owned(),
        };
        let stamps = self.stamps.iter().map(|stamp| {
            let stamp = stamp.replace("VERSION", &release);
            format!(
                " -X {}",
                stamp.replace("MAJOR", major).replace("MINOR", minor)
            )
        });
        std::iter::once("-s -w".to_owned()).chain(stamps).collect()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Download {
    go_mod: PathBuf,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GoMod {
    go: String,
    replace: Vec<Replace>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Replace {
    old: ModulePath,
    new: ModulePath,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ModulePath {
    path: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Source {
    dir: PathBuf,
}

/// The source of `module` in the version that `tests/tools/NAME` requires, for the manifests in it.
/// Nothing is built; it is downloaded once, into Go's own cache.
pub fn source(name: &str, module: &str) -> Result<PathBuf, ToolsError> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tools")
        .join(name);
    let answer = go(&directory, &["mod", "download", "-json", module])?;
    let source: Source = serde_json::from_str(&answer).map_err(ToolsError::answer(module))?;
    Ok(source.dir)
}

/// Makes in `directory` a module like the shipped one for another Kubernetes version.
pub(super) fn generate_kubernetes_module(
    module: &Module,
    version: KubernetesVersion,
    directory: &Path,
) -> Result<(), ToolsError> {
    fs::create_dir_all(directory).map_err(ToolsError::io(directory))?;
    let wanted = format!("{}@v{version}", module.path);
    let download = go(directory, &["mod", "download", "-json", &wanted])?;
    let download: Download =
        serde_json::from_str(&download).map_err(ToolsError::answer(&wanted))?;
    let release_mod = download.go_mod.to_string_lossy().into_owned();
    let release = go(directory, &["mod", "edit", "-json", &release_mod])?;
    let release: GoMod =
        serde_json::from_str(&release).map_err(ToolsError::answer(&release_mod))?;

    let tools: Vec<&str> = module.programs.iter().map(|tool| tool.package).collect();
    let staged = release
        .replace
        .iter()
        .filter(|replace| replace.new.path.starts_with("./staging/"));
    let KubernetesVersion { minor, patch, .. } = version;
    let replacements: Vec<String> = staged
        .map(|Replace { old, .. }| format!("{0} => {0} v0.{minor}.{patch}", old.path))
        .collect();
    let text = format!(
        "module pdautoscaler.io/tests/tools/kubernetes\n\ngo {}\n\ntool (\n\t{}\n)\n\nrequire {} v{version}\n\nreplace (\n\t{}\n)\n",
        release.go,
        tools.join("\n\t"),
        module.path,
        replacements.join("\n\t"),
    );
    let path = directory.join("go.mod");
    fs::write(&path, text).map_err(ToolsError::io(&path))?;
    go(directory, &["mod", "tidy"]).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_module_tells_its_version() {
        for module in MODULES.iter().chain(&OPERATORS) {
            let version = module.shipped_version().unwrap();
            assert!(
                version.split('.').count() >= 3,
                "{}: {version}",
                module.name
            );
        }
    }

    #[test]
    fn prometheus_is_stamped_with_its_release_and_not_its_module_version() {
        let prometheus = MODULES
            .iter()
            .find(|module| module.name == "prometheus")
            .unwrap();
        assert!(
            prometheus
                .linker_flags("0.315.0")
                .ends_with("version.Version=3.15.0")
        );
    }
}
