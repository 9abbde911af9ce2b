//! Answers over HTTP: what is served and what is refused, to whom, and with which headers.

use axum::{
    body::{Body, to_bytes},
    http::{HeaderMap, Method, Request, StatusCode, header},
};
use pd_autoscaler::{console::source::Trouble, selection::SelectionArgs};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::stage::{Stage, sample};

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

async fn ask(stage: &Stage, method: Method, path: &str, host: &str) -> Answer {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, host)
        .body(Body::empty())
        .unwrap();
    let response = stage.router().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    Answer {
        status: parts.status,
        headers: parts.headers,
        body: String::from_utf8(body.to_vec()).unwrap(),
    }
}

async fn get(stage: &Stage, path: &str) -> String {
    let answer = ask(stage, Method::GET, path, "localhost:8085").await;
    assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.body);
    answer.body
}

async fn json_of(stage: &Stage, path: &str) -> Value {
    serde_json::from_str(&get(stage, path).await).unwrap()
}

const PAGES: [&str; 7] = [
    "/",
    "/pdautoscalers/inference/llama-70b",
    "/api/pdautoscalers",
    "/api/pdautoscalers/inference/llama-70b",
    "/console.css",
    "/console.js",
    "/favicon.svg",
];

#[tokio::test]
async fn it_answers_reads_and_refuses_everything_else() {
    let stage = Stage::with_an_hour();
    for path in PAGES {
        let read = ask(&stage, Method::GET, path, "localhost").await;
        assert_eq!(read.status, StatusCode::OK, "{path}");
        let head = ask(&stage, Method::HEAD, path, "localhost").await;
        assert_eq!(
            (head.status, head.body.as_str()),
            (StatusCode::OK, ""),
            "{path}"
        );
        for method in [
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
            Method::OPTIONS,
        ] {
            let answer = ask(&stage, method, path, "localhost").await;
            assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
        }
    }
    let other = ask(&stage, Method::GET, "/metrics", "localhost").await;
    assert_eq!(other.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn every_answer_is_bound_to_its_own_origin() {
    let stage = Stage::with_an_hour();
    let refused = [
        (Method::POST, "/", "localhost"),
        (Method::GET, "/nowhere", "localhost"),
        (Method::GET, "/", "evil.example.com"),
        (Method::GET, "/pdautoscalers/a/b", "localhost"),
    ];
    let read = PAGES.map(|path| (Method::GET, path, "localhost"));
    for (method, path, host) in read.into_iter().chain(refused) {
        let headers = ask(&stage, method, path, host).await.headers;
        let of = |name: &str| headers[name].to_str().unwrap().to_owned();
        let policy = of("content-security-policy");
        assert!(
            policy.starts_with("default-src 'none';"),
            "{path}: {policy}"
        );
        assert!(
            policy.contains("frame-ancestors 'none'"),
            "{path}: {policy}"
        );
        assert!(
            !policy.contains("unsafe") && !policy.contains("http"),
            "{path}: {policy}"
        );
        assert_eq!(of("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(of("cache-control"), "no-store", "{path}");
        assert!(headers.get(header::SET_COOKIE).is_none(), "{path}");
        assert!(
            headers.get(header::ACCESS_CONTROL_ALLOW_ORIGIN).is_none(),
            "{path}"
        );
    }
}

/// By a name of its own that it points to this machine, a foreign page could read a forwarded port.
#[tokio::test]
async fn a_host_that_a_stranger_may_own_is_refused_with_a_remedy() {
    let stage = Stage::with_an_hour();
    let answer = ask(
        &stage,
        Method::GET,
        "/api/pdautoscalers",
        "evil.example.com",
    )
    .await;
    assert_eq!(answer.status, StatusCode::MISDIRECTED_REQUEST);
    assert!(answer.body.contains("--console-hosts"), "{}", answer.body);
    assert!(!answer.body.contains("llama"), "{}", answer.body);
}

#[tokio::test]
async fn pages_load_nothing_from_elsewhere_and_work_below_any_path() {
    let stage = Stage::with_an_hour();
    for path in &PAGES[..2] {
        let page = get(&stage, path).await;
        for attribute in ["href=\"", "src=\"", "action=\""] {
            for (at, _) in page.match_indices(attribute) {
                let target = &page[at + attribute.len()..];
                assert!(
                    !target.starts_with(['/', 'h']) && !target.starts_with("data:"),
                    "{path}: {}",
                    target.chars().take(40).collect::<String>()
                );
            }
        }
        assert!(
            !page.contains("style=\"") && !page.contains("<style"),
            "{path}"
        );
        assert!(
            !page.contains(" onclick") && !page.contains("<script>"),
            "{path}"
        );
    }
}

const EVIL: &str = "</td><script>alert(1)</script>\"'><img src=x onerror=alert(1)>&amp;";

#[tokio::test]
async fn texts_of_tenants_stay_texts() {
    let mut stage = Stage::new();
    let mut object = sample(0, "a", "b");
    for path in [
        "/status/conditions/0/message",
        "/status/conditions/0/reason",
        "/status/conditions/5/reason",
        "/status/conditions/7/type",
        "/status/lastDecision/message",
        "/status/lastDecision/reason",
        "/status/lastDecision/steps/0/message",
        "/status/lastDecision/steps/0/stage",
        "/status/bottleneck",
        "/status/ratio/current",
        "/status/attainment/ttftPercent",
        "/status/engine",
        "/spec/prefill/target/name",
        "/spec/objective/ttft/target",
    ] {
        *object.pointer_mut(path).unwrap() = EVIL.into();
    }
    stage.put(&object);
    stage.tick(None);
    for path in ["/", "/pdautoscalers/a/b"] {
        let page = get(&stage, path).await;
        assert!(page.contains("&lt;script&gt;alert(1)"), "{path}");
        for evil in ["<script>", "<img", "onerror=alert(1)>", "\"'>"] {
            assert!(!page.contains(evil), "{path}: {evil}");
        }
    }
    let answer = json_of(&stage, "/api/pdautoscalers/a/b").await;
    assert_eq!(answer["bottleneck"], EVIL);
    let search = "/?q=%22%3E%3Cscript%3E";
    let page = get(&stage, search).await;
    assert!(page.contains("value=\"&quot;&gt;&lt;script&gt;\""));
    let nowhere = ask(&stage, Method::GET, "/pdautoscalers/%3Cb%3E/x", "localhost").await;
    assert_eq!(nowhere.status, StatusCode::NOT_FOUND);
    assert!(nowhere.body.contains("&lt;b&gt;") && !nowhere.body.contains("<b>"));
}

#[tokio::test]
async fn servers_queries_and_annotations_of_tenants_are_not_shown() {
    let mut stage = Stage::new();
    let mut object = sample(1, "a", "b");
    object["metadata"]["annotations"] = json!({ "note": "canary-annotation" });
    object["spec"]["metrics"] =
        json!({ "source": { "serverUrl": "http://canary-server.a.svc:9090" } });
    stage.put(&object);
    stage.tick(None);
    for path in [
        "/",
        "/pdautoscalers/a/b",
        "/api/pdautoscalers",
        "/api/pdautoscalers/a/b",
    ] {
        assert!(!get(&stage, path).await.contains("canary"), "{path}");
    }
}

#[tokio::test]
async fn objects_of_other_controllers_are_nowhere() {
    let mut stage = Stage::of(SelectionArgs {
        controller_class: "blue".to_owned(),
        ..SelectionArgs::default()
    });
    let mut ours = sample(1, "a", "ours");
    ours["spec"]["controllerClass"] = "blue".into();
    stage.put(&ours);
    stage.put(&sample(1, "a", "theirs"));
    stage.tick(None);
    let list = get(&stage, "/").await;
    assert!(list.contains("ours") && !list.contains("theirs"));
    assert_eq!(
        json_of(&stage, "/api/pdautoscalers").await["summary"]["objects"],
        1
    );
    for path in ["/pdautoscalers/a/theirs", "/api/pdautoscalers/a/theirs"] {
        let answer = ask(&stage, Method::GET, path, "localhost").await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
    }
    assert!(stage.source.points("a/theirs").is_empty());
}

#[tokio::test]
async fn an_object_that_cannot_be_decoded_has_a_line_that_says_so() {
    let mut stage = Stage::new();
    let mut object = sample(1, "a", "broken");
    object["spec"]["prefill"] = json!("none");
    stage.put(&object);
    stage.tick(None);
    let list = get(&stage, "/").await;
    assert!(
        list.contains("broken") && list.contains("Not ready"),
        "{list}"
    );
    let page = get(&stage, "/pdautoscalers/a/broken").await;
    assert!(page.contains("It cannot be decoded"), "{page}");
}

#[tokio::test]
async fn deleted_objects_leave_with_their_history() {
    let mut stage = Stage::with_an_hour();
    let object = sample(0, "inference", "llama-70b");
    assert_eq!(stage.source.points("inference/llama-70b").len(), 120);
    stage.delete(&object);
    stage.tick(None);
    assert!(!get(&stage, "/").await.contains("llama-70b"));
    assert!(stage.source.points("inference/llama-70b").is_empty());
    let path = "/pdautoscalers/inference/llama-70b";
    let answer = ask(&stage, Method::GET, path, "localhost").await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert!(answer.body.contains("Not here"), "{}", answer.body);
}

#[tokio::test]
async fn an_empty_console_says_why_it_is_empty() {
    let stage = Stage::new();
    assert!(get(&stage, "/").await.contains("No PDAutoscalers"));
    for (trouble, want) in [
        (Trouble::Unlisted, "read for the first time"),
        (Trouble::Absent, "crds.enabled"),
        (Trouble::Forbidden, "may not list"),
        (Trouble::Unanswered, "does not answer"),
    ] {
        stage.source.report(Some(trouble));
        let page = get(&stage, "/").await;
        assert!(
            page.contains(want) && !page.contains("No PDAutoscalers"),
            "{trouble:?}"
        );
        let answer = json_of(&stage, "/api/pdautoscalers").await;
        assert_eq!(answer["controller"]["trouble"], format!("{trouble:?}"));
    }
}

#[tokio::test]
async fn a_controller_that_stands_by_shows_status_and_names_the_leader() {
    let stage = Stage::with_an_hour();
    assert!(get(&stage, "/").await.contains(">leads<"));
    stage.follow(Some("pd-autoscaler-other"));
    let page = get(&stage, "/").await;
    assert!(page.contains("pd-autoscaler-other decides") && page.contains("llama-70b"));
    let answer = json_of(&stage, "/api/pdautoscalers").await;
    assert_eq!(answer["controller"]["leads"], false);
    assert_eq!(answer["controller"]["leader"], "pd-autoscaler-other");
    stage.follow(None);
    assert!(get(&stage, "/").await.contains("No controller leads"));
}

#[tokio::test]
async fn ten_thousand_objects_are_a_hundred_pages() {
    let mut stage = Stage::new();
    for number in 0..10_000 {
        let namespace = format!("team-{:02}", number % 40);
        stage.put(&sample(number, &namespace, &format!("service-{number:05}")));
    }
    stage.tick(Some(3));
    let page = get(&stage, "/").await;
    assert_eq!(page.matches("role=\"rowheader\"").count(), 100);
    assert!(page.contains("Page 1 of 100") && page.contains("1 to 100 of 10000"));
    assert!(page.len() < 600_000, "{} bytes", page.len());
    let last = get(&stage, "/?page=100").await;
    assert!(last.contains("Previous") && !last.contains(">Next<"));
    assert!(get(&stage, "/?page=4000").await.contains("Page 100 of 100"));
    let found = json_of(&stage, "/api/pdautoscalers?q=team-07%2Fservice-00007").await;
    assert_eq!(
        (found["found"].as_u64(), found["pages"].as_u64()),
        (Some(1), Some(1))
    );
    let missed = json_of(&stage, "/api/pdautoscalers?show=objective-missed").await;
    assert_eq!(missed["found"], missed["summary"]["objectiveMissed"]);
    assert!(missed["found"].as_u64().unwrap() >= 2_000);
}

#[tokio::test]
async fn programs_get_status_the_record_and_the_hour() {
    let stage = Stage::with_an_hour();
    let answer = json_of(&stage, "/api/pdautoscalers/inference/llama-70b").await;
    assert_eq!(answer["status"]["lastDecision"]["reason"], "AtMaximum");
    assert_eq!(
        answer["explanation"]["lastDecision"],
        answer["status"]["lastDecision"]
    );
    assert!(answer["explanation"]["reasonMeans"].is_string());
    let history = &answer["history"];
    for series in [
        &history["times"],
        &history["prefill"]["desired"],
        &history["prefill"]["needed"],
        &history["decode"]["ready"],
        &history["attainmentPercent"]["ttft"],
    ] {
        assert_eq!(series.as_array().unwrap().len(), 120);
    }
    assert!(history["prefill"]["needed"][0].is_null());
    assert_eq!(history["prefill"]["needed"][119], 16);
    assert_eq!(history["attainmentPercent"]["tpot"][0], 99.91);
}

#[tokio::test]
async fn the_page_of_an_object_has_the_record_as_the_plugin_prints_it() {
    let stage = Stage::with_an_hour();
    let page = get(&stage, "/pdautoscalers/inference/llama-70b").await;
    let object = sample(0, "inference", "llama-70b");
    let decision = serde_json::from_value(object["status"]["lastDecision"].clone()).unwrap();
    let text = |text: &str| text.replace('\'', "&#39;").replace('>', "&gt;");
    for stage in pd_api::explanation::stages(&decision) {
        assert!(page.contains(&text(stage.title)), "{}", stage.title);
        for step in stage.steps {
            assert!(page.contains(&text(&step.sentence)), "{}", step.sentence);
        }
    }
    assert!(page.contains("kubectl pd why-not llama-70b -n inference"));
}
