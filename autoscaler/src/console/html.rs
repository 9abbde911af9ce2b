//! Markup that nobody else's text can become part of.
//!
//! A piece is built of two things alone: markup that stands in this program, and values, which are
//! always escaped. There is no way to add a text that is not.

use std::fmt::{self, Display, Write as _};

/// A piece of a page.
#[derive(Clone, Debug, Default)]
pub(super) struct Html(String);

impl Html {
    /// Adds `markup`, each `{}` in it replaced by a value in its order.
    pub(super) fn add(&mut self, markup: &'static str, values: &[&dyn Display]) {
        let mut values = values.iter();
        let mut parts = markup.split("{}");
        self.0.push_str(parts.next().unwrap_or_default());
        for part in parts {
            if let Some(value) = values.next() {
                // Writing to a string cannot fail.
                let _ = write!(Escaping(&mut self.0), "{value}");
            }
            self.0.push_str(part);
        }
        debug_assert!(values.next().is_none(), "too many values for `{markup}`");
    }

    /// Adds another piece.
    pub(super) fn append(&mut self, other: &Self) {
        self.0.push_str(&other.0);
    }

    /// The text.
    pub(super) fn into_string(self) -> String {
        self.0
    }
}

/// Escapes everything that is written: for text and for attributes in double quotes.
struct Escaping<'a>(&'a mut String);

impl fmt::Write for Escaping<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for letter in text.chars() {
            match letter {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                // Not allowed in HTML, and with bidirectional overrides a way to show a text in
                // another order than it has.
                '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => self.0.push('\u{fffd}'),
                letter if letter.is_control() && !letter.is_whitespace() => {
                    self.0.push('\u{fffd}');
                }
                letter => self.0.push(letter),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn with(value: &str) -> String {
        let mut html = Html::default();
        html.add("<p title=\"{}\">{}</p>", &[&value, &value]);
        html.into_string()
    }

    #[test]
    fn values_cannot_become_markup() {
        assert_eq!(
            with("<b a='1'>\"&"),
            "<p title=\"&lt;b a=&#39;1&#39;&gt;&quot;&amp;\">&lt;b a=&#39;1&#39;&gt;&quot;&amp;</p>"
        );
    }

    #[test]
    fn the_order_of_letters_cannot_be_changed() {
        assert_eq!(with("a\u{202e}b\0"), with("a\u{fffd}b\u{fffd}"));
    }

    #[test]
    fn braces_in_a_value_are_no_place_for_the_next() {
        let mut html = Html::default();
        html.add("{} {}", &[&"{}", &"x"]);
        assert_eq!(html.into_string(), "{} x");
    }

    proptest! {
        #[test]
        fn nothing_that_ends_a_text_or_an_attribute_is_left(value in "\\PC*") {
            let html = with(&value);
            prop_assert_eq!(html.matches('<').count(), 2);
            prop_assert_eq!(html.matches('>').count(), 2);
            prop_assert_eq!(html.matches('"').count(), 2);
        }
    }
}
