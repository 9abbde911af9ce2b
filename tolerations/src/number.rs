//! The grammar of numbers in taints and tolerations: canonical decimal text that fits 64 bits,
//! nothing else.
//!
//! Two checks in this order, as upstream makes them: the text must be the one way to write its
//! integer (`0`, or an optional `-`, a digit from 1 to 9, and digits), and the integer must lie
//! within int64. Rust's own parser would let `+5`, `007` and `-0` pass, and a float would confuse
//! neighbours above 2^53, so neither may come first. A number out of range is not clamped: it is no
//! number.
//!
//! Sources: kubernetes/apimachinery `pkg/api/validate/content/decimal_int.go`, kubernetes/api
//! `core/v1/toleration.go`.

/// Why a text is no number in the sense of numeric tolerations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotANumber {
    /// There is no text.
    #[error("empty")]
    Empty,
    /// The text is not the canonical form of an integer: a sign too many, leading zeros, spaces, a
    /// fraction, letters.
    #[error("no whole number in canonical form")]
    NotCanonical,
    /// The integer does not fit 64 bits.
    #[error("outside of int64")]
    OutOfRange,
}

/// The number that `text` is.
pub fn canonical_int64(text: &str) -> Result<i64, NotANumber> {
    if text.is_empty() {
        return Err(NotANumber::Empty);
    }
    let digits = text.strip_prefix('-').unwrap_or(text);
    let canonical = match digits.as_bytes() {
        [b'0'] => digits.len() == text.len(),
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if !canonical {
        return Err(NotANumber::NotCanonical);
    }
    // The grammar leaves only one reason to fail.
    text.parse().map_err(|_| NotANumber::OutOfRange)
}
