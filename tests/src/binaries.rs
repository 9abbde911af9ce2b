//! The product's own programs, for tests that run them as processes.
//!
//! Cargo builds for a test only the programs of the test's own package. The others are built here,
//! by the same cargo into the same target directory and profile, so that a test never runs a stale
//! program, and `cargo test -p pd-tests` needs no second command.

use std::{
    collections::HashMap,
    env, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Mutex,
};

use crate::{supervisor::lock, text::tail};

static BUILT: Mutex<Option<HashMap<String, PathBuf>>> = Mutex::new(None);

/// Why a program of the workspace could not be had.
#[derive(Debug, thiserror::Error)]
pub enum BinaryError {
    /// Cargo could not be started, or the running program's place is unknown.
    #[error("cannot run cargo to build `{program}`")]
    Io {
        /// The program wanted.
        program: String,
        /// Why not.
        source: io::Error,
    },
    /// Cargo failed.
    #[error("`cargo build --bin {program}` failed:\n{log}")]
    Build {
        /// The program wanted.
        program: String,
        /// The end of what cargo wrote.
        log: String,
    },
    /// The test does not run from a cargo target directory.
    #[error("`{}` is not in a cargo target directory", .0.display())]
    NoTargetDirectory(PathBuf),
}

/// The path of a program of this workspace, brought up to date once per test process. Blocks while
/// cargo builds.
pub fn workspace_binary(program: &str) -> Result<PathBuf, BinaryError> {
    let mut built = lock(&BUILT);
    let built = built.get_or_insert_default();
    if let Some(path) = built.get(program) {
        return Ok(path.clone());
    }
    let path = build(program)?;
    built.insert(program.to_owned(), path.clone());
    Ok(path)
}

fn build(program: &str) -> Result<PathBuf, BinaryError> {
    let failed = |source| BinaryError::Io {
        program: program.to_owned(),
        source,
    };
    let running = env::current_exe().map_err(failed)?;
    // Test programs are in TARGET/PROFILE/deps, the programs of a package in TARGET/PROFILE.
    let folder = running.parent().unwrap_or(Path::new("."));
    let profile = if folder.ends_with("deps") {
        folder.parent()
    } else {
        Some(folder)
    };
    let places =
        profile.and_then(|profile| Some((profile, profile.file_name()?, profile.parent()?)));
    let Some((profile, name, target)) = places else {
        return Err(BinaryError::NoTargetDirectory(running));
    };
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // Build scripts look at what `cargo test` says of the test's own package: they, and all that
    // needs them, would be built again here, and once more by the next cargo outside of a test.
    for (name, _) in env::vars_os() {
        let is_of_a_package = name.to_str().is_some_and(|name| {
            name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
        });
        if is_of_a_package {
            cargo.env_remove(name);
        }
    }
    let output = cargo
        .args([
            "build",
            "--quiet",
            "--workspace",
            "--bin",
            program,
            "--profile",
        ])
        .arg(if name == "debug" {
            "dev".as_ref()
        } else {
            name
        })
        .arg("--target-dir")
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::null())
        .output()
        .map_err(failed)?;
    if output.status.success() {
        return Ok(profile.join(program));
    }
    let log = tail(&String::from_utf8_lossy(&output.stderr), 30);
    Err(BinaryError::Build {
        program: program.to_owned(),
        log,
    })
}
