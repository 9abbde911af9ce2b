//! The query about one object's gateway, made into a query about the gateways of many. Pure.
//!
//! A gateway serves many models, so its series are an object's by namespace and model, and no pod's
//! name says whose they are. Here every selector gets many namespaces and models, and whatever is
//! aggregated or matched keeps both apart. Models are the same whatever their case, as in the
//! object's own query. Refuses names of models that RE2 might fold otherwise.

use pd_signals::{gateway::Gateway, queries::gateway::GatewayScope};
use promql_parser::{
    label::Labels,
    parser::{
        self, AggregateExpr, BinaryExpr, Call, Expr, LabelModifier, MatrixSelector, VectorSelector,
    },
};

use super::{
    Grouped, GroupingError, HOMES, Join, MODELS, OF_ALL, Of, Part, flatten, join, numbered,
    pattern, untagged,
};

/// `model` as it is compared; nothing where it cannot be.
pub fn comparable(model: &str) -> Option<String> {
    (!model.is_empty() && model.is_ascii()).then(|| folded(model))
}

/// `model` in the case in which models are compared. RE2 folds two more characters to ASCII than
/// lower case does; one of them is a lower-case letter itself.
pub fn folded(model: &str) -> String {
    model.to_lowercase().replace('ſ', "s")
}

/// The query about `gateway` of many objects, each with the windows and labels of `scope`.
pub fn of_gateway(
    scope: &GatewayScope,
    gateway: &'static Gateway,
) -> Result<Grouped, GroupingError> {
    let scope = GatewayScope {
        namespaces: vec!["n".to_owned()],
        model: "m".to_owned(),
        ..scope.clone()
    };
    let label = gateway.model_label;
    if scope.namespace_label == label || scope.pod_label == label {
        return Err(GroupingError::Unknown(
            "the label of namespaces or pods is that of models too",
        ));
    }
    let expression = parser::parse(&scope.counts(gateway)).map_err(GroupingError::Unparsed)?;
    let mut whole = Vec::new();
    flatten(expression, &mut whole);
    let (mut parts, mut texts) = (Vec::new(), Vec::new());
    let rewriting = Rewriting([&scope.namespace_label, label]);
    for part in whole {
        let (tag, mut expression) = untagged(part)?;
        if join(&expression) != Some(Join::Add) {
            return Err(GroupingError::Unknown("a part of a gateway is no sum"));
        }
        rewriting.rewrite(&mut expression)?;
        texts.push(numbered(&expression.to_string(), parts.len()));
        parts.push(Part {
            tags: vec![(tag, None)],
            join: Join::Add,
            of: Of::Models(label),
        });
    }
    Ok(Grouped {
        text: texts.join(" or "),
        parts,
    })
}

/// Keeps series apart by the labels of namespace and model.
#[derive(Clone, Copy)]
struct Rewriting<'a>([&'a str; 2]);

