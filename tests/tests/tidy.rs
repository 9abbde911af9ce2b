//! The repository's habits, as a test: what the compiler and clippy cannot see.
//!
//! Which crate may depend on which, how long a file may be, that every file says what it is for, that links lead
//! somewhere, that nothing names the machine it was written on. All findings are shown at once, each with its place
//! and its remedy, so that one run is enough to mend them all. Only tracked files count.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed step of a test ends it"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;

/// Which workspace crates each crate may depend on, for its code and its tests alike.
const MAY_DEPEND_ON: [(&str, &[&str]); 9] = [
    ("pd-core", &[]),
    ("pd-tolerations", &[]),
    ("pd-api", &["pd-core", "pd-tolerations"]),
    ("pd-runtime", &[]),
    ("pd-autoscaler", &["pd-core", "pd-api", "pd-runtime"]),
    ("pd-scheduler-plugin", &["pd-tolerations", "pd-runtime"]),
    ("pd-sim", &["pd-core", "pd-api", "pd-autoscaler"]),
    (
        "pd-webhook",
        &["pd-core", "pd-tolerations", "pd-api", "pd-runtime"],
    ),
    (
        "pd-tests",
        &[
            "pd-core",
            "pd-tolerations",
            "pd-api",
            "pd-runtime",
            "pd-autoscaler",
            "pd-scheduler-plugin",
            "pd-sim",
            "pd-webhook",
        ],
    ),
];

/// All that a pure crate may use: nothing that reads a clock, a file, the network or the environment. `csv` and
/// `serde-saphyr` parse texts that the caller read, such as performance tables.
const PURE_CRATES_MAY_USE: [(&str, &[&str]); 2] = [
    (
        "pd-core",
        &[
            "chrono",
            "chrono-tz",
            "csv",
            "serde",
            "serde-saphyr",
            "statrs",
            "thiserror",
        ],
    ),
    ("pd-tolerations", &["jiff", "serde", "thiserror"]),
];

/// Longest file, its tests not counted, and with them.
const LINES_MAX: usize = 500;
const LINES_WITH_TESTS_MAX: usize = 800;

/// README's first two commands.
const COMMANDS: [&str; 2] = [
    "cargo run --release -p pd-sim -- demo",
    "cargo test --workspace",
];

/// Folders that are somebody's own, and hosts that not everybody reaches, in parts, for this file is read too.
const MACHINE_FOLDERS: [&str; 4] = ["work", "root", "home", "Users"];
const REGISTRY_HOSTS: [(&str, &str); 10] = [
    ("ghcr", "io"),
    ("docker", "io"),
    ("quay", "io"),
    ("gcr", "io"),
    ("nvcr", "io"),
    ("registry.k8s", "io"),
    ("public.ecr", "aws"),
    ("mcr.microsoft", "com"),
    ("index.crates", "io"),
    ("proxy.golang", "org"),
];

