//! The watch behind the pages, on an API server that a test plays: objects come without the parts
//! that no page needs, and what is wrong with the watch is known. Time is virtual.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use kube::{Api, Client, ResourceExt as _, client::Body, runtime::reflector};
use pd_autoscaler::{
    Guarded,
    console::source::{About, Source, Trouble},
    selection::SelectionArgs,
};
use pd_core::PerRole;
use pd_runtime::leader::Leadership;
use serde_json::{Value, json};
use tokio::{sync::watch, time::sleep};

use crate::stage::sample;

/// The next answer to a list; watches last for ever.
type Lists = Arc<Mutex<(u16, Value)>>;

fn client(lists: &Lists, ended: &Arc<AtomicBool>) -> Client {
    let (lists, ended) = (Arc::clone(lists), Arc::clone(ended));
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let (lists, ended) = (Arc::clone(&lists), Arc::clone(&ended));
        async move {
            let is_watch = request.uri().query().unwrap_or_default().contains("watch=");
            while is_watch && !ended.swap(false, Ordering::Relaxed) {
                sleep(Duration::from_secs(1)).await;
            }
            let (code, body) = if is_watch {
                // A watch that began too long ago ends so: what is there is listed again.
                (200, json!({ "type": "ERROR", "object": refused(410).1 }))
            } else {
                lists.lock().unwrap().clone()
            };
            let response = http::Response::builder().status(code);
            response.body(Body::from(format!("{body}\n").into_bytes()))
        }
    });
    Client::new(service, "default")
}

fn listed(objects: &[Value]) -> (u16, Value) {
    let list = json!({
        "apiVersion": "pdautoscaler.io/v1alpha1", "kind": "PDAutoscalerList",
        "metadata": { "resourceVersion": "1" }, "items": objects,
    });
    (200, list)
}

fn refused(code: u16) -> (u16, Value) {
    let status = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
        "reason": "Refused", "message": "canary" });
    (code, status)
}

async fn until(holds: impl Fn() -> bool) {
    for _ in 0..600 {
        if holds() {
            return;
        }
        sleep(Duration::from_secs(1)).await;
    }
    panic!("it does not come");
}

#[tokio::test(start_paused = true)]
async fn objects_are_watched_sampled_and_forgotten() {
    let mut object = sample(0, "a", "b");
    object["metadata"]["managedFields"] = json!([{ "manager": "canary" }]);
    object["metadata"]["annotations"] = json!({ "note": "canary" });
    let lists: Lists = Arc::new(Mutex::new(refused(404)));
    let ended = Arc::default();
    let client = client(&lists, &ended);
    let following = watch::channel(Leadership::Following { leader: None });
    let about = About {
        identity: None,
        namespace: None,
        selection: SelectionArgs::default(),
    };
    let (objects, writer) = reflector::store();
    let source = Source::new(about, objects, following.1, jiff::Timestamp::now);
    assert_eq!(source.trouble(), Some(Trouble::Unlisted));
    let need = PerRole::from_fn(|_| Some(19));
    let follow = source.follow(Api::<Guarded>::all(client), writer, |_| Some(need));
    let scenario = async {
        until(|| source.trouble() == Some(Trouble::Absent)).await;
        *lists.lock().unwrap() = refused(403);
        until(|| source.trouble() == Some(Trouble::Forbidden)).await;
        *lists.lock().unwrap() = refused(500);
        until(|| source.trouble() == Some(Trouble::Unanswered)).await;
        *lists.lock().unwrap() = listed(&[object]);
        until(|| source.trouble().is_none()).await;
        let found = source.object("a", "b").unwrap();
        assert!(found.managed_fields().is_empty() && found.annotations().is_empty());

        until(|| source.points("a/b").len() >= 3).await;
        let (_, last) = *source.points("a/b").last().unwrap();
        assert_eq!(
            last.desired(),
            PerRole {
                prefill: Some(16),
                decode: Some(8)
            }
        );
        assert_eq!(last.need(), need);
        assert_eq!(last.attainment_percent().prefill, Some(91.2));

        *lists.lock().unwrap() = listed(&[]);
        ended.store(true, Ordering::Relaxed);
        until(|| source.objects().is_empty()).await;
        until(|| source.points("a/b").is_empty()).await;
    };
    tokio::select! {
        () = follow => panic!("it ended"),
        () = scenario => {}
    }
}
