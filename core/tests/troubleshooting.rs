//! `docs/troubleshooting.md` has an entry for every reason, so that a word seen in a condition, an
//! event or a step can be searched for there.

use std::collections::BTreeSet;

use pd_core::Reason;

const PAGE: &str = include_str!("../../docs/troubleshooting.md");

/// The words that have an entry: headings, and those in backticks in the first cell of a row.
fn entries() -> BTreeSet<&'static str> {
    let headings = PAGE.lines().filter(|line| line.starts_with('#'));
    let headings = headings.map(|line| line.trim_start_matches('#').trim());
    let rows = PAGE.lines().filter_map(|line| line.strip_prefix('|'));
    let first_cells = rows.filter_map(|row| row.split('|').next());
    let quoted = first_cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    headings.chain(quoted).collect()
}

#[test]
fn every_reason_has_an_entry() {
    let entries = entries();
    let names = Reason::ALL.iter().map(|reason| reason.as_str());
    let missing: Vec<&str> = names.filter(|name| !entries.contains(name)).collect();
    assert!(
        missing.is_empty(),
        "docs/troubleshooting.md has no entry for {missing:?}: state cause, command and the meaning of its output"
    );
}
