//! The repository's habits, as a test: rules that the compiler and clippy do not check.
//!
//! A file for each kind of rule: which crate may depend on which, whether files need each other in
//! circles, how long a file may be, whether documents are true to the tree, which words are used.
//! All findings are shown at once, each with its place and its remedy, so that one run is enough to
//! fix them all. Only tracked files count.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed step of a test ends it"
)]

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

mod circles;
mod dependencies;
mod documents;
mod machine;
mod prose;
mod source;

#[test]
fn the_repository_keeps_its_habits() {
    let tree = Tree::read();
    let mut findings = Findings::default();
    dependencies::dependencies(&tree, &mut findings);
    circles::circles(&tree, &mut findings);
    for (path, text) in tree.with_extension("rs") {
        source::source(path, text, &mut findings);
        source::reached(&tree, path, &mut findings);
        prose::comments(path, text, &mut findings);
        documents::references(&tree, path, text, &mut findings);
    }
    for (path, text) in &tree.files {
        machine::machine(path, text, &mut findings);
        prose::words(path, text, &mut findings);
    }
    for (path, text) in tree.with_extension("md") {
        documents::links(&tree, path, text, &mut findings);
    }
    documents::code_map(&tree, &mut findings);
    documents::decisions(&tree, &mut findings);
    documents::commands(&tree, &mut findings);
    license(&tree, &mut findings);
    format(&tree, &mut findings);
    let count = findings.0.len();
    assert!(count == 0, "{count} findings:\n{}", findings.0.join("\n"));
}

/// The tracked text files by path, and where they are.
struct Tree {
    root: PathBuf,
    files: BTreeMap<String, String>,
}

impl Tree {
    fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .unwrap()
            .to_owned();
        let listed = run(Command::new("git").args(["ls-files", "-z"]), &root);
        assert!(
            listed.status.success(),
            "git cannot list the files: {}",
            text(&listed.stderr)
        );
        let paths = text(&listed.stdout);
        let files = paths.split('\0').filter_map(|path| {
            // Deleted files are listed until the deletion is staged; binary ones have no habits.
            Some((path.to_owned(), fs::read_to_string(root.join(path)).ok()?))
        });
        Self {
            files: files.collect(),
            root,
        }
    }

    fn with_extension<'a>(
        &'a self,
        extension: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        let all = self
            .files
            .iter()
            .map(|(path, text)| (path.as_str(), text.as_str()));
        all.filter(move |(path, _)| has_extension(path, extension))
    }
}

/// Faults, each as `path:line: fault: remedy`.
#[derive(Default)]
struct Findings(Vec<String>);

impl Findings {
    fn add(&mut self, path: &str, line: usize, message: &str) {
        self.0.push(format!("{path}:{line}: {message}"));
    }
}

fn run(command: &mut Command, directory: &Path) -> Output {
    let command = command.current_dir(directory).stdin(Stdio::null());
    command
        .output()
        .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"))
}

fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The first line of `text` that holds `part`, from 1.
fn line_of(text: &str, part: &str) -> usize {
    text.lines()
        .position(|line| line.contains(part))
        .map_or(1, |index| index + 1)
}

fn has_extension(path: &str, extension: &str) -> bool {
    Path::new(path)
        .extension()
        .is_some_and(|found| found == extension)
}

fn license(tree: &Tree, findings: &mut Findings) {
    let text = tree.files.get("LICENSE").map_or("", String::as_str);
    if !text.contains("Apache License") || !text.contains("END OF TERMS AND CONDITIONS") {
        findings.add(
            "LICENSE",
            1,
            "is not the Apache License 2.0, which Cargo.toml promises: put its full text here",
        );
    }
}

fn format(tree: &Tree, findings: &mut Findings) {
    if !run(cargo().args(["fmt", "--version"]), &tree.root)
        .status
        .success()
    {
        eprintln!(
            "tidy: formatting is not checked, for rustfmt is missing: `rustup component add rustfmt`"
        );
        return;
    }
    let checked = run(
        cargo().args(["fmt", "--all", "--", "--check", "-l"]),
        &tree.root,
    );
    let listed = text(&checked.stdout);
    let mut unformatted: Vec<&str> = listed.lines().filter(|line| !line.is_empty()).collect();
    unformatted.dedup();
    for line in &unformatted {
        let path = Path::new(line)
            .strip_prefix(&tree.root)
            .unwrap_or(Path::new(line));
        findings.add(
            path.to_str().unwrap(),
            1,
            "is not formatted: run `cargo fmt --all`",
        );
    }
    if unformatted.is_empty() && !checked.status.success() {
        findings.add(
            "rustfmt.toml",
            1,
            &format!("rustfmt fails: {}", text(&checked.stderr)),
        );
    }
}
