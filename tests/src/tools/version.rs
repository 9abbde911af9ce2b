//! Versions of Kubernetes and of the programs on this machine.
//!
//! The shipped `go.mod` files are the only place where a default version is written; here they are
//! read. Programs are asked for theirs (`--version`), and the first thing that looks like a version
//! in the answer is taken, because each tool words the answer in its own way.

use std::{fmt, process::Command, str::FromStr};

/// The Kubernetes release a control plane is made of, such as 1.37.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KubernetesVersion {
    /// 1 for all releases so far.
    pub major: u64,
    /// The minor release, 37 in 1.37.1.
    pub minor: u64,
    /// The patch release, 1 in 1.37.1.
    pub patch: u64,
}

/// A Kubernetes version that cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("Kubernetes version `{0}` is not of the form `1.37.1`")]
pub struct VersionError(String);

impl KubernetesVersion {
    /// The version of the module shipped in `tests/tools/kubernetes`.
    pub fn shipped() -> Self {
        required_version(
            include_str!("../../tools/kubernetes/go.mod"),
            "k8s.io/kubernetes",
        )
        .and_then(|version| version.parse().ok())
        .unwrap_or(Self {
            major: 1,
            minor: 37,
            patch: 1,
        })
    }

    /// The version asked for by `PD_KUBERNETES_VERSION`, or the shipped one.
    pub fn from_environment() -> Result<Self, VersionError> {
        match std::env::var("PD_KUBERNETES_VERSION") {
            Ok(text) if !text.is_empty() => text.parse(),
            _ => Ok(Self::shipped()),
        }
    }
}

impl FromStr for KubernetesVersion {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let error = || VersionError(text.to_owned());
        let numbers = text
            .strip_prefix('v')
            .unwrap_or(text)
            .split('.')
            .map(str::parse);
        let numbers: Vec<u64> = numbers.collect::<Result<_, _>>().map_err(|_| error())?;
        match numbers[..] {
            [major, minor, patch] => Ok(Self {
                major,
                minor,
                patch,
            }),
            _ => Err(error()),
        }
    }
}

impl fmt::Display for KubernetesVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// The version, without the leading `v`, that a `go.mod` text requires of a module.
pub(super) fn required_version<'a>(go_mod: &'a str, module: &str) -> Option<&'a str> {
    go_mod.lines().find_map(|line| {
        let line = line.trim().strip_prefix("require ").unwrap_or(line.trim());
        line.strip_prefix(module)?
            .strip_prefix(" v")?
            .split_whitespace()
            .next()
    })
}

/// Major, minor and patch of a program on this machine, or `None` when it does not run or tell.
pub(super) fn reported_version(program: &mut Command) -> Option<[u64; 3]> {
    let output = program.output().ok()?;
    first_version(&String::from_utf8_lossy(&output.stdout))
        .or_else(|| first_version(&String::from_utf8_lossy(&output.stderr)))
}

fn first_version(text: &str) -> Option<[u64; 3]> {
    text.split(|character: char| character.is_whitespace() || ",:\"()".contains(character))
        .find_map(|word| {
            let mut parts = word.strip_prefix('v').unwrap_or(word).splitn(3, '.');
            let major = parts.next()?.parse().ok()?;
            let minor = parts.next()?.parse().ok()?;
            let patch = parts.next()?;
            let end = patch
                .find(|character: char| !character.is_ascii_digit())
                .unwrap_or(patch.len());
            Some([major, minor, patch[..end].parse().ok()?])
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_each_tools_own_words() {
        for (answer, version) in [
            (
                "etcd Version: 3.6.16\nGit SHA: Not provided\nGo Version: go1.26.8",
                [3, 6, 16],
            ),
            ("Kubernetes v1.37.1", [1, 37, 1]),
            (
                "Client Version: v1.32.4-dispatcher\nKustomize Version: v5.5.0",
                [1, 32, 4],
            ),
            ("kwok version v0.8.0 go1.26.8 (linux/amd64)", [0, 8, 0]),
            (
                "prometheus, version 3.15.0 (branch: HEAD, revision: 1)",
                [3, 15, 0],
            ),
            ("v4.3.1+gabc", [4, 3, 1]),
        ] {
            assert_eq!(first_version(answer), Some(version), "{answer}");
        }
        assert_eq!(
            first_version("prometheus, version  (branch: , revision: )"),
            None
        );
    }

    #[test]
    fn shipped_version_comes_from_the_shipped_module() {
        let text = "require (\n\tk8s.io/kubernetes v1.37.1 // indirect\n)\nreplace (\n\tk8s.io/api => k8s.io/api v0.37.1\n)";
        assert_eq!(required_version(text, "k8s.io/kubernetes"), Some("1.37.1"));
        assert_eq!(KubernetesVersion::shipped().major, 1);
    }

    #[test]
    fn incomplete_versions_are_refused_with_the_form() {
        assert_eq!(
            "1.37".parse::<KubernetesVersion>().unwrap_err().to_string(),
            "Kubernetes version `1.37` is not of the form `1.37.1`"
        );
    }
}
