//! The queries of one object, made into queries of all objects of a server. Pure.
//!
//! An object's query names its namespace and the pods of its two roles. Here every selector loses
//! the pods and gets many namespaces, and every aggregation keeps apart what it added up of one
//! object: by namespace, and by pod or by the workload that the pod's name shows. Parts that read
//! the same for both roles are read once. The rewriting follows the grammar and no catalogue, so
//! whatever an engine's recipe is, the numbers are those of the object's own query. Whatever is
//! not understood is refused, and such an object is asked about by itself.

pub mod gateway;
pub mod split;
pub mod workload;

use std::{collections::BTreeMap, fmt};

use pd_core::Role;
use pd_signals::queries::{Scope, gateway::in_any_case};
use promql_parser::{
    label::{Labels, Matcher},
    parser::{
        self, AggregateExpr, BinaryExpr, Call, Expr, LabelModifier, MatrixSelector, VectorSelector,
        token,
    },
};

use self::workload::{PATTERN, is_word};

/// Label of the workload that a pod's name shows.
pub const WORKLOAD: &str = "pd_workload";

/// Label that numbers the parts of an answer.
pub const PART: &str = "pd_part";

/// Label that names a part in an object's own answer.
const TAG: &str = "signal";

/// Labels that queries make for themselves: none may be that of namespaces or pods.
const OWN_LABELS: [&str; 8] = [
    WORKLOAD, PART, TAG, "edge", "native", "term", "metric", "__name__",
];

/// Stands for the namespaces of objects, which no name of one can be.
const NAMESPACES: &str = "<namespaces>";

/// Stands for these and for the homes of what serves every namespace.
const HOMES: &str = "<homes>";

/// Stands for a pattern of pods.
const PODS: &str = "<pods>";

/// Stands for a pattern of models.
const MODELS: &str = "<models>";

/// The pattern of every pod, and of every model.
const ANY: &str = ".+";

/// Functions that make a number of many series, or a series of none.
const OF_ALL: [&str; 5] = ["scalar", "vector", "absent", "absent_over_time", "info"];

/// Why a query cannot be made one of many objects.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupingError {
    /// It is no PromQL, or of a newer kind.
    #[error("it cannot be parsed: {0}")]
    Unparsed(String),
    /// It is made otherwise than an object's own queries are.
    #[error("{0}")]
    Unknown(&'static str),
}

/// How the rows of one object are joined, where several come of what its own query adds up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Join {
    /// Each is a row of its own: it is about one pod.
    Apart,
    /// They add up.
    Add,
    /// The largest counts.
    Largest,
}

/// One part of a query of many objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Names of the part in the object's own answer, each with the role whose pods it reads; of
    /// both without one.
    pub tags: Vec<(String, Option<Role>)>,
    /// How rows are joined.
    pub join: Join,
    /// Whose its rows are.
    pub of: Of,
}

/// Whose the rows of a part are, beside their namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// Those of the object whose pods or workload they name.
    Pods,
    /// Those of every object that looks into their namespace.
    Namespaces,
    /// Those of every such object whose model they name by this label.
    Models(&'static str),
}

/// The names that a query of many objects is about.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    /// Namespaces of the objects.
    pub namespaces: &'a [&'a str],
    /// Namespaces of what serves every namespace.
    pub homes: &'a [String],
    /// Keys of the workloads whose pods are read; of all pods if there are none.
    pub keys: &'a [&'a str],
    /// Models that are read; all if there are none.
    pub models: &'a [&'a str],
}

impl Part {
    /// Whether any of its names reads pods of `role`.
    pub fn reads(&self, role: Role) -> bool {
        let mut tags = self.tags.iter();
        tags.any(|(_, of)| of.is_none_or(|of| of == role))
    }
}

/// A query of many objects.
#[derive(Clone, Debug)]
pub struct Grouped {
    text: String,
    /// Its parts, by their numbers in the answer.
    pub parts: Vec<Part>,
}

impl Grouped {
    /// The query about `names`. Nothing where a name of Kubernetes is none, for it might mean
    /// something to RE2.
    pub fn text(&self, names: &Names<'_>) -> Option<String> {
        let is_label = |name: &&str| {
            let mut bytes = name.bytes();
            !name.is_empty() && bytes.all(|b| is_word(b) || b == b'-')
        };
        let mut all: Vec<&str> = names.homes.iter().map(String::as_str).collect();
        all.extend(names.namespaces);
        if names.namespaces.is_empty() || !all.iter().all(is_label) {
            return None;
        }
        let pods = match names.keys {
            [] => ANY.to_owned(),
            keys => workload::pods_of(keys)?,
        };
        let models = match names.models {
            [] => ANY.to_owned(),
            models => in_any_case(models),
        };
        // Models last, for they may have any text.
        let text = self.text.replace(NAMESPACES, &names.namespaces.join("|"));
        let text = text.replace(HOMES, &all.join("|")).replace(PODS, &pods);
        Some(text.replace(MODELS, &models))
    }

