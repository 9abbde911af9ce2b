//! Tables as kubectl prints them: a header in capitals, columns as wide as their widest cell, three
//! blanks between them, nothing behind the last.
//!
//! A cell is one line: line breaks in a message would break the row. Pure.

use std::fmt::Display;

/// Blanks between two columns, as in kubectl.
const GAP: usize = 3;

/// Stands for what is not known.
pub const NONE: &str = "-";

/// The rows below `header`, one line each.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let header: Vec<String> = header.iter().map(|name| name.to_uppercase()).collect();
    let lines: Vec<Vec<String>> = std::iter::once(&header)
        .chain(rows)
        .map(|row| row.iter().map(|cell| one_line(cell)).collect())
        .collect();
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let mut printed = String::new();
        for (cell, width) in line.iter().zip(&widths) {
            printed.push_str(cell);
            let blanks = width + GAP - cell.chars().count();
            printed.extend(std::iter::repeat_n(' ', blanks));
        }
        text.push_str(printed.trim_end());
        text.push('\n');
    }
    text
}

/// The text on one line, or the sign for nothing.
fn one_line(cell: &str) -> String {
    let words: Vec<&str> = cell.split_whitespace().collect();
    if words.is_empty() {
        NONE.to_owned()
    } else {
        words.join(" ")
    }
}

/// The value, or the sign for nothing.
pub fn or_none(value: Option<impl Display>) -> String {
    value.map_or_else(|| NONE.to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [
            vec!["llama-70b".to_owned(), "Auto".to_owned(), "3".to_owned()],
            vec!["q".to_owned(), "Recommend".to_owned(), String::new()],
        ];
        let want = "NAME        MODE        PREFILL\n\
                    llama-70b   Auto        3\n\
                    q           Recommend   -\n";
        assert_eq!(table(&["Name", "Mode", "Prefill"], &rows), want);
    }

    proptest! {
        #[test]
        fn every_cell_of_a_column_begins_below_its_header(
            rows in prop::collection::vec(prop::collection::vec("[a-zß\n ]{0,12}", 3), 0..6),
        ) {
            let text = table(&["one", "two", "three"], &rows);
            let lines: Vec<Vec<char>> = text.lines().map(|line| line.chars().collect()).collect();
            prop_assert_eq!(lines.len(), rows.len() + 1);
            let header: String = lines[0].iter().collect();
            for name in ["TWO", "THREE"] {
                let at = header.find(name).unwrap();
                for line in &lines {
                    prop_assert!(line[at] != ' ' && line[at - 1] == ' ' && line[at - 2] == ' ');
                }
            }
        }
    }
}
