//! Requests that are sent again: their bodies, and the connections that refusals leave behind.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    time::{Instant, timeout},
};
use tower::{ServiceBuilder, ServiceExt, limit::ConcurrencyLimitLayer};
use tower_oauth::{Buffered, CloneRequest, OAuthLayer, testing::Reply};

use crate::harness::{Product, no_proxy};

const HOUR: Duration = Duration::from_secs(3600);
const REFUSED: &str = r#"Bearer error="invalid_token""#;

/// A body of ten chunks of this size.
fn stream(chunk: usize) -> reqwest::Body {
    let chunks = (0..10).map(move |n| Ok::<_, Infallible>(vec![b'0' + n; chunk]));
    reqwest::Body::wrap_stream(tokio_stream::iter(chunks))
}

fn whole(chunk: usize) -> Vec<u8> {
    (0..10).flat_map(|n| vec![b'0' + n; chunk]).collect()
}

/// Sends a stream with a token that has been revoked; returns the product and the status.
async fn send(chunk: usize, limit: usize, early: bool) -> (Product, u16) {
    let product = Product::start(HOUR).await;
    product.api.refuse_early(early);
    let layer = OAuthLayer::new(product.tokens.clone(), product.api.url().parse().unwrap());
    let client =
        ServiceBuilder::new().layer(layer.replay(Buffered::up_to(limit))).service(no_proxy());
    product.server.revoke_access_tokens();
    let request = no_proxy().post(product.api.url()).body(stream(chunk)).build().unwrap();
    let status = client.oneshot(request).await.unwrap().status().as_u16();
    (product, status)
}

#[tokio::test]
async fn rfr_11_a_streamed_body_is_sent_again_whole() {
    for early in [false, true] {
        let (product, status) = send(3000, 30_000, early).await;
        assert_eq!(status, 200);
        let requests = product.api.requests();
        assert_eq!(requests.len(), 2);
        assert_ne!(requests[0].bearer(), requests[1].bearer());
        assert!(early || requests[0].body == whole(3000));
        assert_eq!(requests[1].body, whole(3000));
    }
}

#[tokio::test]
async fn f20_a_streamed_body_beyond_the_bound_is_sent_once_and_the_refusal_passes() {
    let (product, status) = send(3000, 29_999, false).await;
    assert_eq!((status, product.api.request_count()), (401, 1));
    assert_eq!(product.api.requests()[0].body, whole(3000));
    // The next request has a fresh token.
    product.tokens.ready().await.unwrap();
    assert_eq!(product.server.token_request_count(), 2);
}

/// How many connections there were to a server, and how many at once.
#[derive(Default)]
struct Gauge {
    all: AtomicUsize,
    open: AtomicUsize,
    peak: AtomicUsize,
}

/// Passes connections on to a server and counts them; returns its own URL.
async fn counted(server: &str) -> (String, Arc<Gauge>) {
    let server = server.strip_prefix("http://").unwrap().to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let gauge = Arc::new(Gauge::default());
    let counter = gauge.clone();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let (counter, server) = (counter.clone(), server.clone());
            counter.all.fetch_add(1, Ordering::SeqCst);
            let open = counter.open.fetch_add(1, Ordering::SeqCst) + 1;
            counter.peak.fetch_max(open, Ordering::SeqCst);
            tokio::spawn(async move {
                if let Ok(mut server) = TcpStream::connect(server).await {
                    let _ = copy_bidirectional(&mut client, &mut server).await;
                }
                counter.open.fetch_sub(1, Ordering::SeqCst);
            });
        }
    });
    (url, gauge)
}

/// One connection may be idle and one request at a time may be under way: a refusal that held its
/// connection, or its place, would stop the next request or its own replay.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f20_a_thousand_undrained_refusals_hold_neither_connections_nor_places() {
    const REQUESTS: usize = 1000;
    for size in [10, 100_000] {
        let product = Product::start(HOUR).await;
        let refusal = Reply::status(401).header("www-authenticate", REFUSED);
        product.api.always(refusal.body(vec![b'x'; size]));
        let (url, gauge) = counted(product.api.url()).await;
        let client: Client<_, Full<Bytes>> =
            Client::builder(TokioExecutor::new()).pool_max_idle_per_host(1).build_http();
        let layer = OAuthLayer::new(product.tokens.clone(), url.parse().unwrap());
        let client = ServiceBuilder::new()
            .layer(layer.replay(CloneRequest))
            .layer(ConcurrencyLimitLayer::new(1))
            .service(client);
        let start = Instant::now();
        for _ in 0..REQUESTS {
            let request = Request::get(&*url).body(Full::default()).unwrap();
            let response = timeout(Duration::from_secs(5), client.clone().oneshot(request)).await;
            assert_eq!(response.expect("it hangs").unwrap().status(), 401);
        }
        let replays = product.events.count("replayed");
        let most_replays = 2 + usize::try_from(start.elapsed().as_secs()).unwrap();
        assert!((1..=most_replays).contains(&replays), "{replays}");
        assert_eq!(product.api.request_count(), REQUESTS + replays);
        let (all, peak) = (gauge.all.load(Ordering::SeqCst), gauge.peak.load(Ordering::SeqCst));
        assert!(peak <= 20, "{size}: {peak} connections at once, {all} in all");
    }
}
