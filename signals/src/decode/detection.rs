//! The engine that a service runs, and how its metrics are spelt, as one answer shows them.
//!
//! Every state query looks for the metrics that show an engine, of all engines. A service whose
//! engine is not found keeps the one that was asked for: one that starts has no metrics yet, and
//! that is no other engine.

use super::{Answers, answer::Answer};
use crate::{
    engine::{ENGINES, Engine},
    queries::Scope,
    tag::{METRIC, Tag},
};

/// An engine, and how its metrics are spelt.
#[derive(Clone, Debug)]
pub struct Found {
    /// The engine.
    pub engine: &'static Engine,
    /// Beginning of its metrics' names, where it is not the usual one.
    pub prefix: Option<String>,
}

/// The engine and spelling that `answers` show, where they are not those of `scope`: what to ask
/// next. Only with `any_engine` may it be another engine. One that is there as asked for stays,
/// even if another is there too.
pub fn another<E>(answers: &Answers<E>, scope: &Scope, any_engine: bool) -> Option<Found> {
    let state = Answer::of(&answers.state);
    let names = names(&state);
    if let Some(prefix) = spelt_otherwise(&names, scope) {
        return Some(Found {
            engine: scope.engine,
            prefix: Some(prefix),
        });
    }
    if !any_engine || is_there(scope.engine, &names) {
        return None;
    }
    ENGINES.iter().find_map(|engine| {
        let prefix = spellings(engine, &names).into_iter().next()?;
        Some(Found {
            engine,
            prefix: (prefix != engine.prefix).then_some(prefix),
        })
    })
}

/// How the engine's metrics begin, where none is found under the beginning that was asked for and
/// others are: the usual one if it is among them, or the first by name.
pub fn prefix<E>(answers: &Answers<E>, scope: &Scope) -> Option<String> {
    spelt_otherwise(&names(&Answer::of(&answers.state)), scope)
}

fn spelt_otherwise(names: &[&str], scope: &Scope) -> Option<String> {
    let asked = scope.prefix.as_deref().unwrap_or(scope.engine.prefix);
    let found = spellings(scope.engine, names);
    if found.iter().any(|prefix| prefix == asked) {
        return None;
    }
    found.into_iter().next()
}

/// The names that were found of the metrics that show an engine.
fn names<'a>(state: &Answer<'a>) -> Vec<&'a str> {
    let metrics = state.samples(Tag::Generation);
    metrics.iter().map(|sample| sample.label(METRIC)).collect()
}

fn is_there(engine: &'static Engine, names: &[&str]) -> bool {
    !spellings(engine, names).is_empty()
}

/// How the metrics of `engine` begin among `names`, the usual way first; nothing where it is not
/// there.
fn spellings(engine: &'static Engine, names: &[&str]) -> Vec<String> {
    let known = engine.generation.names.iter();
    let known: Vec<&str> = known.map(|name| engine.plain(name)).collect();
    let word = engine.prefix.trim_end_matches([':', '_']);
    let beginning = |name: &&str| {
        let mut beginnings = known.iter().filter_map(|plain| name.strip_suffix(plain));
        let is_of_engine =
            |beginning: &&str| beginning.trim_end_matches([':', '_']).ends_with(word);
        beginnings.find(is_of_engine).map(str::to_owned)
    };
    let mut found: Vec<String> = names.iter().filter_map(beginning).collect();
    found.sort_unstable_by_key(|prefix| (prefix != engine.prefix, prefix.clone()));
    found
}

/// The model that the pods of `answers` serve: the one that `scope` selects, or the only one that
/// is there.
pub fn model<E>(answers: &Answers<E>, scope: &Scope) -> Option<String> {
    let label = scope.engine.model_label;
    let selected = scope.selectors.iter().find(|(name, _)| name == label);
    if let Some((_, model)) = selected {
        return Some(model.clone());
    }
    let state = Answer::of(&answers.state);
    let models = state.samples(Tag::Models).iter();
    let mut models: Vec<&str> = models.map(|sample| sample.label(METRIC)).collect();
    models.sort_unstable();
    models.dedup();
    match models.as_slice() {
        [only] if !only.is_empty() => Some((*only).to_owned()),
        _ => None,
    }
}

/// A sentence without its full stop with the names that were looked for, where `answers` have none
/// of them; nothing where an engine is found, or the query failed. `any_engine` says whether every
/// engine's were, or those of `scope` alone.
pub fn names_tried<E>(answers: &Answers<E>, scope: &Scope, any_engine: bool) -> Option<String> {
    let state = Answer::of(&answers.state);
    if state.failed() {
        return None;
    }
    let names = names(&state);
    let tried = |engine: &&&'static Engine| any_engine || engine.name == scope.engine.name;
    let tried: Vec<&&'static Engine> = ENGINES.iter().filter(tried).collect();
    if tried.iter().any(|engine| is_there(engine, &names)) {
        return None;
    }
    let listed = tried.iter().map(|engine| {
        let names = engine.generation.names.iter();
        let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
        format!("{} ({})", names.join(" or "), engine.product)
    });
    let listed: Vec<String> = listed.collect();
    let others = ENGINES.iter().find(|engine| is_there(engine, &names));
    let others = others.map_or(String::new(), |engine| {
        format!(", while metrics of {} are there", engine.product)
    });
    Some(format!(
        "no pod of the targets has any of {}{others}: let Prometheus scrape the pods, with labels \
         `{}` and `{}`, and set `spec.metrics.engine` if it is set wrongly",
        listed.join(", "),
        scope.namespace_label,
        scope.pod_label,
    ))
}
