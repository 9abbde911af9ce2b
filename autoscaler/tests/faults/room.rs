//! Room in a placement group: nothing is requested that has no place, and who does not answer holds
//! nothing back.

use std::sync::{Arc, Mutex};

use futures::FutureExt as _;
use pd_autoscaler::placement::question::{Answer, Ask, NoAnswer, Question};

use crate::{api_server::ApiServer, stage::Stage};

/// The questions that were asked, and the answer to all.
#[derive(Clone)]
struct Rooms {
    asked: Arc<Mutex<Vec<Question>>>,
    answer: Arc<Mutex<Result<Answer, NoAnswer>>>,
}

impl Rooms {
    fn of(answer: Result<Answer, NoAnswer>) -> Self {
        Self {
            asked: Arc::default(),
            answer: Arc::new(Mutex::new(answer)),
        }
    }

    fn ask(&self) -> Ask {
        let rooms = self.clone();
        Arc::new(move |question| {
            rooms.asked.lock().unwrap().push(question);
            let answer = rooms.answer.lock().unwrap().clone();
            async move { answer }.boxed()
        })
    }
}

fn full() -> Answer {
    Answer {
        message: "no rack holds 1 more".to_owned(),
        ..Answer::default()
    }
}

fn enough() -> Answer {
    Answer {
        fits: true,
        ..Answer::default()
    }
}

/// A service that wants a second prefill replica, 20 s after the controller started.
async fn stage(rooms: &Rooms, facts: impl FnOnce(&ApiServer)) -> Stage {
    let (stage, start) = Stage::new();
    facts(&stage.server);
    start.controller_asking(rooms.ask());
    stage.wait(20).await;
    stage
}

#[tokio::test(start_paused = true)]
async fn nothing_is_requested_that_has_no_place_and_the_condition_says_so() {
    let rooms = Rooms::of(Ok(full()));
    let stage = stage(&rooms, |server| server.set_group("llama")).await;
    assert_eq!(stage.server.replicas("llama-prefill"), 1);
    let (status, reason, message) = stage.server.condition("llama", "ScalingLimited");
    assert_eq!(
        (status.as_str(), reason.as_str()),
        ("True", "PlacementLimited")
    );
    assert_eq!(
        message,
        "PlacementGroup `llama` has room for 0 of 1 more prefill: no rack holds 1 more"
    );
    let asked = rooms.asked.lock().unwrap()[0].clone();
    assert_eq!(asked.more, [("prefill".to_owned(), 1)].into());
    stage.wait(300).await;
    assert_eq!(
        stage.server.replicas("llama-decode"),
        4,
        "the role that shrinks is not held"
    );
    *rooms.answer.lock().unwrap() = Ok(enough());
    stage.wait(30).await;
    assert_eq!(stage.server.replicas("llama-prefill"), 2);
    let (_, reason, _) = stage.server.condition("llama", "ScalingLimited");
    assert_ne!(reason, "PlacementLimited");
}

#[tokio::test(start_paused = true)]
async fn who_does_not_answer_holds_nothing_back() {
    let rooms = Rooms::of(Err(NoAnswer("503".to_owned())));
    let stage = stage(&rooms, |server| server.set_group("llama")).await;
    stage.assert_all_is_applied();
    assert!(stage.metric("pd_autoscaler_api_errors_total{category=\"what-if\"}") >= 1);
}

#[tokio::test(start_paused = true)]
async fn pods_of_no_group_are_asked_about_nowhere() {
    let rooms = Rooms::of(Ok(full()));
    let stage = stage(&rooms, |_| {}).await;
    stage.assert_all_is_applied();
    assert!(rooms.asked.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn nobody_is_asked_while_nothing_grows() {
    let rooms = Rooms::of(Ok(enough()));
    let stage = stage(&rooms, |server| server.set_group("llama")).await;
    stage.wait(300).await;
    let before = rooms.asked.lock().unwrap().len();
    stage.wait(300).await;
    assert_eq!(rooms.asked.lock().unwrap().len(), before);
}
