//! Completion of command lines: the words that may come next.
//!
//! kubectl hands the words of `kubectl pd ...` to a program `kubectl_complete-pd` and reads one
//! candidate per line, and at the end a directive. The words come from the command line's own
//! definition, so that no flag is missing; names of objects come from the cluster. Pure.

use clap::{Arg, Command};

/// kubectl shall not complete names of files: cobra's `ShellCompDirectiveNoFileComp`.
const NO_FILES: &str = ":4";
/// kubectl may complete names of files: cobra's default directive.
const FILES: &str = ":0";

/// The script that lets kubectl complete `kubectl pd`.
pub const KUBECTL_SCRIPT: &str = "#!/bin/sh\n\
    # Save as kubectl_complete-pd, executable, in a folder of PATH.\n\
    exec kubectl-pd __complete -- \"$@\"\n";

/// The kind of word that comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// One of these words.
    Words(Vec<String>),
    /// The name of a PDAutoscaler that begins like this.
    Objects(String),
    /// A file.
    Files,
}

/// The kind of word in the place of the last of `words`, which may be empty.
pub fn wanted(root: &Command, words: &[String]) -> Wanted {
    let mut command = root.clone();
    command.build();
    let (last, before): (&str, &[String]) = match words.split_last() {
        Some((last, before)) => (last.as_str(), before),
        None => ("", &[]),
    };
    let mut at = &command;
    let mut flag: Option<&Arg> = None;
    for word in before {
        if flag.take().is_some() {
            continue;
        }
        if word.starts_with('-') {
            flag = argument(at, word).filter(|arg| takes_value(arg) && !word.contains('='));
        } else if let Some(sub) = at.find_subcommand(word) {
            at = sub;
        }
    }
    if let Some(flag) = flag {
        return values(flag, last);
    }
    if let Some((name, value)) = last.split_once('=')
        && let Some(flag) = argument(at, name)
    {
        return match values(flag, value) {
            Wanted::Words(words) => Wanted::Words(
                words
                    .into_iter()
                    .map(|word| format!("{name}={word}"))
                    .collect(),
            ),
            other => other,
        };
    }
    if last.starts_with('-') {
        return Wanted::Words(flags(at, last));
    }
    let subcommands: Vec<String> = at
        .get_subcommands()
        .filter(|sub| !sub.is_hide_set() && sub.get_name().starts_with(last))
        .map(|sub| format!("{}\t{}", sub.get_name(), about(sub.get_about())))
        .collect();
    if at.has_subcommands() {
        return Wanted::Words(subcommands);
    }
    match at.get_positionals().next() {
        Some(arg) if arg.get_id() == "name" => Wanted::Objects(last.to_owned()),
        Some(arg) => values(arg, last),
        None => Wanted::Words(Vec::new()),
    }
}

/// The lines that kubectl reads.
pub fn lines(candidates: &[String], with_files: bool) -> String {
    let directive = if with_files { FILES } else { NO_FILES };
    let mut text = String::new();
    for candidate in candidates {
        text.push_str(candidate);
        text.push('\n');
    }
    format!("{text}{directive}\n")
}

fn about(text: Option<&clap::builder::StyledStr>) -> String {
    text.map(ToString::to_string).unwrap_or_default()
}

/// The argument of `command` that `word` names, such as `--output`, `--output=json` or `-o`.
fn argument<'a>(command: &'a Command, word: &str) -> Option<&'a Arg> {
    let name = word.split('=').next().unwrap_or(word);
    command.get_arguments().find(|arg| {
        if let Some(long) = name.strip_prefix("--") {
            return arg.get_long() == Some(long);
        }
        let short = name.strip_prefix('-').and_then(|rest| rest.chars().next());
        short.is_some() && arg.get_short() == short
    })
}

fn takes_value(arg: &Arg) -> bool {
    arg.get_action().takes_values()
}

fn values(arg: &Arg, beginning: &str) -> Wanted {
    let possible = arg.get_possible_values();
    if possible.is_empty() {
        return match arg.get_value_hint() {
            clap::ValueHint::FilePath | clap::ValueHint::DirPath => Wanted::Files,
            _ => Wanted::Words(Vec::new()),
        };
    }
    let named = possible.iter().map(|value| value.get_name().to_owned());
    Wanted::Words(named.filter(|name| name.starts_with(beginning)).collect())
}

fn flags(command: &Command, beginning: &str) -> Vec<String> {
    let shown = command.get_arguments().filter(|arg| !arg.is_hide_set());
    let named = shown.filter_map(|arg| {
        let long = format!("--{}", arg.get_long()?);
        Some((long, about(arg.get_help())))
    });
    named
        .filter(|(long, _)| long.starts_with(beginning))
        .map(|(long, help)| format!("{long}\t{help}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use rstest::rstest;

    use super::*;
    use crate::args::Cli;

    fn of(line: &str) -> Wanted {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        match wanted(&Cli::command(), &words) {
            Wanted::Words(words) => {
                let bare = |word: String| word.split('\t').next().unwrap().to_owned();
                Wanted::Words(words.into_iter().map(bare).collect())
            }
            other => other,
        }
    }

    fn words(all: &[&str]) -> Wanted {
        Wanted::Words(all.iter().map(|word| (*word).to_owned()).collect())
    }

    #[rstest]
    #[case::command("wh", words(&["why-not"]))]
    #[case::two("p", words(&["pause", "preflight"]))]
    #[case::source("import d", words(&["dynamo"]))]
    #[case::name("explain ll", Wanted::Objects("ll".to_owned()))]
    #[case::name_after_flags("explain -n inference --context=a ", Wanted::Objects(String::new()))]
    #[case::form("status -o j", words(&["json"]))]
    #[case::form_in_one_word("status --output=y", words(&["--output=yaml"]))]
    #[case::flag("status --al", words(&["--all-namespaces"]))]
    #[case::bound_of_pairs("import hpa --ma", words(&["--max-replicas"]))]
    #[case::bound_of_graphs("import dynamo qwen --ma", words(&["--max-replicas"]))]
    #[case::bound_of_runs("import aiconfigurator out --ma", words(&["--max-replicas"]))]
    #[case::number("import keda --max-replicas ", words(&[]))]
    #[case::mode("resume llama --to A", words(&["Auto"]))]
    #[case::file("status --kubeconfig ", Wanted::Files)]
    #[case::shell("completion f", words(&["fish"]))]
    fn the_next_word_follows_from_the_command_line(#[case] line: &str, #[case] want: Wanted) {
        assert_eq!(of(line), want);
    }

    #[test]
    fn hidden_commands_are_not_offered() {
        let Wanted::Words(words) = of("") else {
            panic!("no words");
        };
        assert!(words.contains(&"status".to_owned()));
        assert!(
            !words.iter().any(|word| word.starts_with("__")),
            "{words:?}"
        );
    }

    #[test]
    fn lines_end_with_the_directive() {
        assert_eq!(lines(&["a".to_owned()], false), "a\n:4\n");
        assert_eq!(lines(&[], true), ":0\n");
    }
}
