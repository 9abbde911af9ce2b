//! The page `docs/kubectl-pd.md`: every answer in it is made here from objects of the fixtures, so
//! that the page cannot show what the plugin does not print.
//!
//! Each answer stands between markers. `PD_UPDATE=1 cargo test -p kubectl-pd the_page` writes them.

use std::{env, fs, path::Path};

use clap::{Command, CommandFactory as _};
use pd_api::v1alpha1::{DurationText, Mode};
use pd_core::PerRole;

use super::samples::{NOW, facts, object};
use crate::{
    args::Cli,
    explain,
    import::{
        Imported, aiconfigurator, dynamo, horizontal, manifest,
        pair::{Wanted, combine},
        scaled_object,
        select::{Named, documents, select},
    },
    pause::{Pause, pause, resume},
    preflight::{
        judge::{Facts, judge},
        text,
    },
    source,
    status::{Columns, detail::detail, list},
    why_not,
};

const PAGE: &str = "../docs/kubectl-pd.md";

fn fixture(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/import")
        .join(path);
    fs::read_to_string(path).unwrap()
}

fn wanted() -> Wanted {
    Wanted {
        ttft: Some(DurationText("600ms".to_owned())),
        tpot: Some(DurationText("40ms".to_owned())),
        ..Wanted::default()
    }
}

fn yaml(imported: &Imported) -> String {
    manifest::yaml(imported).unwrap()
}

fn of_pair(kind: &'static str, file: &str) -> String {
    let objects = documents(file, &fixture(file)).unwrap();
    let found = select(kind, &objects, &Named::default()).unwrap();
    let role = match kind {
        horizontal::KIND => horizontal::role,
        _ => scaled_object::role,
    };
    let roles = PerRole {
        prefill: role(&found.prefill.unwrap()).unwrap(),
        decode: role(&found.decode.unwrap()).unwrap(),
    };
    yaml(&combine(roles, &wanted()).unwrap())
}

fn of_graph() -> String {
    let graph = documents("graph.yaml", &fixture("dynamo-v1beta1.yaml"))
        .unwrap()
        .remove(0);
    yaml(&dynamo::import(&graph, None, &Wanted::default()).unwrap())
}

fn of_run() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/import/aiconfigurator");
    let mut run = source::run(&folder).unwrap();
    // As the user's directory would be called.
    run.folder = "out/disagg".to_owned();
    let targets = PerRole::from_fn(|_| None);
    yaml(&aiconfigurator::import(&[run], &targets, &Wanted::default()).unwrap())
}

/// A cluster in which Prometheus does not scrape the workers and a right is missing.
fn unfinished() -> Facts {
    let mut facts = facts();
    facts.prometheus[0].1.as_mut().unwrap().pods.clear();
    facts.objects = Ok(vec![object("unmeasured")]);
    let rights = &mut facts.controller_rights[0].1;
    let scale = rights
        .iter_mut()
        .find(|(right, _)| right.subresource == "scale" && right.verb == "patch");
    scale.unwrap().1 = Ok(false);
    facts
}

fn blockers(name: &str) -> String {
    let object = object(name);
    why_not::text(&object, &why_not::answer(&object, None))
}

fn paused() -> String {
    let running = object("steady");
    let change = pause(&running, Pause::Mode(Mode::Recommend));
    let mut stopped = running.clone();
    stopped.spec.mode = Mode::Recommend;
    stopped
        .metadata
        .annotations
        .get_or_insert_default()
        .insert(crate::pause::MODE_BEFORE.to_owned(), "Auto".to_owned());
    let back = resume(&stopped, None).unwrap();
    format!(
        "$ kubectl pd pause llama-70b\n{}\n$ kubectl pd resume llama-70b\n{}\n",
        change.message, back.message
    )
}

/// The help of every command, in the order of the command line.
fn commands() -> String {
    let mut root = Cli::command();
    root.build();
    let mut text = String::from("| Command | It gives |\n|---|---|\n");
    rows(&root, "kubectl pd", &mut text);
    text
}

fn rows(command: &Command, path: &str, text: &mut String) {
    for sub in command
        .get_subcommands()
        .filter(|sub| !sub.is_hide_set() && sub.get_name() != "help")
    {
        let path = format!("{path} {}", sub.get_name());
        if sub.get_subcommands().any(|one| one.get_name() != "help") {
            rows(sub, &path, text);
            continue;
        }
        let about = sub.get_about().map(ToString::to_string).unwrap_or_default();
        text.extend(["| `", path.as_str(), "` | ", about.as_str(), " |\n"]);
    }
}

/// Every block of the page by its name.
fn blocks() -> Vec<(&'static str, String)> {
    let all = [object("limited"), object("recommended")];
    let columns = |wide| Columns {
        namespace: true,
        wide,
    };
    let fenced = |kind: &str, text: String| format!("```{kind}\n{}\n```\n", text.trim_end());
    let shown = |text| fenced("text", text);
    vec![
        ("commands", commands()),
        ("status", shown(list(&all, columns(false), NOW))),
        ("detail", shown(detail(&all[0], 3, NOW))),
        ("explain", shown(explain::prose(&all[0], NOW))),
        ("why-not", shown(blockers("limited"))),
        ("nothing", shown(blockers("steady"))),
        ("pause", shown(paused())),
        ("hpa", fenced("yaml", of_pair(horizontal::KIND, "hpa.yaml"))),
        (
            "keda",
            fenced("yaml", of_pair(scaled_object::KIND, "scaledobject.yaml")),
        ),
        ("dynamo", fenced("yaml", of_graph())),
        ("aiconfigurator", fenced("yaml", of_run())),
        ("preflight", shown(text(&judge(&unfinished(), NOW)))),
        (
            "complete",
            fenced("sh", crate::complete::KUBECTL_SCRIPT.to_owned()),
        ),
    ]
}

#[test]
fn the_page_shows_what_the_plugin_prints() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let shown = fs::read_to_string(&path).unwrap();
    let mut page = shown.clone();
    for (name, block) in blocks() {
        let (begin, end) = (
            format!("<!-- begin {name} -->\n"),
            format!("<!-- end {name} -->"),
        );
        let (head, rest) = page
            .split_once(&begin)
            .unwrap_or_else(|| panic!("no place for {name}"));
        let (_, tail) = rest
            .split_once(&end)
            .unwrap_or_else(|| panic!("no end of {name}"));
        page = format!("{head}{begin}{block}{end}{tail}");
    }
    if env::var_os("PD_UPDATE").is_some() {
        fs::write(&path, page).unwrap();
        return;
    }
    assert!(
        shown == page,
        "docs/kubectl-pd.md differs from the code: run `PD_UPDATE=1 cargo test -p kubectl-pd the_page`"
    );
}

#[test]
fn the_exit_codes_of_the_page_are_those_of_the_program() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let page = fs::read_to_string(path).unwrap();
    let help = Cli::command().get_after_help().unwrap().to_string();
    for exit in crate::exit::Exit::ALL {
        let code = exit.code();
        assert!(page.contains(&format!("| {code} |")), "{code}");
        assert!(help.contains(&format!("{code} ")), "{code}");
    }
}
