//! A refused request is sent again at most once.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use http::Request;
use tokio::time::sleep;
use tower_layer::Layer;
use tower_oauth::{Buffered, CloneRequest, TokenHandle};

use super::{API, HOUR, get, layer, millis, secs, send};
use crate::common::{api::Api, script::Script};

/// Other requests renew the token meanwhile, so that at each refusal there is a newer one: nothing but
/// the count of attempts ends it.
#[tokio::test(start_paused = true)]
async fn i1_a_request_that_every_token_is_refused_to_is_sent_twice() {
    for reason in [true, false] {
        let tokens = TokenHandle::spawn(Script::tokens(HOUR));
        tokens.ready().await.unwrap();
        let api = Api::new();
        api.accept(|_| false).delay(secs(2));
        if !reason {
            api.refuse_with(401, &[]);
        }
        let renewing = tokio::spawn({
            let tokens = tokens.clone();
            async move {
                loop {
                    sleep(millis(500)).await;
                    tokens.refresh().await.unwrap();
                }
            }
        });
        let client = layer(&tokens).replay(CloneRequest).layer(api.clone());
        assert_eq!(send(&client, get(API)).await.unwrap().status(), 401);
        assert_eq!(api.count(), 2);
        let client = layer(&tokens).replay(Buffered::up_to(1024)).layer(api.clone());
        assert_eq!(send(&client, get(API)).await.unwrap().status(), 401);
        assert_eq!(api.count(), 4);
        renewing.abort();
    }
}

/// A minute of requests to an API that refuses all of them and takes 2 s to do so.
#[tokio::test(start_paused = true)]
async fn f17_f75_an_api_that_refuses_slowly_gets_two_calls_for_each_request() {
    let source = Script::tokens(HOUR);
    let tokens = TokenHandle::spawn(source.clone());
    tokens.ready().await.unwrap();
    let api = Api::new();
    api.accept(|_| false).delay(secs(2));
    let client = layer(&tokens).replay(CloneRequest).layer(api.clone());
    let answered = Arc::new(AtomicUsize::new(0));
    let mut sent = 0;
    for _ in 0..60 {
        let (client, answered) = (client.clone(), answered.clone());
        sent += 1;
        tokio::spawn(async move {
            let request: Request<String> = get(API);
            assert_eq!(send(&client, request).await.unwrap().status(), 401);
            answered.fetch_add(1, Ordering::Relaxed);
        });
        sleep(secs(1)).await;
    }
    sleep(secs(60)).await;
    assert_eq!(answered.load(Ordering::Relaxed), sent);
    assert!(api.count() <= 2 * sent, "{} calls for {sent} requests", api.count());
    assert!(source.count() <= 7, "{} token requests", source.count());
}
