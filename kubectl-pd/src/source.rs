//! The texts of an import: files, standard input, and directories of `AIConfigurator`.
//!
//! Files are read here and nowhere else. A directory is looked through to a few levels for the
//! folder of a disaggregated run, because `AIConfigurator` puts model and parameters between.

use std::{
    fs, io,
    io::Read as _,
    path::{Path, PathBuf},
};

use crate::{exit::Exit, import::aiconfigurator::Run};

/// Levels of folders between an output directory and that of a run: organisation, model with its
/// parameters, mode.
const LEVELS_MAX: usize = 4;

/// The results of a disaggregated run.
const RESULTS: &str = "best_config_topn.csv";

/// Why a text could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A file is missing or unreadable.
    #[error("{} cannot be read: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A directory holds no run.
    #[error("{} has no folder disagg with {RESULTS}: give the output directory of aiconfigurator cli default or recommend, of a disaggregated run", .0.display())]
    NoRun(PathBuf),
    /// A directory holds several runs.
    #[error("{} holds {} runs: give one of them, such as {}", path.display(), .runs.len(), .runs.first().map_or_else(String::new, |run| run.display().to_string()))]
    SeveralRuns {
        /// The directory.
        path: PathBuf,
        /// The runs.
        runs: Vec<PathBuf>,
    },
}

impl SourceError {
    /// How the command ends.
    pub fn exit(&self) -> Exit {
        match self {
            Self::File { source, .. } if source.kind() != io::ErrorKind::NotFound => Exit::Input,
            Self::SeveralRuns { .. } => Exit::Input,
            _ => Exit::NotFound,
        }
    }
}

/// The text of a file, or of standard input for `-`.
pub fn text(path: &Path) -> Result<String, SourceError> {
    let failed = |source| SourceError::File {
        path: path.to_owned(),
        source,
    };
    if path == Path::new("-") {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).map_err(failed)?;
        return Ok(text);
    }
    fs::read_to_string(path).map_err(failed)
}

/// The run in an output directory.
pub fn run(directory: &Path) -> Result<Run, SourceError> {
    let mut runs = Vec::new();
    find(directory, LEVELS_MAX, &mut runs).map_err(|source| SourceError::File {
        path: directory.to_owned(),
        source,
    })?;
    runs.sort();
    let folder = match runs.as_slice() {
        [only] => only,
        [] => return Err(SourceError::NoRun(directory.to_owned())),
        _ => {
            let path = directory.to_owned();
            return Err(SourceError::SeveralRuns { path, runs });
        }
    };
    Ok(Run {
        folder: folder.display().to_string(),
        results: text(&folder.join(RESULTS))?,
        experiment: optional(&folder.join("exp_config.yaml"))?,
        manifest: optional(&folder.join("top1").join("k8s_deploy.yaml"))?,
    })
}

/// The folders of disaggregated runs at `path` or below.
fn find(path: &Path, levels: usize, found: &mut Vec<PathBuf>) -> io::Result<()> {
    if path.file_name().is_some_and(|name| name == "disagg") && path.join(RESULTS).is_file() {
        found.push(path.to_owned());
        return Ok(());
    }
    if levels == 0 {
        return Ok(());
    }
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            find(&entry.path(), levels - 1, found)?;
        }
    }
    Ok(())
}

fn optional(path: &Path) -> Result<Option<String>, SourceError> {
    match text(path) {
        Ok(text) => Ok(Some(text)),
        Err(SourceError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(root: &Path, run: &str) {
        let folder = root.join(run).join("disagg");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(RESULTS), "a\n1\n").unwrap();
    }

    #[test]
    fn the_run_is_found_below_model_and_parameters() {
        let root = tempfile::tempdir().unwrap();
        make(root.path(), "Qwen/Qwen3_h200_isl4000");
        let found = run(root.path()).unwrap();
        assert!(found.folder.ends_with("disagg") && found.experiment.is_none());
        assert_eq!(found.results, "a\n1\n");
        let same = run(&root.path().join("Qwen/Qwen3_h200_isl4000/disagg")).unwrap();
        assert_eq!(same.folder, found.folder);
    }

    #[test]
    fn several_runs_are_listed_and_none_is_named() {
        let root = tempfile::tempdir().unwrap();
        let error = run(root.path()).unwrap_err();
        assert_eq!(error.exit(), Exit::NotFound);
        make(root.path(), "a/x");
        make(root.path(), "a/y");
        let error = run(root.path()).unwrap_err();
        assert!(error.to_string().contains("holds 2 runs"), "{error}");
        assert_eq!(error.exit(), Exit::Input);
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = text(Path::new("nowhere.yaml")).unwrap_err();
        assert!(error.to_string().contains("nowhere.yaml"), "{error}");
        assert_eq!(error.exit(), Exit::NotFound);
    }
}