    /// The same with what `query` finds in namespaces, whatever the pods.
    pub fn with_search(mut self, query: &str, scope: &Scope) -> Result<Self, GroupingError> {
        let expression = parser::parse(query).map_err(GroupingError::Unparsed)?;
        let (tag, mut expression) = untagged(expression)?;
        by_namespace(&mut expression, &scope.namespace_label)?;
        let number = self.parts.len();
        let text = numbered(&expression.to_string(), number);
        self.text = format!("{} or {text}", self.text);
        self.parts.push(Part {
            tags: vec![(tag, None)],
            join: Join::Add,
            of: Of::Namespaces,
        });
        Ok(self)
    }
}

/// `text` under the label that numbers it.
fn numbered(text: &str, number: usize) -> String {
    format!("label_replace({text}, \"{PART}\", \"{number}\", \"\", \"\")")
}

/// Makes a count in the namespaces of `label` one that keeps them apart.
fn by_namespace(expression: &mut Expr, label: &str) -> Result<(), GroupingError> {
    match expression {
        Expr::Call(call) if call.func.name == "label_replace" => match call.args.args.first_mut() {
            Some(first) => by_namespace(first, label),
            None => Ok(()),
        },
        Expr::Aggregate(AggregateExpr {
            expr,
            modifier: Some(LabelModifier::Include(labels)),
            param: None,
            ..
        }) => {
            labels.labels.push(label.to_owned());
            let Expr::VectorSelector(selector) = &mut **expr else {
                return Err(GroupingError::Unknown("a search has no selector"));
            };
            let matchers = &mut selector.matchers.matchers;
            matchers.retain(|matcher| matcher.name != label);
            matchers.push(pattern(label, HOMES)?);
            Ok(())
        }
        _ => Err(GroupingError::Unknown("a search is no count")),
    }
}

/// A matcher of `pattern` for `label`.
fn pattern(label: &str, pattern: &str) -> Result<Matcher, GroupingError> {
    let matcher = Matcher::new_matcher(token::T_EQL_REGEX, label.to_owned(), pattern.to_owned());
    matcher.map_err(GroupingError::Unparsed)
}

/// The scope whose queries are grouped: that of `scope`, of no object. Objects with the same one
/// are read together.
pub fn of_no_object(scope: &Scope) -> Scope {
    Scope {
        namespace: "n".to_owned(),
        prefill_pods: "p".to_owned(),
        decode_pods: "d".to_owned(),
        ..scope.clone()
    }
}

/// The query of many objects that reads as `query`, one of `scope`, does of one.
pub fn grouped(query: &str, scope: &Scope) -> Result<Grouped, GroupingError> {
    let labels = [&scope.namespace_label, &scope.pod_label];
    let taken = |label: &&String| {
        let mut taken = OWN_LABELS.iter().chain(scope.engine.series_labels);
        taken.any(|own| own == label) || scope.selectors.iter().any(|(own, _)| own == *label)
    };
    if labels.iter().any(taken) || scope.namespace_label == scope.pod_label {
        return Err(GroupingError::Unknown(
            "the label of namespaces or pods has another meaning too",
        ));
    }
    let expression = parser::parse(query).map_err(GroupingError::Unparsed)?;
    let mut whole = Vec::new();
    flatten(expression, &mut whole);
    let mut numbers: BTreeMap<String, usize> = BTreeMap::new();
    let mut parts = Vec::<Part>::new();
    let mut texts = Vec::<String>::new();
    for part in whole {
        let (tag, expression) = untagged(part)?;
        let (text, part) = regrouped(expression, scope, tag)?;
        if let Some(&known) = numbers.get(&text) {
            parts[known].tags.extend(part.tags);
        } else {
            numbers.insert(text.clone(), parts.len());
            parts.push(part);
            texts.push(text);
        }
    }
    let texts = texts.iter().enumerate();
    let texts: Vec<String> = texts.map(|(number, text)| numbered(text, number)).collect();
    Ok(Grouped {
        text: texts.join(" or "),
        parts,
    })
}

/// The operands of `or` at the top of `expression`.
fn flatten(expression: Expr, parts: &mut Vec<Expr>) {
    match expression {
        Expr::Binary(binary) if binary.op.id() == token::T_LOR => {
            flatten(*binary.lhs, parts);
            flatten(*binary.rhs, parts);
        }
        other => parts.push(other),
    }
}

