//! Holds documents to the tree: links lead somewhere, the code map and README's commands are true.

use std::{collections::BTreeSet, path::Path, process::Command};

use super::{Findings, Tree, has_extension, line_of, run, text};

/// README's first two commands.
const COMMANDS: [&str; 2] = [
    "cargo run --release -p pd-sim -- demo",
    "cargo test --workspace",
];

/// Reports links to files and headings that are not there. Addresses on the web are not followed.
pub(super) fn links(tree: &Tree, path: &str, text: &str, findings: &mut Findings) {
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

/// Holds the code map to the tree: what it names is there, and each file at the top of a crate is
/// named.
pub(super) fn code_map(tree: &Tree, findings: &mut Findings) {
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

/// Holds ARCHITECTURE's list of decisions to `docs/adr`: each record is linked.
pub(super) fn decisions(tree: &Tree, findings: &mut Findings) {
    let path = "docs/ARCHITECTURE.md";
    let map = tree.files.get(path).map_or("", String::as_str);
    let linked: BTreeSet<&str> = markdown_links(map).into_iter().map(|(_, to)| to).collect();
    for (record, _) in tree.with_extension("md") {
        let Some(name) = record.strip_prefix("docs/adr/") else {
            continue;
        };
        if !linked.contains(format!("adr/{name}").as_str()) {
            let message = format!("does not link `adr/{name}`: say in a line what it decides");
            findings.add(path, line_of(map, "Decisions"), &message);
        }
    }
}

/// Reports documents that a comment refers to and the repository does not have.
pub(super) fn references(tree: &Tree, path: &str, text: &str, findings: &mut Findings) {
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

pub(super) fn commands(tree: &Tree, findings: &mut Findings) {
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

#[test]
fn links_and_headings_are_found_outside_of_code() {
    let text =
        "# A `b` c!\n[x](y.md#z) and `[no](no)`\n```sh\n[no](no)\n```\n![i](i.png \"title\")\n";
    assert_eq!(markdown_links(text), [(2, "y.md#z"), (6, "i.png")]);
    assert_eq!(headings(text), BTreeSet::from(["a-b-c".to_owned()]));
    assert_eq!(shell_blocks(text), ["[no](no)"]);
    assert_eq!(normal(Path::new("docs/./../a//b")), "a/b");
}
