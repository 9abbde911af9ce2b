//! Holds source files to their habits: an essay at the head, a length, a module that names them.

use std::path::Path;

use super::{Findings, Tree};

/// Longest file, its tests not counted, and with them.
const LINES_MAX: usize = 500;
const LINES_WITH_TESTS_MAX: usize = 800;

pub(super) fn source(path: &str, text: &str, findings: &mut Findings) {
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
    let sleeps = path.starts_with("tests/tests/").then_some((
        concat!("sleep", "(Duration"),
        "await what must come with `eventually`, watch what must not with `throughout`",
    ));
    for (number, line) in text.lines().enumerate() {
        for (pattern, remedy) in forbidden.into_iter().chain(sleeps) {
            if line.contains(pattern) {
                findings.add(path, number + 1, &format!("`{pattern}`: {remedy}"));
            }
        }
    }
}

/// Whether all of the file is tests.
pub(super) fn is_test(path: &str) -> bool {
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
pub(super) fn reached(tree: &Tree, path: &str, findings: &mut Findings) {
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

fn name_of(path: &Path) -> &str {
    path.file_stem()
        .and_then(|name| name.to_str())
        .unwrap_or_default()
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