#[test]
fn the_repository_keeps_its_habits() {
    let tree = Tree::read();
    let mut findings = Findings::default();
    dependencies(&tree, &mut findings);
    for (path, text) in tree.with_extension("rs") {
        source(path, text, &mut findings);
        reached(&tree, path, &mut findings);
        references(&tree, path, text, &mut findings);
    }
    for (path, text) in &tree.files {
        machine(path, text, &mut findings);
    }
    for (path, text) in tree.with_extension("md") {
        links(&tree, path, text, &mut findings);
    }
    code_map(&tree, &mut findings);
    commands(&tree, &mut findings);
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

/// What is wrong: `path:line: fault: remedy`.
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

fn dependencies(tree: &Tree, findings: &mut Findings) {
    let arguments = ["metadata", "--format-version=1", "--no-deps", "--offline"];
    let answer = run(cargo().args(arguments), &tree.root);
    assert!(
        answer.status.success(),
        "cargo metadata failed: {}",
        text(&answer.stderr)
    );
    let metadata: Value = serde_json::from_slice(&answer.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let members: BTreeSet<&str> = packages
        .iter()
        .filter_map(|package| package["name"].as_str())
        .collect();
    for package in packages {
        let name = package["name"].as_str().unwrap();
        let manifest = Path::new(package["manifest_path"].as_str().unwrap());
        let path = manifest.strip_prefix(&tree.root).unwrap().to_str().unwrap();
        let manifest = fs::read_to_string(manifest).unwrap();
        if !manifest.contains("[lints]\nworkspace = true\n") {
            findings.add(
                path,
                1,
                "the workspace's lints do not hold here: add `[lints]` with `workspace = true`",
            );
        }
        let Some((_, allowed)) = MAY_DEPEND_ON.iter().find(|(member, _)| *member == name) else {
            findings.add(path, 1, "no rule says what this crate may depend on: add one to MAY_DEPEND_ON in tests/tests/tidy.rs");
            continue;
        };
        for dependency in package["dependencies"].as_array().unwrap() {
            let other = dependency["name"].as_str().unwrap();
            let line = line_of(&manifest, &format!("{other}."));
            if members.contains(other) && !allowed.contains(&other) {
                let message = format!(
                    "{name} must not depend on {other}: move what is shared to a crate below both"
                );
                findings.add(path, line, &message);
            }
            let outside_tests = dependency["kind"].is_null();
            let pure = PURE_CRATES_MAY_USE.iter().find(|(pure, _)| *pure == name);
            if outside_tests && pure.is_some_and(|(_, uses)| !uses.contains(&other)) {
                let message = format!(
                    "{name} must not use {other}: take what it gives as an argument, or add it to PURE_CRATES_MAY_USE with the reason"
                );
                findings.add(path, line, &message);
            }
        }
    }
}

fn source(path: &str, text: &str, findings: &mut Findings) {
    if !text.starts_with("//!") {
        findings.add(path, 1, "does not say what it is for: open with `//!`, what it owns, what it refuses, the one idea");
    }
    if path.ends_with("/mod.rs") {
        findings.add(
            path,
            1,
            "is a mod.rs: name it after its folder, beside the folder",
        );
    }
    let (all, tests) = (text.lines().count(), inline_test_lines(text));
    if all > LINES_WITH_TESTS_MAX {
        findings.add(path, all, &format!("has {all} lines, and may have {LINES_WITH_TESTS_MAX}: split it by what its parts own"));
    }
    if !is_test(path) && all - tests > LINES_MAX {
        findings.add(path, all, &format!("has {} lines without its tests, and may have {LINES_MAX}: split it by what its parts own", all - tests));
    }
    let forbidden = [
        (
            concat!("[", "allow("),
            "use #[expect(lint, reason = \"...\")], which says when it is no longer needed",
        ),
        (
            concat!("to", "do!("),
            "write it, or return an error that says what is missing",
        ),
        (
            concat!("unimple", "mented!("),
            "write it, or return an error that says what is missing",
        ),
        (concat!("TO", "DO"), "do it, or open an issue"),
        (concat!("FIX", "ME"), "fix it, or open an issue"),
    ];
    for (number, line) in text.lines().enumerate() {
        for (pattern, remedy) in forbidden {
            if line.contains(pattern) {
                findings.add(path, number + 1, &format!("`{pattern}`: {remedy}"));
            }
        }
    }
}

/// Whether all of the file is tests.
fn is_test(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.split('/').skip(1).any(|folder| folder == "tests")
}

/// Lines of the modules that are tests and in the same file as what they test.
fn inline_test_lines(text: &str) -> usize {
    let (mut inside, mut count) = (false, 0);
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let opens = line == "#[cfg(test)]"
            && lines
                .peek()
                .is_some_and(|next| next.starts_with("mod ") && next.ends_with('{'));
        inside = inside || opens;
        count += usize::from(inside);
        inside = inside && line != "}";
    }
    count
}

/// Reports a file that no other names as its module: nobody compiles it.
fn reached(tree: &Tree, path: &str, findings: &mut Findings) {
    let file = Path::new(path);
    let folder = file.parent().unwrap();
    let (stem, folder_name) = (name_of(file), name_of(folder));
    let is_root = ["lib", "main", "build"].contains(&stem)
        || ["bin", "tests", "benches", "examples", "fuzz_targets"].contains(&folder_name) && {
            let crate_folder = folder.parent().unwrap();
            folder_name == "bin"
                || tree
                    .files
                    .contains_key(crate_folder.join("Cargo.toml").to_str().unwrap())
        };
    let parents = [
        folder.with_extension("rs"),
        folder.join("lib.rs"),
        folder.join("main.rs"),
    ];
    let named = parents.iter().any(|parent| {
        let text = tree
            .files
            .get(parent.to_str().unwrap())
            .map_or("", String::as_str);
        text.lines()
            .any(|line| line.trim_end().ends_with(&format!("mod {stem};")))
    });
    if !is_root && !named {
        findings.add(
            path,
            1,
            "no file has it as its module: name it there, or delete it",
        );
    }
}

fn has_extension(path: &str, extension: &str) -> bool {
    Path::new(path)
        .extension()
        .is_some_and(|found| found == extension)
}

fn name_of(path: &Path) -> &str {
    path.file_stem()
        .and_then(|name| name.to_str())
        .unwrap_or_default()
}

/// Reports what would not work, or mean nothing, on another machine.
fn machine(path: &str, text: &str, findings: &mut Findings) {
    // Written by tools, and full of names that look like hosts.
    if path == "Cargo.lock" || path.ends_with("go.sum") || path.ends_with("go.mod") {
        return;
    }
    for (number, line) in text.lines().enumerate() {
        if let Some(folder) = MACHINE_FOLDERS
            .into_iter()
            .find(|folder| names_folder(line, folder))
        {
            let message = format!(
                "names the folder /{folder} of one machine: make it relative, or ask the environment"
            );
            findings.add(path, number + 1, &message);
        }
        for (name, domain) in REGISTRY_HOSTS {
            if line.contains(&format!("{name}.{domain}")) {
                let message = format!(
                    "names the registry {name}.{domain}: leave it to the user's configuration"
                );
                findings.add(path, number + 1, &message);
            }
        }
    }
}

/// Whether an absolute path in `line` begins with `/folder`.
fn names_folder(line: &str, folder: &str) -> bool {
    let path = format!("/{folder}");
    line.match_indices(&path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + path.len()..].chars().next();
        let begins = before.is_none_or(|c| !c.is_alphanumeric() && !"_.}~)-/$*".contains(c));
        begins && after.is_none_or(|c| !c.is_alphanumeric() && !"_.-".contains(c))
    })
}

