//! The forms of names in Kubernetes, but for their lengths, which differ by field.

/// Whether `text` is a DNS label but for its length: lower-case letters, digits and `-`, with a
/// letter or digit at both ends.
pub fn is_dns_label(text: &str) -> bool {
    is_framed(text, b"-", is_lower_alphanumeric)
}

/// Whether `text` has the form of an object's name: lower-case letters, digits, `-` and `.`, with a
/// letter or digit at both ends. It is what the CRD's pattern for names says; the API server
/// refuses two dots in a row besides.
pub fn is_object_name(text: &str) -> bool {
    is_framed(text, b"-.", is_lower_alphanumeric)
}

/// Whether `text` has the form of a label's name or value: letters, digits, `-`, `_` and `.`, with
/// a letter or digit at both ends.
pub fn is_label_name(text: &str) -> bool {
    is_framed(text, b"-_.", |byte| byte.is_ascii_alphanumeric())
}

fn is_lower_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

/// Whether both ends of `text` are `end`, and everything between is `end` or one of `inner`.
fn is_framed(text: &str, inner: &[u8], end: impl Fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    let ends = bytes.first().zip(bytes.last());
    ends.is_some_and(|(first, last)| end(*first) && end(*last))
        && bytes.iter().all(|byte| end(*byte) || inner.contains(byte))
}
