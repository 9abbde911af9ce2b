//! The query of an address: which objects are shown, and whether the page renews itself.
//!
//! Nothing is refused: what is not understood is as if it were not there.

use std::fmt::Write as _;

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// Most letters of a search: longer than a namespace and a name together.
const SEARCH_MAX: usize = 320;

/// Which objects a list shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Show {
    /// All of them.
    #[default]
    All,
    /// Those that do not decide.
    NotReady,
    /// Those whose objective does not hold.
    Missed,
    /// Those that are kept from what the objective needs.
    Limited,
}

impl Show {
    pub(super) const ALL: [Self; 4] = [Self::All, Self::NotReady, Self::Missed, Self::Limited];

    /// The word in an address.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::NotReady => "not-ready",
            Self::Missed => "objective-missed",
            Self::Limited => "limited",
        }
    }

    /// The words on a page.
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::All => "All",
            Self::NotReady => "Not ready",
            Self::Missed => "Objective missed",
            Self::Limited => "Limited",
        }
    }
}

/// A query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Query {
    /// Part of `namespace/name`, in small letters; all when empty.
    pub(super) search: String,
    pub(super) show: Show,
    /// From 1.
    pub(super) page: usize,
    /// Whether the page renews itself.
    pub(super) refresh: bool,
}

impl Default for Query {
    fn default() -> Self {
        Self {
            search: String::new(),
            show: Show::All,
            page: 1,
            refresh: true,
        }
    }
}

impl Query {
    /// Reads the text behind the `?`.
    pub(super) fn of(text: Option<&str>) -> Self {
        let mut query = Self::default();
        for pair in text.unwrap_or_default().split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = value.replace('+', " ");
            let value = percent_decode_str(&value).decode_utf8_lossy();
            match name {
                "q" => {
                    let search = value.trim().to_lowercase();
                    query.search = search.chars().take(SEARCH_MAX).collect();
                }
                "show" => {
                    let mut all = Show::ALL.into_iter();
                    query.show = all.find(|show| show.word() == value).unwrap_or_default();
                }
                "page" => query.page = value.parse().unwrap_or(1).max(1),
                "refresh" => query.refresh = value != "off",
                _ => {}
            }
        }
        query
    }

    /// The query as part of an address, with its `?`; empty when it is the default.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        let mut add = |name: &str, value: &str| {
            let mark = if text.is_empty() { '?' } else { '&' };
            let value = utf8_percent_encode(value, NON_ALPHANUMERIC);
            // Writing to a string cannot fail.
            let _ = write!(text, "{mark}{name}={value}");
        };
        if !self.search.is_empty() {
            add("q", &self.search);
        }
        if self.show != Show::All {
            add("show", self.show.word());
        }
        if self.page > 1 {
            add("page", &self.page.to_string());
        }
        if !self.refresh {
            add("refresh", "off");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_query_that_makes_no_sense_is_the_default() {
        for text in [
            "",
            "&&==",
            "page=-1&show=%ff&refresh=maybe",
            "page=0",
            "x=1",
        ] {
            assert_eq!(Query::of(Some(text)), Query::default(), "{text}");
        }
        assert_eq!(Query::of(None), Query::default());
    }

    #[test]
    fn a_form_writes_blanks_as_plus() {
        assert_eq!(Query::of(Some("q=+A%2Fb+c")).search, "a/b c");
    }

    #[test]
    fn a_search_is_bounded() {
        let long = format!("q={}", "ä".repeat(5_000));
        assert_eq!(Query::of(Some(&long)).search.chars().count(), SEARCH_MAX);
    }

    proptest! {
        #[test]
        fn a_query_comes_back_from_its_text(
            search in "[a-z0-9/&=+%?#\"<>ä -]{0,20}", show in 0_usize..4, page in 1_usize..500, refresh in any::<bool>(),
        ) {
            let query = Query {
                search: search.trim().to_owned(), show: Show::ALL[show], page, refresh,
            };
            let text = query.text();
            prop_assert_eq!(Query::of(Some(text.trim_start_matches('?'))), query);
        }
    }
}
