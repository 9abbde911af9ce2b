//! Reasons as status holds them, and the sentences that belong to them.
//!
//! A reason in an object may be of a newer controller than this program: it is then shown as it is
//! and explained by its own message alone.

use pd_core::Reason;

/// The reason of that name, if this version knows it.
pub fn known(name: &str) -> Option<Reason> {
    let mut all = Reason::ALL.iter();
    all.find(|reason| reason.as_str() == name).copied()
}

/// `text` as a sentence: with a capital in front and a full stop behind.
pub fn sentence(text: &str) -> String {
    let text = text.trim();
    let end = if text.ends_with(['.', '!', '?', '…']) || text.is_empty() {
        ""
    } else {
        "."
    };
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string());
    format!("{}{}{end}", first.unwrap_or_default(), letters.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_found_by_its_name() {
        for reason in Reason::ALL {
            assert_eq!(known(reason.as_str()), Some(*reason));
        }
        assert_eq!(known("OfANewerVersion"), None);
    }

    #[test]
    fn sentences_begin_with_a_capital_and_end_once() {
        assert_eq!(sentence("prefill: 3 wait"), "Prefill: 3 wait.");
        assert_eq!(sentence(" Done. "), "Done.");
        assert_eq!(sentence("cut…"), "Cut…");
        assert_eq!(sentence(""), "");
    }
}