/// Reports links to files and headings that are not there. Addresses on the web are not followed.
fn links(tree: &Tree, path: &str, text: &str, findings: &mut Findings) {
    for (line, target) in markdown_links(text) {
        if target.contains("://") || target.starts_with("mailto:") {
            continue;
        }
        let (file, heading) = target
            .split_once('#')
            .map_or((target, None), |(file, heading)| (file, Some(heading)));
        let linked = if file.is_empty() {
            path.to_owned()
        } else {
            let folder = Path::new(path).parent().unwrap();
            normal(&folder.join(file))
        };
        if !tree.root.join(&linked).exists() {
            findings.add(
                path,
                line,
                &format!("links to `{target}`, which is not there: correct or remove it"),
            );
        } else if let Some(heading) = heading {
            let headings = tree
                .files
                .get(&linked)
                .map(|text| headings(text))
                .unwrap_or_default();
            if !headings.contains(heading) {
                findings.add(
                    path,
                    line,
                    &format!("links to the heading `{target}`, which is not there: correct it"),
                );
            }
        }
    }
}

/// The path without `.` and `..`.
fn normal(path: &Path) -> String {
    let mut parts = Vec::new();
    for part in path.to_str().unwrap().split('/') {
        match part {
            "." | "" => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The lines that are not in a fenced block, numbered from 1.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        (!fenced && !fence).then_some((index + 1, line))
    })
}

/// The targets of links and images, with their lines.
fn markdown_links(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (number, line) in prose(text) {
        for (at, _) in line.match_indices("](") {
            let rest = &line[at + 2..];
            let in_code = line[..at].matches('`').count() % 2 == 1;
            if let Some(end) = rest.find(')').filter(|_| !in_code) {
                let target = rest[..end].split_whitespace().next().unwrap_or_default();
                found.push((number, target));
            }
        }
    }
    found
}

/// The anchors of a document's headings, as GitHub makes them.
fn headings(text: &str) -> BTreeSet<String> {
    let titles = prose(text)
        .filter(|(_, line)| line.starts_with('#'))
        .map(|(_, line)| line.trim_start_matches('#').trim());
    let anchor = |title: &str| -> String {
        let kept = title
            .chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.flat_map(char::to_lowercase)
            .map(|c| if c == ' ' { '-' } else { c })
            .collect()
    };
    titles.map(anchor).collect()
}

/// The contents of the fenced blocks that are marked `sh` and nothing else.
fn shell_blocks(text: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line == "```sh" {
            let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            blocks.push(block.join("\n"));
        }
    }
    blocks
}

