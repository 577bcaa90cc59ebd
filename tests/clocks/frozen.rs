//! Processes that are stopped.

use std::time::Duration;

use tokio::time::sleep;
use tower_oauth::testing::Reply;

use crate::parent::Parent;

const LIFE: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f51_the_first_request_after_a_freeze_refreshes_first_and_timers_fire_once() {
    let mut parent = Parent::start(LIFE).await;
    parent.get().await;
    assert_eq!(parent.token_requests(), 1);
    parent.stop().await;
    // Three lives, each of which would have been renewed.
    sleep(LIFE * 3).await;
    assert_eq!(parent.token_requests(), 1);
    parent.tell("get").await;
    parent.go_on();
    assert_eq!(parent.answer().await, "200 OK");
    assert_eq!((parent.token_requests(), parent.api.refused()), (2, 0));
    // Half of the new token's life: nothing is made up for.
    for _ in 0..10 {
        sleep(LIFE / 20).await;
        parent.get().await;
    }
    assert_eq!((parent.token_requests(), parent.api.refused()), (2, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f51_without_a_request_a_thawed_process_refreshes_once() {
    let mut parent = Parent::start(LIFE).await;
    parent.stop().await;
    sleep(LIFE * 3).await;
    parent.go_on();
    sleep(LIFE / 2).await;
    assert_eq!(parent.token_requests(), 2);
    parent.get().await;
    assert_eq!((parent.token_requests(), parent.api.refused()), (2, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f51_f53_an_answer_that_a_freeze_made_too_old_is_not_used() {
    let mut parent = Parent::start(LIFE).await;
    // The renewal is answered while the process is stopped, and read after the token's life.
    parent.issuer.script(Reply::honest().delay(Duration::from_millis(300)));
    while parent.token_requests() < 2 {
        sleep(Duration::from_millis(5)).await;
    }
    parent.stop().await;
    sleep(LIFE * 2).await;
    parent.tell("get").await;
    parent.go_on();
    assert_eq!(parent.answer().await, "200 OK");
    assert_eq!((parent.token_requests(), parent.api.refused()), (3, 0));
}
