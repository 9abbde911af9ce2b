//! The frame around every page: head, banner with the state of this process, and foot.
//!
//! A page works without a script: it is then loaded again from time to time. With one, only what
//! changed is replaced, so that focus, selection and open parts stay. Either can be switched off by
//! a link, and stays so from page to page.

use std::fmt::Display;

use super::{
    html::Html,
    query::Query,
    source::{Leader, Source, Trouble},
};

/// A page without its frame.
#[derive(Clone, Debug)]
pub(super) struct Page {
    /// The title in front of the product's name.
    pub(super) title: String,
    /// The way from this page to the first one, such as `../../`: a proxy may put the pages under a
    /// path of its own.
    pub(super) root: &'static str,
    /// The address of this page without its query, relative to itself.
    pub(super) address: String,
    pub(super) content: Html,
}

/// `page` in its frame.
pub(super) fn framed(source: &Source, query: &Query, page: &Page) -> String {
    let mut html = Html::default();
    head(&mut html, query, page);
    banner(&mut html, source, query, page);
    html.add("<main class=\"wrap\" id=\"main\" tabindex=\"-1\">\n", &[]);
    notices(&mut html, source);
    html.append(&page.content);
    html.add(
        "</main>\n<footer class=\"wrap\"><p>Read only: nothing can be changed here. The same by \
         command: <code>kubectl pd status -A</code>.</p></footer>\n</body>\n</html>\n",
        &[],
    );
    html.into_string()
}

fn head(html: &mut Html, query: &Query, page: &Page) {
    let root = page.root;
    html.add(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{} – PDAutoscaler</title>\n\
         <link rel=\"icon\" href=\"{}favicon.svg\">\n<link rel=\"stylesheet\" href=\"{}console.css\">\n",
        &[&page.title, &root, &root],
    );
    if query.refresh {
        html.add(
            "<script src=\"{}console.js\" defer></script>\n\
             <noscript><meta http-equiv=\"refresh\" content=\"30\"></noscript>\n",
            &[&root],
        );
    }
    html.add(
        "</head>\n<body>\n<a class=\"skip\" href=\"#main\">Skip to content</a>\n",
        &[],
    );
}

fn banner(html: &mut Html, source: &Source, query: &Query, page: &Page) {
    let home = Query {
        refresh: query.refresh,
        ..Query::default()
    };
    let home = format!(
        "{}{}",
        if page.root.is_empty() {
            "./"
        } else {
            page.root
        },
        home.text()
    );
    html.add(
        "<header class=\"top\" id=\"top\"><div class=\"wrap\">\n<a class=\"brand\" href=\"{}\">",
        &[&home],
    );
    html.add(
        "<svg class=\"mark\" viewBox=\"0 0 32 32\" aria-hidden=\"true\">\
         <rect class=\"mark-p\" x=\"3\" y=\"6\" width=\"7\" height=\"20\" rx=\"2\"/>\
         <rect class=\"mark-d\" x=\"12.5\" y=\"12\" width=\"7\" height=\"14\" rx=\"2\"/>\
         <rect class=\"mark-d\" x=\"22\" y=\"12\" width=\"7\" height=\"14\" rx=\"2\"/></svg>\
         <span class=\"names\"><span class=\"product\">PDAutoscaler</span>",
        &[],
    );
    let about = &source.about;
    let identity = about.identity.as_deref().unwrap_or(crate::NAME);
    html.add(
        "<span class=\"identity\">{}, version {}",
        &[&identity, &crate::VERSION],
    );
    if let Some(namespace) = &about.namespace {
        html.add(", namespace {} alone", &[namespace]);
    }
    html.add("</span></span></a>\n<div class=\"state\">", &[]);
    match source.leader() {
        Leader::This => html.add("<span class=\"pill good\">leads</span>", &[]),
        Leader::Other(_) => html.add("<span class=\"pill\">stands by</span>", &[]),
    }
    let now = source.now();
    html.add(
        "<time id=\"now\" datetime=\"{}\">{} UTC</time>\n",
        &[&now, &now.strftime("%H:%M:%S")],
    );
    let other = Query {
        refresh: !query.refresh,
        ..query.clone()
    };
    let address = format!("{}{}", page.address, other.text());
    let action = if query.refresh {
        "Pause updates"
    } else {
        "Resume updates"
    };
    html.add(
        "<a class=\"button\" id=\"refresh\" href=\"{}\">{}</a>",
        &[&address, &action],
    );
    html.add(
        "</div></div></header>\n<p class=\"lost wrap\" id=\"lost\" role=\"status\"></p>\n",
        &[],
    );
}

/// Remarks on what may be missing.
fn notices(html: &mut Html, source: &Source) {
    // There even without a remark, so that the parts behind it keep their places.
    html.add("<div id=\"notices\">\n", &[]);
    let mut notice = |text: &dyn Display| {
        html.add("<p class=\"notice\">{}</p>\n", &[text]);
    };
    if let Leader::Other(leader) = source.leader() {
        let leader = leader.map_or_else(
            || "No controller leads at this moment, as far as this one knows".to_owned(),
            |leader| format!("This controller stands by; {leader} decides"),
        );
        notice(&format!(
            "{leader}. Objects are shown as their status has them; the replicas that the objective \
             needs are known to the leader alone."
        ));
    }
    match source.trouble() {
        None => {}
        Some(Trouble::Unlisted) => notice(&"PDAutoscalers are being read for the first time."),
        Some(Trouble::Absent) => notice(
            &"The CustomResourceDefinition of PDAutoscalers is not installed: install the chart with crds.enabled.",
        ),
        Some(Trouble::Forbidden) => notice(
            &"The controller may not list PDAutoscalers, so that what is shown may be missing or old: see its log and /readyz.",
        ),
        Some(Trouble::Unanswered) => notice(
            &"The API server does not answer, so that what is shown may be missing or old: see the controller's log.",
        ),
    }
    html.add("</div>\n", &[]);
}