impl Rewriting<'_> {
    fn rewrite(self, expression: &mut Expr) -> Result<(), GroupingError> {
        match expression {
            Expr::VectorSelector(selector) => self.widen(selector),
            Expr::MatrixSelector(MatrixSelector { vs, .. }) => self.widen(vs),
            Expr::Unary(unary) => self.rewrite(&mut unary.expr),
            Expr::Paren(inner) => self.rewrite(&mut inner.expr),
            Expr::Subquery(subquery) => self.rewrite(&mut subquery.expr),
            Expr::NumberLiteral(_) | Expr::StringLiteral(_) => Ok(()),
            Expr::Extension(_) => Err(GroupingError::Unknown("it has an extension")),
            Expr::Binary(binary) => self.binary(binary),
            Expr::Call(call) => self.call(call),
            Expr::Aggregate(aggregate) => self.aggregate(aggregate),
        }
    }

    fn binary(self, binary: &mut BinaryExpr) -> Result<(), GroupingError> {
        self.rewrite(&mut binary.lhs)?;
        self.rewrite(&mut binary.rhs)?;
        let matching = binary.modifier.as_mut().and_then(|m| m.matching.as_mut());
        match matching {
            // All labels are matched, and these are among them.
            None => Ok(()),
            Some(LabelModifier::Include(labels)) => {
                self.keep(labels);
                Ok(())
            }
            Some(LabelModifier::Exclude(_)) => {
                Err(GroupingError::Unknown("it leaves labels out of a match"))
            }
        }
    }

    fn call(self, call: &mut Call) -> Result<(), GroupingError> {
        if OF_ALL.contains(&call.func.name) {
            return Err(GroupingError::Unknown("it has a function of all series"));
        }
        let mut arguments = call.args.args.iter_mut();
        arguments.try_for_each(|argument| self.rewrite(argument))
    }

    fn aggregate(self, aggregate: &mut AggregateExpr) -> Result<(), GroupingError> {
        if aggregate.param.is_some() {
            return Err(GroupingError::Unknown("it picks some of all series"));
        }
        self.rewrite(&mut aggregate.expr)?;
        let none = || LabelModifier::Include(Labels::new(Vec::new()));
        let LabelModifier::Include(labels) = aggregate.modifier.get_or_insert_with(none) else {
            return Err(GroupingError::Unknown("it aggregates without labels"));
        };
        self.keep(labels);
        Ok(())
    }

    fn keep(self, labels: &mut Labels) {
        for label in self.0 {
            if !labels.labels.iter().any(|known| known == label) {
                labels.labels.push(label.to_owned());
            }
        }
    }

    fn widen(self, selector: &mut VectorSelector) -> Result<(), GroupingError> {
        let [namespace, model] = self.0;
        let matchers = &mut selector.matchers.matchers;
        let before = matchers.len();
        matchers.retain(|matcher| matcher.name != namespace && matcher.name != model);
        if matchers.len() + 2 != before {
            return Err(GroupingError::Unknown("a selector is of no one model"));
        }
        matchers.push(pattern(namespace, HOMES)?);
        matchers.push(pattern(model, MODELS)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pd_signals::gateway::GATEWAYS;

    use super::*;
    use crate::grouping::Names;

    fn scope() -> GatewayScope {
        GatewayScope {
            gateway: None,
            namespace_label: "namespace".into(),
            pod_label: "pod".into(),
            namespaces: vec!["inference".into()],
            model: "Meta/Llama".into(),
            window: Duration::from_mins(2),
            attainment_window: Duration::from_hours(1),
        }
    }

    fn names<'a>(models: &'a [&'a str]) -> Names<'a> {
        Names {
            namespaces: &["team-a", "team-b"],
            homes: &[],
            keys: &[],
            models,
        }
    }

    #[test]
    fn every_gateway_can_be_read_for_many_and_no_selector_is_left_as_it_was() {
        for gateway in GATEWAYS {
            let grouped = of_gateway(&scope(), gateway).unwrap();
            let text = grouped.text(&names(&[])).unwrap();
            let selectors = text.matches('{').count();
            let namespaces = text.matches("namespace=~\"team-a|team-b\"").count();
            let models = format!("{}=~\".+\"", gateway.model_label);
            assert_eq!(namespaces, selectors, "{text}");
            assert_eq!(text.matches(&models).count(), selectors, "{text}");
            assert!(!text.contains("(?i:m)") && !text.contains('<'), "{text}");
            let aggregations = text.matches(" by (").count();
            let kept = text.matches(gateway.model_label).count();
            assert!(kept >= selectors + aggregations, "{text}");
        }
    }

    #[test]
    fn models_that_are_named_are_taken_as_they_are() {
        let grouped = of_gateway(&scope(), GATEWAYS[0]).unwrap();
        let text = grouped.text(&names(&["a.b/c", "d\"\\"])).unwrap();
        assert!(text.contains(r#"=~"(?i:a\\.b/c|d\\\"\\\\)""#), "{text}");
    }

    #[test]
    fn models_are_compared_as_re2_folds_them() {
        assert_eq!(comparable("Meta/Llama").as_deref(), Some("meta/llama"));
        assert_eq!(folded("\u{212a}ſ"), "ks");
        assert_eq!(comparable(""), None);
        assert_eq!(comparable("größe"), None);
    }

    #[test]
    fn a_label_with_two_meanings_is_refused() {
        let twice = GatewayScope {
            namespace_label: GATEWAYS[0].model_label.into(),
            ..scope()
        };
        assert!(of_gateway(&twice, GATEWAYS[0]).is_err());
    }
}
