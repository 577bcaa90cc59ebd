//! What an exchange may cost.

use std::{
    convert::Infallible,
    future::pending,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use tokio::time::{Instant, Sleep, sleep};
use tower::service_fn;
use tower_oauth::{
    ClientAuth, ClientCredentials, ErrorKind, FetchContext, Secret, SecretSource, TokenSource,
    Transport,
};

use crate::fake::{Fake, URL, fetch, granted, labelled};

/// A body without end: a chunk after each pause.
struct Drip {
    pause: Duration,
    sleep: Pin<Box<Sleep>>,
    chunk: Bytes,
    given: Arc<AtomicUsize>,
}

impl Drip {
    fn new(pause: Duration, chunk: Bytes, given: Arc<AtomicUsize>) -> Self {
        Self { pause, sleep: Box::pin(sleep(pause)), chunk, given }
    }
}

impl Body for Drip {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        ready!(self.sleep.as_mut().poll(cx));
        self.sleep = Box::pin(sleep(self.pause));
        self.given.fetch_add(self.chunk.len(), Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(self.chunk.clone()))))
    }
}

fn source(transport: Transport) -> ClientCredentials {
    ClientCredentials::builder(URL, ClientAuth::basic("orders", "s"))
        .transport(transport)
        .build()
        .unwrap()
}

fn dripping(pause: Duration, chunk: &'static [u8]) -> (Transport, Arc<AtomicUsize>) {
    let given = Arc::new(AtomicUsize::new(0));
    let counter = given.clone();
    let transport = Transport::new(service_fn(move |_: Request<Bytes>| {
        let body = Drip::new(pause, Bytes::from_static(chunk), counter.clone());
        async move { Ok::<_, io::Error>(Response::new(body)) }
    }));
    (transport, given)
}

#[tokio::test(start_paused = true)]
async fn f05_a_server_that_drips_or_is_silent_is_given_up_in_time() {
    let silent = Transport::new(service_fn(|_: Request<Bytes>| {
        pending::<Result<Response<String>, io::Error>>()
    }));
    let (drips, _) = dripping(Duration::from_secs(1), b" ");
    for transport in [silent, drips] {
        let start = Instant::now();
        let error = fetch(&source(transport)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert_eq!(start.elapsed(), Duration::from_secs(15));
    }
}

#[tokio::test(start_paused = true)]
async fn tls_03_the_earlier_of_both_deadlines_counts() {
    for (timeout, deadline, ends) in [(60, 5, 5), (5, 60, 5)] {
        let (drips, _) = dripping(Duration::from_secs(1), b" ");
        let source = ClientCredentials::builder(URL, ClientAuth::basic("orders", "s"))
            .transport(drips)
            .timeout(Duration::from_secs(timeout))
            .build()
            .unwrap();
        let start = Instant::now();
        let mut cx = FetchContext::first();
        cx.deadline = start + Duration::from_secs(deadline);
        assert_eq!(source.fetch(cx).await.unwrap_err().kind(), ErrorKind::Timeout);
        assert_eq!(start.elapsed(), Duration::from_secs(ends));
    }
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_is_never_read_to_its_end_is_given_up_in_time() {
    let fake = Fake::new([granted()]);
    let secret = SecretSource::provider(pending::<Result<Secret, tower_oauth::BoxError>>);
    let source = ClientCredentials::builder(URL, ClientAuth::post("orders", secret))
        .transport(fake.transport())
        .build()
        .unwrap();
    let start = Instant::now();
    assert_eq!(fetch(&source).await.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(start.elapsed(), Duration::from_secs(15));
    assert!(fake.seen().is_empty());
}

#[tokio::test(start_paused = true)]
async fn tls_03_a_body_is_read_no_further_than_its_limit() {
    const CHUNK: usize = 8 * 1024;
    let (endless, given) = dripping(Duration::ZERO, &[b' '; CHUNK]);
    let error = fetch(&source(endless)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MalformedResponse);
    assert!(error.to_string().contains("larger than 1048576 bytes"), "{error}");
    assert!(given.load(Ordering::Relaxed) <= (1 << 20) + CHUNK);
}

#[tokio::test]
async fn f10_the_limit_can_be_set_and_holds_for_errors_as_well() {
    for status in [200, 400, 503] {
        let fake = Fake::new([labelled(status, "application/json", &" ".repeat(101))]);
        let source = ClientCredentials::builder(URL, ClientAuth::basic("orders", "s"))
            .transport(fake.transport())
            .body_limit(100)
            .build()
            .unwrap();
        let error = fetch(&source).await.unwrap_err();
        assert!(error.to_string().contains("larger than 100 bytes"), "{status} {error}");
    }
}

#[tokio::test]
async fn f10_an_answer_that_is_still_compressed_is_refused() {
    let mut reply = granted();
    if let Some(answer) = &mut reply {
        answer.headers_mut().insert("content-encoding", http::HeaderValue::from_static("gzip"));
    }
    let error = fetch(&source(Fake::new([reply]).transport())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MalformedResponse);
}
