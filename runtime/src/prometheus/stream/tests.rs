//! Bodies that come in pieces, whole or broken.

use rstest::rstest;

use super::*;

/// Rows as texts; one with the label `strange` was not asked for.
#[derive(Default)]
struct Taken(Vec<String>);

impl Rows for Taken {
    fn take(&mut self, labels: &RowLabels<'_>, value: RowValue) -> bool {
        let text = labels.iter().map(|(name, value)| format!("{name}={value}"));
        self.0
            .push(format!("{} {value:?}", text.collect::<Vec<_>>().join(",")));
        labels.iter().all(|(name, _)| name != "strange")
    }
}

/// The rows of `body` that comes in chunks of `size`, and its warnings.
fn read(body: impl Into<Vec<u8>>, size: usize) -> (Vec<String>, Result<Vec<String>, Unusable>) {
    let mut scanner = Scanner::new(StatusCode::OK);
    let mut taken = Taken::default();
    for chunk in body.into().chunks(size) {
        if let Err(error) = scanner.feed(chunk, &mut taken) {
            return (taken.0, Err(error));
        }
    }
    (taken.0, scanner.finish())
}

fn vector(rows: &str) -> String {
    format!(
        "{{\"status\":\"success\",\"data\":{{\"resultType\":\"vector\",\"result\":[{rows}]}},\"warnings\":[\"a store\",\"PromQL info: style\"]}}"
    )
}

const ROWS: &str = r#"{"metric":{"a":"1","b":"]},{\"x"},"value":[1.5,"2"]},
 {"metric":{},"value":[1,"+Inf"]},{"value":[1,"NaN"],"metric":{"data":"result"}}"#;

#[rstest]
fn rows_are_the_same_however_the_body_is_cut(#[values(1, 2, 3, 7, 4_096)] size: usize) {
    let (rows, warnings) = read(vector(ROWS), size);
    let want = [
        "a=1,b=]},{\"x Number(2.0)",
        " Number(inf)",
        "data=result Number(NaN)",
    ];
    assert_eq!(rows, want);
    assert_eq!(warnings.unwrap(), ["a store"]);
}

#[test]
fn a_native_histogram_is_a_row_too() {
    let row = r#"{"metric":{"a":"1"},"histogram":[1.5,{"count":"3","sum":"1.5","buckets":[[0,"0","0.5","2"],[0,"0.5","1","1"]]}]}"#;
    let (rows, warnings) = read(vector(row), 5);
    let want = "a=1 Native { count: 3.0, sum: 1.5, buckets: [(0.5, 2.0), (1.0, 1.0)] }";
    assert_eq!(rows, [want]);
    assert!(warnings.is_ok());
}

#[test]
fn an_answer_without_rows_is_whole() {
    let (rows, warnings) = read(vector(""), 9);
    assert!(rows.is_empty() && warnings.is_ok());
}

#[test]
fn order_and_further_fields_are_the_servers_own() {
    let body = r#" {"infos":["i"],"stats":{"result":[{"no":"row"}]},"data":{"more":[[1]],"result": [ {"metric":{"a":"1"},"value":[1,"2"]} ],"resultType":"vector"},"status":"success"}"#;
    let (rows, warnings) = read(body, 4);
    assert_eq!(rows, ["a=1 Number(2.0)"]);
    assert!(warnings.is_ok());
}

#[rstest]
#[case::cut_in_a_row(vector(ROWS)[..80].to_owned())]
#[case::cut_between_rows(vector(ROWS)[..106].to_owned())]
#[case::cut_after_the_rows(vector("").trim_end_matches('}').to_owned())]
#[case::a_range("{\"status\":\"success\",\"data\":{\"resultType\":\"matrix\",\"result\":[]}}".to_owned())]
#[case::no_row("{\"status\":\"success\",\"data\":{\"resultType\":\"scalar\",\"result\":[1,\"2\"]}}".to_owned())]
#[case::a_row_without_a_value(vector("{\"metric\":{}}"))]
#[case::a_word_for_a_number(vector("{\"metric\":{},\"value\":[1,\"x\"]}"))]
#[case::not_asked_for(vector("{\"metric\":{\"strange\":\"1\"},\"value\":[1,\"2\"]}"))]
#[case::a_list_in_the_list(vector("[[{\"metric\":{},\"value\":[1,\"2\"]}]]"))]
#[case::a_page("<html>no prometheus</html>".to_owned())]
#[case::nothing(String::new())]
fn whatever_is_not_a_whole_answer_is_none(#[case] body: String) {
    let (_, warnings) = read(body, 16);
    assert!(warnings.is_err(), "{warnings:?}");
}

#[test]
fn an_error_is_the_servers_however_many_rows_came_before() {
    let body = r#"{"status":"error","errorType":"execution","error":"too many samples","data":{"resultType":"vector","result":[{"metric":{"a":"1"},"value":[1,"2"]}]}}"#;
    let (_, answer) = read(body, 16);
    assert!(
        matches!(answer, Err(Unusable::NotEvaluated(_))),
        "{answer:?}"
    );
}

#[rstest]
#[case::around_rows(format!("{{\"status\":\"{}", "s".repeat(FRAME_BYTES_MAX)))]
#[case::in_a_row(vector(&format!("{{\"metric\":{{\"a\":\"{}\"}}}}", "a".repeat(ROW_BYTES_MAX))))]
fn nothing_grows_without_end(#[case] body: String) {
    let (_, answer) = read(body, 64 << 10);
    assert!(matches!(answer, Err(Unusable::TooLarge)), "{answer:?}");
}