/// The name of a part, and the part without it.
fn untagged(part: Expr) -> Result<(String, Expr), GroupingError> {
    const UNTAGGED: GroupingError = GroupingError::Unknown("a part has no name");
    let Expr::Call(call) = part else {
        return Err(UNTAGGED);
    };
    if call.func.name != "label_replace" {
        return Err(UNTAGGED);
    }
    let mut arguments = call.args.args.into_iter().map(|argument| *argument);
    match (arguments.next(), arguments.next(), arguments.next()) {
        (Some(inner), Some(Expr::StringLiteral(label)), Some(Expr::StringLiteral(tag)))
            if label.val == TAG =>
        {
            Ok((tag.val, inner))
        }
        _ => Err(UNTAGGED),
    }
}

fn regrouped(
    mut expression: Expr,
    scope: &Scope,
    tag: String,
) -> Result<(String, Part), GroupingError> {
    let join = join(&expression);
    let mut pods = None;
    look(&expression, scope, &mut pods)?;
    let role = match pods.as_deref() {
        Some(pods) if pods == scope.prefill_pods => Some(Role::Prefill),
        Some(pods) if pods == scope.decode_pods => Some(Role::Decode),
        Some(pods) if pods == format!("{}|{}", scope.prefill_pods, scope.decode_pods) => None,
        _ => return Err(GroupingError::Unknown("a part reads other pods")),
    };
    let join = match (Rewriting(scope).rewrite(&mut expression)?, role, join) {
        (Held::Pod, ..) => Join::Apart,
        // The sum of one workload is that of the role.
        (Held::Workload, Some(_), join) => join.unwrap_or(Join::Apart),
        (Held::Workload, None, Some(join)) => join,
        (Held::Workload, None, None) | (Held::Nothing, ..) => {
            return Err(GroupingError::Unknown("a part cannot be joined"));
        }
    };
    let part = Part {
        tags: vec![(tag, role)],
        join,
        of: Of::Pods,
    };
    Ok((expression.to_string(), part))
}

/// How rows of several workloads are one, by the aggregation that makes them.
fn join(expression: &Expr) -> Option<Join> {
    match expression {
        Expr::Aggregate(aggregate) => match aggregate.op.id() {
            token::T_SUM | token::T_COUNT => Some(Join::Add),
            token::T_MAX => Some(Join::Largest),
            _ => None,
        },
        Expr::Paren(inner) => join(&inner.expr),
        Expr::Call(call) if call.func.name == "label_replace" => join(call.args.args.first()?),
        _ => None,
    }
}

/// Learns whose series the part reads: all of its selectors must read the same pods.
fn look(expression: &Expr, scope: &Scope, pods: &mut Option<String>) -> Result<(), GroupingError> {
    let mut at = |selector: &VectorSelector| {
        let matchers = selector.matchers.matchers.iter();
        let of_pods = matchers.filter(|matcher| matcher.name == scope.pod_label);
        let [found] = of_pods.collect::<Vec<_>>()[..] else {
            return Err(GroupingError::Unknown("a selector names no pods"));
        };
        if pods.get_or_insert_with(|| found.value.clone()) != &found.value {
            return Err(GroupingError::Unknown("the selectors of a part differ"));
        }
        Ok(())
    };
    match expression {
        Expr::VectorSelector(selector) => at(selector),
        Expr::MatrixSelector(selector) => at(&selector.vs),
        Expr::Aggregate(aggregate) => look(&aggregate.expr, scope, pods),
        Expr::Unary(unary) => look(&unary.expr, scope, pods),
        Expr::Paren(inner) => look(&inner.expr, scope, pods),
        Expr::Subquery(subquery) => look(&subquery.expr, scope, pods),
        Expr::Binary(binary) => {
            look(&binary.lhs, scope, pods)?;
            look(&binary.rhs, scope, pods)
        }
        Expr::Call(call) => {
            let mut arguments = call.args.args.iter();
            arguments.try_for_each(|argument| look(argument, scope, pods))
        }
        Expr::NumberLiteral(_) | Expr::StringLiteral(_) => Ok(()),
        Expr::Extension(_) => Err(GroupingError::Unknown("it has an extension")),
    }
}

/// The label by which the series of an expression are an object's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    /// That of the pod.
    Pod,
    /// That of the workload.
    Workload,
    /// None: it is a number or a text.
    Nothing,
}

/// Rewrites expressions of the queries of a scope.
#[derive(Clone, Copy)]
struct Rewriting<'a>(&'a Scope);

