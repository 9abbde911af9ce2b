//! Holds comments and documents to plain English: the field's words, and lines that fit a screen.

use super::Findings;

/// Longest line of a comment, columns: as long as code may be.
const COMMENT_COLUMNS_MAX: usize = 100;

/// Words that this project once had for itself, in parts, for this file is read too, and the
/// field's.
const WORDS: [(&str, &str); 10] = [
    (concat!("gu", "st"), "burst"),
    (concat!("an", "ew"), "again"),
    (concat!("yard", "stick"), "baseline"),
    (concat!("fore", "see"), "forecast"),
    (concat!("fore", "seen"), "forecast"),
    (concat!("out", "look"), "forecast distribution"),
    (concat!("me", "nd"), "fix"),
    (concat!("men", "ded"), "fixed"),
    (concat!("poly", "fill"), "add-ons"),
    (concat!("appoint", "ment"), "pod eviction"),
];

/// Reports words that only this project would understand. Recorded results keep the words they
/// have.
pub(super) fn words(path: &str, text: &str, findings: &mut Findings) {
    let is_prose = ["rs", "md", "yaml", "tpl", "txt"]
        .iter()
        .any(|extension| super::has_extension(path, extension));
    if !is_prose {
        return;
    }
    for (number, line) in text.lines().enumerate() {
        let lower = line.to_lowercase();
        for word in lower.split(|c: char| !c.is_alphanumeric()) {
            let singular = word.strip_suffix('s').unwrap_or(word);
            if let Some((_, plain)) = WORDS.iter().find(|(old, _)| *old == singular) {
                findings.add(path, number + 1, &format!("says `{word}`: write `{plain}`"));
            }
        }
    }
}

/// Reports comments that are too wide, and sentences that hide their subject behind a question
/// word.
pub(super) fn comments(path: &str, text: &str, findings: &mut Findings) {
    for (number, line) in text.lines().enumerate() {
        let trimmed = line.trim_start();
        if !trimmed.starts_with("//") {
            continue;
        }
        if line.chars().count() > COMMENT_COLUMNS_MAX && trimmed.contains(' ') {
            let message = format!("is wider than {COMMENT_COLUMNS_MAX} columns: wrap it");
            findings.add(path, number + 1, &message);
        }
        let begins = ["/// ", "//! ", "// "]
            .iter()
            .find_map(|marker| trimmed.strip_prefix(marker));
        let hides = begins.is_some_and(|sentence| sentence.starts_with(concat!("Wh", "at ")));
        if hides && opens_a_paragraph(text, number) {
            findings.add(
                path,
                number + 1,
                "begins with a question word: begin with the subject",
            );
        }
    }
}

/// Whether the comment line `number` (from 0) is the first of its paragraph.
fn opens_a_paragraph(text: &str, number: usize) -> bool {
    let before = number
        .checked_sub(1)
        .and_then(|number| text.lines().nth(number));
    before.is_none_or(|before| {
        let before = before.trim_start();
        !before.starts_with("//") || before.trim_start_matches(['/', '!']).trim().is_empty()
    })
}

#[test]
fn old_words_wide_comments_and_hidden_subjects_are_found() {
    let mut findings = Findings::default();
    words(
        "a.md",
        concat!("Two yard", "sticks, and magnets."),
        &mut findings,
    );
    let comment = format!(
        "/// Wide {}\n/// {} it is.\n",
        "x".repeat(100),
        concat!("Wh", "at")
    );
    comments("a.rs", &comment, &mut findings);
    comments("b.rs", concat!("// Wh", "at is.\n"), &mut findings);
    assert_eq!(findings.0.len(), 3, "{:?}", findings.0);
    assert!(findings.0[2].starts_with("b.rs:1:"), "{:?}", findings.0);
}
