//! The page: one HTML file with its style, its script and its data inside.
//!
//! The live page and the report are the same file. The live one starts with an empty record and
//! listens for news; the report has the whole record in it and asks nobody for anything, so it can
//! be mailed, archived and opened without a network.

use serde::Serialize;

use super::record::Record;

static HTML: &str = include_str!("page.html");
static CSS: &str = include_str!("page.css");
static CHARTS: &str = include_str!("charts.js");
static SCRIPT: &str = include_str!("page.js");

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Embedded<'a> {
    /// Whether to listen for news.
    live: bool,
    #[serde(flatten)]
    record: &'a Record,
}

/// The page with `record` in it.
pub(super) fn render(record: &Record, live: bool) -> serde_json::Result<String> {
    // A script element ends at the first `</script`, whatever the JSON around it says.
    let data = serde_json::to_string(&Embedded { live, record })?.replace('<', "\\u003c");
    Ok(HTML
        .replace("/*css*/", CSS)
        .replace("/*charts*/", CHARTS)
        .replace("/*script*/", SCRIPT)
        .replace("/*record*/", &data))
}
