//! PromQL that sees one namespace: every selector gets one matcher more.
//!
//! The query is parsed, changed and written again; its own text is never sent. The result is parsed
//! once more and must be the changed query, so that no text in a string can become a selector.
//! Whatever is not understood is refused.

use promql_parser::{
    label::{MatchOp, Matcher},
    parser::{self, Expr, VectorSelector},
};

/// Why a query cannot be confined to a namespace.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfineError {
    /// It is no PromQL, or of a newer kind.
    #[error("cannot be parsed: {0}")]
    Unparsed(String),
    /// It uses something that reads series without a selector.
    #[error("uses {0}, which cannot be confined to a namespace: leave it out")]
    Unconfined(&'static str),
    /// Its rewritten text means something else.
    #[error("cannot be written with a matcher of the namespace: use plain strings")]
    Unfaithful,
}

/// `query` with every selector confined to series whose `label` is `namespace`.
pub fn confine(query: &str, label: &str, namespace: &str) -> Result<String, ConfineError> {
    let parse = |text: &str| parser::parse(text).map_err(ConfineError::Unparsed);
    let mut expression = parse(query)?;
    let matcher = Matcher::new(MatchOp::Equal, label, namespace);
    confine_expression(&mut expression, &matcher)?;
    let text = expression.to_string();
    if parse(&text)? == expression {
        Ok(text)
    } else {
        Err(ConfineError::Unfaithful)
    }
}

/// Exhaustive, for a kind of expression that is passed over would be a hole.
fn confine_expression(expression: &mut Expr, matcher: &Matcher) -> Result<(), ConfineError> {
    match expression {
        Expr::Aggregate(aggregate) => {
            if let Some(parameter) = &mut aggregate.param {
                confine_expression(parameter, matcher)?;
            }
            confine_expression(&mut aggregate.expr, matcher)
        }
        Expr::Unary(unary) => confine_expression(&mut unary.expr, matcher),
        Expr::Binary(binary) => {
            confine_expression(&mut binary.lhs, matcher)?;
            confine_expression(&mut binary.rhs, matcher)
        }
        Expr::Paren(inner) => confine_expression(&mut inner.expr, matcher),
        Expr::Subquery(subquery) => confine_expression(&mut subquery.expr, matcher),
        Expr::NumberLiteral(_) | Expr::StringLiteral(_) => Ok(()),
        Expr::VectorSelector(selector) => confine_selector(selector, matcher),
        Expr::MatrixSelector(selector) => confine_selector(&mut selector.vs, matcher),
        // It reads info series by their labels, with no selector for them.
        Expr::Call(call) if call.func.name == "info" => Err(ConfineError::Unconfined("info()")),
        Expr::Call(call) => {
            let mut arguments = call.args.args.iter_mut();
            arguments.try_for_each(|argument| confine_expression(argument, matcher))
        }
        Expr::Extension(_) => Err(ConfineError::Unconfined("an extension")),
    }
}

fn confine_selector(selector: &mut VectorSelector, matcher: &Matcher) -> Result<(), ConfineError> {
    let matchers = &mut selector.matchers;
    if !matchers.or_matchers.is_empty() {
        return Err(ConfineError::Unconfined("`or` between matchers"));
    }
    matchers.matchers.push(matcher.clone());
    // Matchers are written in this order, by which the rewritten text is compared.
    matchers.matchers.sort_by_key(ToString::to_string);
    Ok(())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("up", r#"up{ns="a"}"#)]
    #[case("vector(5)", "vector(5)")]
    #[case(r#"{__name__=~".+"}"#, r#"{__name__=~".+",ns="a"}"#)]
    #[case("x{ns=\"b\"}", r#"x{ns="a",ns="b"}"#)]
    #[case(r#"x{z="1",b!~"2"}"#, r#"x{b!~"2",ns="a",z="1"}"#)]
    #[case("rate(x[5m] offset 1m)", r#"rate(x{ns="a"}[5m] offset 1m)"#)]
    #[case("sum by (ns) (x)", r#"sum by (ns) (x{ns="a"})"#)]
    #[case("topk(scalar(y), x)", r#"topk(scalar(y{ns="a"}), x{ns="a"})"#)]
    #[case(
        "quantile(scalar(max(y)), x)",
        r#"quantile(scalar(max(y{ns="a"})), x{ns="a"})"#
    )]
    #[case(
        "-x ^ y or z unless w",
        r#"-x{ns="a"} ^ y{ns="a"} or z{ns="a"} unless w{ns="a"}"#
    )]
    #[case(
        "a * on (p) group_left (q) b",
        r#"a{ns="a"} * on (p) group_left (q) b{ns="a"}"#
    )]
    #[case("max_over_time((x)[5m:1m])", r#"max_over_time((x{ns="a"})[5m:1m])"#)]
    #[case("absent(x) # {ns=\"b\"}", r#"absent(x{ns="a"})"#)]
    #[case(
        r#"label_replace(x, "l", "\") or y{", "m", "")"#,
        r#"label_replace(x{ns="a"}, "l", "\") or y{", "m", "")"#
    )]
    #[case(r#"{"a.b"}"#, r#"{__name__="a.b",ns="a"}"#)]
    #[case(r#"x{l="\"} or y{m=\""}"#, r#"x{l="\"} or y{m=\"",ns="a"}"#)]
    fn every_selector_sees_one_namespace(#[case] query: &str, #[case] confined: &str) {
        assert_eq!(confine(query, "ns", "a").as_deref(), Ok(confined));
    }

    #[rstest]
    #[case::no_promql("sum(")]
    #[case::two("x; y")]
    #[case::empty("")]
    #[case::info("info(x)")]
    #[case::info_with_selector(r#"info(x, {l="m"})"#)]
    #[case::info_inside("sum(info(x) + 1)")]
    #[case::either(r#"x{l="a" or ns="b"}"#)]
    fn whatever_cannot_be_confined_is_refused(#[case] query: &str) {
        assert!(confine(query, "ns", "a").is_err());
    }

    #[test]
    fn a_namespace_is_a_text_and_no_query() {
        let confined = confine("x", "ns", r#"a"} or y{l=""#).unwrap();
        assert_eq!(confined, r#"x{ns="a\"} or y{l=\""}"#);
    }
}
