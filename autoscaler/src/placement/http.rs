//! The question over HTTP, to pd-scheduler-plugin.

use std::{sync::Arc, time::Duration};

use futures::FutureExt as _;
use pd_runtime::kubernetes::install_crypto_provider;
use reqwest::{Client, Url, redirect};
use serde::Deserialize;

use super::question::{Answer, Ask, NoAnswer, Question};

/// Longest wait for an answer. A decision is late rather than never.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Longest answer, bytes: an explanation of some domains.
const ANSWER_MAX: usize = 1 << 20;

/// An answer that is none.
#[derive(Deserialize)]
struct Fault {
    error: String,
}

/// Reads the flag: the address of the service, without a path.
pub fn url(text: &str) -> Result<Url, String> {
    let url: Url = text
        .parse()
        .map_err(|error| format!("`{text}` is no URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.path() != "/" || url.query().is_some() {
        return Err(format!(
            "`{text}` is no address of a service: write it as http://NAME:PORT"
        ));
    }
    Ok(url)
}

/// Asks the service at `url`.
pub fn ask(url: Url) -> Ask {
    install_crypto_provider();
    let client = Client::builder()
        .timeout(TIMEOUT)
        .redirect(redirect::Policy::none())
        .no_proxy()
        .build();
    let client = client.map_err(|error| NoAnswer(format!("no client can be made: {error}")));
    Arc::new(move |question| {
        let (client, url) = (client.clone(), url.clone());
        async move { answer(&client?, url, question).await }.boxed()
    })
}

async fn answer(client: &Client, mut url: Url, question: Question) -> Result<Answer, NoAnswer> {
    let failed = |error: reqwest::Error| NoAnswer(error.without_url().to_string());
    if let Ok(mut path) = url.path_segments_mut() {
        path.clear()
            .extend(["what-if", &question.namespace, &question.group]);
    }
    for (role, replicas) in &question.more {
        url.query_pairs_mut()
            .append_pair(role, &replicas.to_string());
    }
    let mut response = client.get(url).send().await.map_err(failed)?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if body.len() + chunk.len() > ANSWER_MAX {
            return Err(NoAnswer(format!("it is longer than {ANSWER_MAX} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    if !status.is_success() {
        let fault = serde_json::from_slice::<Fault>(&body);
        let words = fault.map_or_else(|_| String::new(), |fault| format!(": {}", fault.error));
        return Err(NoAnswer(format!("{status}{words}")));
    }
    serde_json::from_slice(&body).map_err(|error| NoAnswer(format!("it is no answer: {error}")))
}

#[cfg(test)]
mod tests {
    use axum::{
        Router,
        extract::State,
        http::{StatusCode, Uri},
        routing::get,
    };
    use rstest::rstest;
    use tokio::net::TcpListener;

    use super::*;

    #[rstest]
    #[case::plain("http://pd-control.pd:8082", true)]
    #[case::tls("https://pd-control", true)]
    #[case::a_path("http://pd-control/what-if", false)]
    #[case::a_query("http://pd-control?a=b", false)]
    #[case::another_scheme("ftp://pd-control", false)]
    #[case::no_scheme("pd-control:8082", false)]
    fn addresses_of_services_are_taken(#[case] text: &str, #[case] is_one: bool) {
        assert_eq!(url(text).is_ok(), is_one, "{text}");
    }

    async fn answered(
        status: StatusCode,
        body: &'static str,
    ) -> (Result<Answer, NoAnswer>, String) {
        let (seen, asked) = tokio::sync::watch::channel(String::new());
        let seen = Arc::new(seen);
        let router = Router::new()
            .fallback(get(
                move |State(seen): State<Arc<tokio::sync::watch::Sender<String>>>,
                      uri: Uri| async move {
                    seen.send_replace(uri.to_string());
                    (status, body)
                },
            ))
            .with_state(seen);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        let question = Question {
            namespace: "ns".to_owned(),
            group: "a/b?c".to_owned(),
            more: [("decode".to_owned(), 2), ("pre&fill".to_owned(), 1)].into(),
        };
        let answer = ask(url(&format!("http://{address}")).unwrap())(question).await;
        let asked = asked.borrow().clone();
        (answer, asked)
    }

    #[tokio::test]
    async fn names_cannot_change_the_question() {
        let body = r#"{"fits":false,"granted":{"decode":1},"message":"full","setsAtMost":0}"#;
        let (answer, asked) = answered(StatusCode::OK, body).await;
        assert_eq!(asked, "/what-if/ns/a%2Fb%3Fc?decode=2&pre%26fill=1");
        let answer = answer.unwrap();
        assert_eq!(answer.granted, [("decode".to_owned(), 1)].into());
        assert_eq!(answer.message, "full");
    }

    #[rstest]
    #[case::unknown(StatusCode::NOT_FOUND, r#"{"error":"no group"}"#, "no group")]
    #[case::elsewhere(StatusCode::FOUND, "", "302")]
    #[case::no_json(StatusCode::OK, "<html>", "it is no answer")]
    #[tokio::test]
    async fn anything_else_is_no_answer(
        #[case] status: StatusCode,
        #[case] body: &'static str,
        #[case] words: &str,
    ) {
        let (answer, _) = answered(status, body).await;
        let error = answer.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }

    #[tokio::test]
    async fn nobody_there_is_no_answer() {
        let question = Question {
            namespace: "ns".to_owned(),
            group: "g".to_owned(),
            more: [("decode".to_owned(), 1)].into(),
        };
        let answer = ask(url("http://127.0.0.1:1").unwrap())(question).await;
        assert!(answer.is_err());
    }
}