impl Rewriting<'_> {
    /// Rewrites `expression`, and says by which label its series are an object's.
    fn rewrite(self, expression: &mut Expr) -> Result<Held, GroupingError> {
        match expression {
            Expr::VectorSelector(selector) => self.widen(selector),
            Expr::MatrixSelector(MatrixSelector { vs, .. }) => self.widen(vs),
            Expr::Unary(unary) => self.rewrite(&mut unary.expr),
            Expr::Paren(inner) => self.rewrite(&mut inner.expr),
            Expr::Subquery(subquery) => self.rewrite(&mut subquery.expr),
            Expr::NumberLiteral(_) | Expr::StringLiteral(_) => Ok(Held::Nothing),
            Expr::Extension(_) => Err(GroupingError::Unknown("it has an extension")),
            Expr::Binary(binary) => self.binary(binary),
            Expr::Call(call) => self.call(call),
            Expr::Aggregate(aggregate) => self.aggregate(aggregate),
        }
    }

    fn binary(self, binary: &mut BinaryExpr) -> Result<Held, GroupingError> {
        let sides = (
            self.rewrite(&mut binary.lhs)?,
            self.rewrite(&mut binary.rhs)?,
        );
        let matching = binary.modifier.as_mut().and_then(|m| m.matching.as_mut());
        match (sides, matching) {
            ((one, Held::Nothing) | (Held::Nothing, one), None) => Ok(one),
            ((one, other), None) if one == other => Ok(one),
            ((one, other), Some(LabelModifier::Include(labels))) if one == other => {
                self.keep(labels, one);
                Ok(one)
            }
            _ => Err(GroupingError::Unknown("it joins pods with workloads")),
        }
    }

    fn call(self, call: &mut Call) -> Result<Held, GroupingError> {
        if OF_ALL.contains(&call.func.name) {
            return Err(GroupingError::Unknown("it has a function of all series"));
        }
        let mut held = Held::Nothing;
        for argument in &mut call.args.args {
            match (held, self.rewrite(argument)?) {
                (_, Held::Nothing) => {}
                (Held::Nothing, found) => held = found,
                _ => return Err(GroupingError::Unknown("it calls with several series")),
            }
        }
        Ok(held)
    }

    fn aggregate(self, aggregate: &mut AggregateExpr) -> Result<Held, GroupingError> {
        if aggregate.param.is_some() {
            return Err(GroupingError::Unknown("it picks some of all series"));
        }
        let inner = self.rewrite(&mut aggregate.expr)?;
        let none = || LabelModifier::Include(Labels::new(Vec::new()));
        let LabelModifier::Include(labels) = aggregate.modifier.get_or_insert_with(none) else {
            return Err(GroupingError::Unknown("it aggregates without labels"));
        };
        let by_pod = labels.labels.contains(&self.0.pod_label);
        let held = match (inner, by_pod) {
            (Held::Pod, true) => Held::Pod,
            (Held::Pod, false) => {
                let text = self.with_workload(&aggregate.expr);
                *aggregate.expr = parser::parse(&text).map_err(GroupingError::Unparsed)?;
                Held::Workload
            }
            (Held::Workload, false) => Held::Workload,
            _ => return Err(GroupingError::Unknown("it aggregates numbers")),
        };
        self.keep(labels, held);
        Ok(held)
    }

    /// Adds the labels that keep objects apart.
    fn keep(self, labels: &mut Labels, held: Held) {
        let own = match held {
            Held::Workload => Some(WORKLOAD),
            Held::Pod | Held::Nothing => None,
        };
        for label in [self.0.namespace_label.as_str()].into_iter().chain(own) {
            if !labels.labels.iter().any(|known| known == label) {
                labels.labels.push(label.to_owned());
            }
        }
    }

    /// `expression` with the workload that its pods' names show. The pattern fits every name, so
    /// that no series brings a workload along.
    fn with_workload(self, expression: &impl fmt::Display) -> String {
        let pod = &self.0.pod_label;
        format!("label_replace({expression}, \"{WORKLOAD}\", \"$1/$2\", \"{pod}\", \"{PATTERN}\")")
    }

    /// Makes a selector one of many namespaces and all pods.
    fn widen(self, selector: &mut VectorSelector) -> Result<Held, GroupingError> {
        let (namespace, pod) = (&self.0.namespace_label, &self.0.pod_label);
        let matchers = &mut selector.matchers.matchers;
        matchers.retain(|matcher| matcher.name != *namespace && matcher.name != *pod);
        matchers.push(pattern(namespace, NAMESPACES)?);
        matchers.push(pattern(pod, PODS)?);
        Ok(Held::Pod)
    }
}

#[cfg(test)]
mod tests;
