//! Texts as Go writes them: quoted for people, and quoted as JSON. The API server's messages are
//! made of both.
//!
//! Owns two functions and no rule about taints. They are exact for ASCII and for the letters and
//! signs that Rust and Go both call printable; the two disagree only about code points that one of
//! them learnt of in a newer Unicode.
//!
//! Sources: Go's `strconv.Quote` and `encoding/json` with HTML escaping, its default.

use std::fmt::Write as _;

/// `text` in double quotes, as the verb `%q` writes it.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            ' '..='~' => out.push(c),
            '\0'..='\u{7f}' => escape(&mut out, format_args!("\\x{:02x}", u32::from(c))),
            _ if is_printable(c) => out.push(c),
            '\u{80}'..='\u{ffff}' => escape(&mut out, format_args!("\\u{:04x}", u32::from(c))),
            _ => escape(&mut out, format_args!("\\U{:08x}", u32::from(c))),
        }
    }
    out.push('"');
    out
}

/// `text` as a JSON string, with `<`, `>`, `&` and the two line separators escaped.
pub fn json(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                escape(&mut out, format_args!("\\u{:04x}", u32::from(c)));
            }
            _ => out.push(c),
        }
    }
    out.push('"');
    out
}

fn escape(out: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = out.write_fmt(arguments);
}

/// Combining marks are printable in Go, while Rust escapes them by themselves: `is_alphanumeric`
/// knows the most common.
fn is_printable(c: char) -> bool {
    let mut escaped = c.escape_debug();
    let first = escaped.next();
    c.is_alphanumeric() || (first == Some(c) && escaped.next().is_none())
}