/// Holds the code map to the tree: what it names is there, and each file at the top of a crate is named.
fn code_map(tree: &Tree, findings: &mut Findings) {
    let path = "docs/ARCHITECTURE.md";
    let map = tree.files.get(path).map_or("", String::as_str);
    let mut named = BTreeSet::new();
    for (line, text) in prose(map) {
        let quoted = text.split('`').skip(1).step_by(2);
        for file in quoted.filter(|quoted| has_extension(quoted, "rs")) {
            named.insert(file);
            if !tree.files.contains_key(file) && file.contains('/') {
                let message = format!("names `{file}`, which is not there: correct or remove it");
                findings.add(path, line, &message);
            }
        }
    }
    for (file, _) in tree.with_extension("rs") {
        let at_top = file.split('/').nth(1) == Some("src") && file.matches('/').count() == 2;
        if at_top && !named.contains(file) {
            let message = format!("does not name `{file}`: say in a line what it owns");
            findings.add(path, line_of(map, "## Code map"), &message);
        }
    }
}

/// Reports documents that a comment refers to and the repository does not have.
fn references(tree: &Tree, path: &str, text: &str, findings: &mut Findings) {
    let folders = ["", path.split('/').next().unwrap_or_default()];
    for (number, line) in text.lines().enumerate() {
        let Some((_, comment)) = line.split_once("//") else {
            continue;
        };
        let words = comment.split(|c: char| !c.is_alphanumeric() && !"./_-".contains(c));
        for word in words.filter(|word| has_extension(word, "md")) {
            let there = folders
                .iter()
                .any(|folder| tree.root.join(folder).join(word).exists());
            let elsewhere = comment.contains("://") || comment.contains("kubernetes/");
            if !there && !elsewhere {
                let message = format!(
                    "refers to `{word}`, which readers do not have: cite the public source"
                );
                findings.add(path, number + 1, &message);
            }
        }
        let design = concat!("DES", "IGN");
        if comment.contains(design) {
            let message =
                format!("refers to {design}, which readers do not have: say it here, or in docs/");
            findings.add(path, number + 1, &message);
        }
    }
}

fn commands(tree: &Tree, findings: &mut Findings) {
    let readme = tree.files.get("README.md").map_or("", String::as_str);
    let blocks = shell_blocks(readme);
    for (index, want) in COMMANDS.into_iter().enumerate() {
        let got = blocks.get(index).map_or("", String::as_str);
        if got != want {
            let message = format!(
                "sh block {} is `{got}`: write `{want}` there, and nothing else",
                index + 1
            );
            findings.add("README.md", line_of(readme, got), &message);
        }
    }
    let shown = run(Command::new("bash").args([".ci/run", "--show"]), &tree.root);
    if text(&shown.stdout).trim_end() != COMMANDS[1] {
        let message = format!(
            "does not run README's test command `{}`: {}",
            COMMANDS[1],
            text(&shown.stderr)
        );
        findings.add(".ci/run", 1, &message);
    }
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

#[test]
fn inline_tests_are_not_counted_as_code() {
    let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {\n    }\n}\nfn c() {}\n";
    assert_eq!(inline_test_lines(text), 5);
    assert_eq!(
        inline_test_lines("#[cfg(test)]\nmod tests;\nfn a() {}\n"),
        0
    );
    assert!(is_test("core/src/guard/tests.rs") && is_test("tests/tests/tidy.rs"));
    assert!(!is_test("tests/src/chart.rs"));
}

#[test]
fn folders_of_a_machine_are_told_from_other_paths() {
    let root = MACHINE_FOLDERS[1];
    for line in [
        format!("cd /{root}/x"),
        format!("\"/{root}\""),
        format!("a=/{root}/.cargo"),
    ] {
        assert!(names_folder(&line, root), "{line}");
    }
    for line in [
        format!("https://example.com/{root}/x"),
        format!("/{root}fs"),
        format!("./{root}/x"),
    ] {
        assert!(!names_folder(&line, root), "{line}");
    }
}

#[test]
fn links_and_headings_are_found_outside_of_code() {
    let text =
        "# A `b` c!\n[x](y.md#z) and `[no](no)`\n```sh\n[no](no)\n```\n![i](i.png \"title\")\n";
    assert_eq!(markdown_links(text), [(2, "y.md#z"), (6, "i.png")]);
    assert_eq!(headings(text), BTreeSet::from(["a-b-c".to_owned()]));
    assert_eq!(shell_blocks(text), ["[no](no)"]);
    assert_eq!(normal(Path::new("docs/./../a//b")), "a/b");
}
