//! What the metrics say of a token's life, as a recorder gets it.
#![cfg(test)]
#![cfg(feature = "metrics")]

use log_watch as _;

mod common;

use std::{
    collections::BTreeMap,
    time::{Duration, UNIX_EPOCH},
};

use common::{
    api::Api,
    script::{Script, fail},
};
use http::{Request, StatusCode};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use tower::{ServiceBuilder, ServiceExt};
use tower_oauth::{
    CloneRequest, ErrorKind, OAuthLayer, TokenHandle,
    time::{Clock, SystemClock},
};

const HOUR: Duration = Duration::from_secs(3600);

/// Everything a recorder has been told: `name{label=value,…}` and what it is.
fn taken(snapshotter: &Snapshotter) -> BTreeMap<String, f64> {
    let all = snapshotter.snapshot().into_vec().into_iter();
    all.map(|(key, _, _, value)| {
        let mut labels: Vec<_> = key.key().labels().collect();
        labels.sort_by_key(|label| label.key());
        let labels: Vec<_> =
            labels.iter().map(|label| format!("{}={}", label.key(), label.value())).collect();
        let value = match value {
            DebugValue::Counter(count) => f64::from(u32::try_from(count).unwrap()),
            DebugValue::Gauge(value) => value.into_inner(),
            // How many there were.
            DebugValue::Histogram(values) => f64::from(u32::try_from(values.len()).unwrap()),
        };
        (format!("{}{{{}}}", key.key().name(), labels.join(",")), value)
    })
    .collect()
}

/// Runs a test on a runtime of one thread, whose metrics go to this recorder alone.
fn recorded<F: Future<Output = ()>>(test: impl FnOnce(Snapshotter) -> F) {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    metrics::with_local_recorder(&recorder, || runtime.block_on(test(snapshotter)));
}

fn now() -> f64 {
    SystemClock::new().now().wall.duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

#[test]
fn a_life_with_a_refusal_a_failure_and_an_expiry_is_measured() {
    recorded(|snapshotter| async move {
        let source = Script::tokens(HOUR);
        let tokens = TokenHandle::builder(source.clone()).name("orders").spawn();
        let api = Api::new();
        let client = ServiceBuilder::new()
            .layer(
                OAuthLayer::new(tokens.clone(), "https://api.example".parse().unwrap())
                    .replay(CloneRequest),
            )
            .service(api.clone());
        let call = || {
            let request = Request::get("https://api.example/orders").body(String::new()).unwrap();
            client.clone().oneshot(request)
        };
        assert_eq!(call().await.unwrap().status(), StatusCode::OK);
        let first = taken(&snapshotter);
        let get = |name: &str| {
            let value = first.get(name);
            *value.unwrap_or_else(|| panic!("{name} is not among {first:#?}"))
        };
        let fetched = "{client=orders,outcome=success,reason=initial}";
        assert!((get(&format!("tower_oauth_fetches_total{fetched}")) - 1.0).abs() < 0.1);
        assert!((get(&format!("tower_oauth_fetch_duration_seconds{fetched}")) - 1.0).abs() < 0.1);
        let orders = |name: &str| get(&format!("tower_oauth_{name}{{client=orders}}"));
        assert!((orders("token_ready") - 1.0).abs() < 0.1);
        assert!((orders("token_lifetime_seconds") - 3600.0).abs() < 0.1);
        assert!((orders("last_success_timestamp_seconds") - now()).abs() < 5.0);
        // Less the time that a request may be under way.
        let left = orders("token_expiry_timestamp_seconds") - now();
        assert!((left - 3595.0).abs() < 5.0, "{left}");
        assert!(orders("consecutive_failures").abs() < 0.1);
        assert!(orders("waiting_requests").abs() < 0.1);
        let waited = "tower_oauth_wait_duration_seconds{client=orders,outcome=success}";
        assert!((get(waited) - 1.0).abs() < 0.1);

        // Refused, renewed, sent again.
        api.accept(|value| value != "Bearer token-1");
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(call().await.unwrap().status(), StatusCode::OK);
        // Then an outage, beyond the end of the token.
        source.otherwise(fail(ErrorKind::Server));
        tokio::time::sleep(HOUR).await;
        call().await.unwrap_err();
        let second = taken(&snapshotter);
        for (name, least) in [
            ("fetches_total{client=orders,outcome=success,reason=rejected}", 1.0),
            ("fetches_total{client=orders,error_type=server,outcome=failure,reason=due}", 2.0),
            ("fetches_total{client=orders,error_type=server,outcome=failure,reason=expired}", 1.0),
            ("rejections_total{client=orders}", 1.0),
            ("expiries_total{client=orders}", 1.0),
            ("replays_total{client=orders,http_response_status_code=200}", 1.0),
            ("wait_duration_seconds{client=orders,outcome=failure}", 1.0),
            ("consecutive_failures{client=orders}", 3.0),
        ] {
            let value = second.get(&format!("tower_oauth_{name}"));
            assert!(value.is_some_and(|value| *value >= least), "{name}: {second:#?}");
        }
        assert!(second["tower_oauth_token_ready{client=orders}"].abs() < 0.1);
        assert!(second["tower_oauth_token_expiry_timestamp_seconds{client=orders}"] <= now());
        assert!(second["tower_oauth_waiting_requests{client=orders}"].abs() < 0.1);

        let all = format!("{first:?}{second:?}");
        assert!(!all.contains("token-"), "a token is in the metrics: {all}");
    });
}

/// There was no series, and so nothing to alert on.
#[test]
fn f100_a_handle_that_never_has_a_token_says_so() {
    recorded(|snapshotter| async move {
        let tokens = TokenHandle::builder(Script::new(common::script::Step::Hang)).name("never");
        let tokens = tokens.fetch_timeout(HOUR).spawn();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (ready, expiry) = (
            "tower_oauth_token_ready{client=never}",
            "tower_oauth_token_expiry_timestamp_seconds{client=never}",
        );
        let first = taken(&snapshotter);
        assert!(first[ready].abs() < 0.1 && first[expiry].abs() < 0.1, "{first:#?}");
        tokio::time::sleep(HOUR * 2).await;
        assert!(tokens.status().failures() > 0);
        let second = taken(&snapshotter);
        assert!(second[ready].abs() < 0.1, "{second:#?}");
    });
}

/// What was said of the new one was overwritten when the old one ended.
#[test]
fn f100_the_end_of_a_handle_says_nothing_of_another_one_of_its_name() {
    let ready = "tower_oauth_token_ready{client=replaced}";
    recorded(|snapshotter| async move {
        let new = || TokenHandle::builder(Script::tokens(HOUR)).name("replaced").spawn();
        let old = new();
        old.ready().await.unwrap();
        let tokens = new();
        tokens.ready().await.unwrap();
        old.shutdown().await;
        // Nor does one that never ran.
        drop(TokenHandle::builder(Script::tokens(HOUR)).name("replaced").pair());
        assert!((taken(&snapshotter)[ready] - 1.0).abs() < 0.1);
        tokens.shutdown().await;
        assert!(taken(&snapshotter)[ready].abs() < 0.1);
    });
}

/// They waited for each other, and all handles for both.
#[test]
fn f100_a_recorder_that_asks_for_a_token_where_it_hears_of_the_metrics_gets_one() {
    use std::sync::OnceLock;

    use metrics::{
        Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    };

    static HANDLE: OnceLock<TokenHandle> = OnceLock::new();

    struct Asks;

    impl Asks {
        fn ask(&self) {
            let Self = self;
            let Some(handle) = HANDLE.get() else { return };
            // Polled once, it begins to wait, which is an event.
            let mut token = Box::pin(handle.token());
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            assert!(token.as_mut().poll(&mut context).is_pending());
        }
    }

    impl Recorder for Asks {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {
            self.ask();
        }

        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
            Counter::noop()
        }

        fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::noop()
        }

        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::noop()
        }
    }

    // Of a process with several tests, another one may have been told of the metrics before.
    let (done, served) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        metrics::with_local_recorder(&Asks, || {
            runtime.block_on(async {
                let tokens = TokenHandle::spawn(Script::tokens(HOUR));
                HANDLE.set(tokens.clone()).unwrap();
                done.send(tokens.token().await.is_ok()).unwrap();
            });
        });
    });
    assert!(served.recv_timeout(Duration::from_secs(20)).expect("it hangs"));
}

#[test]
fn a_request_that_gives_up_waiting_is_no_longer_counted_as_waiting() {
    recorded(|snapshotter| async move {
        let tokens = TokenHandle::spawn(Script::new(common::script::Step::Hang));
        let waiting = "tower_oauth_waiting_requests{client=default}";
        let mut request = std::pin::pin!(tokens.token());
        assert!(futures_poll(request.as_mut()).await.is_pending());
        assert!((taken(&snapshotter)[waiting] - 1.0).abs() < 0.1);
        request.set(tokens.token());
        // One less than before: this recorder sets its gauges to zero when they are read.
        assert!((taken(&snapshotter)[waiting] + 1.0).abs() < 0.1);
    });
}

#[test]
fn f80_requests_without_a_token_are_counted_by_reason() {
    recorded(|snapshotter| async move {
        let tokens = TokenHandle::builder(Script::tokens(HOUR)).name("orders").spawn();
        let client = ServiceBuilder::new()
            .layer(OAuthLayer::new(tokens, "https://api.example".parse().unwrap()))
            .service(Api::new());
        let get = |url: &str| Request::get(url).body(String::new()).unwrap();
        let mut own = get("https://api.example/");
        own.headers_mut().insert("authorization", "Basic abc".parse().unwrap());
        let requests = [
            get("https://evil.example"),
            get("https://b.example"),
            own,
            get("https://api.example"),
        ];
        for request in requests {
            client.clone().oneshot(request).await.unwrap();
        }
        let mut taken = taken(&snapshotter);
        taken.retain(|name, _| name.starts_with("tower_oauth_passed_requests_total"));
        let expected = [("authorization_present", 1.0), ("foreign_origin", 2.0)];
        let expected = expected.map(|(reason, count)| {
            (format!("tower_oauth_passed_requests_total{{client=orders,reason={reason}}}"), count)
        });
        assert_eq!(taken, BTreeMap::from(expected));
    });
}

/// A client below follows redirects: each is counted, and the operator warned once.
#[cfg(all(feature = "reqwest", feature = "tracing"))]
#[test]
fn f105_a_redirect_followed_below_is_counted_and_warned_of_once() {
    use std::{
        io::Write,
        sync::{Arc, Mutex},
    };

    use reqwest::ResponseBuilderExt;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    recorded(|snapshotter| async move {
        let tokens = TokenHandle::builder(Script::tokens(HOUR)).name("orders").spawn();
        tokens.ready().await.unwrap();
        let below = tower::service_fn(|_: reqwest::Request| async {
            let response = http::Response::builder();
            let response = response.url("https://evil.example/secret?p=q".parse().unwrap());
            Ok::<_, std::io::Error>(reqwest::Response::from(response.body("").unwrap()))
        });
        let layer = OAuthLayer::new(tokens, "https://api.example".parse().unwrap());
        let lines = Lines::default();
        let made = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_ansi(false)
            .with_writer(move || made.clone());
        let guard = tracing::subscriber::set_default(subscriber.finish());
        for _ in 0..3 {
            let url = "https://api.example/a".parse().unwrap();
            let request = reqwest::Request::new(http::Method::GET, url);
            // Each service that a layer has made counts for the layer.
            let client = ServiceBuilder::new().layer(layer.clone()).service(below);
            client.oneshot(request).await.unwrap();
        }
        drop(guard);
        let count = taken(&snapshotter)["tower_oauth_followed_redirects_total{client=orders}"];
        assert!((count - 3.0).abs() < 0.1);
        let lines = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let levels = ["WARN", "DEBUG"].map(|level| lines.matches(level).count());
        assert_eq!(levels, [1, 2], "{lines}");
        assert_eq!(lines.matches("origin=https://evil.example\n").count(), 3, "{lines}");
        assert!(!lines.contains("secret") && !lines.contains("p=q"), "{lines}");
    });
}

async fn futures_poll<F: Future>(mut future: std::pin::Pin<&mut F>) -> std::task::Poll<F::Output> {
    std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx))).await
}

/// Tenants come and go, and each has an end of its own: there is no series for each of them.
#[cfg(feature = "pool")]
#[test]
fn a_pool_has_counters_and_no_gauge_of_a_single_token() {
    recorded(|snapshotter| async move {
        let pool =
            tower_oauth::TokenPool::builder(|_: &u32| Script::tokens(HOUR)).name("tenants").spawn();
        for tenant in 0..20 {
            pool.token(&tenant).await.unwrap();
        }
        let taken = taken(&snapshotter);
        let fetches = "tower_oauth_fetches_total{client=tenants,outcome=success,reason=initial}";
        assert!((taken[fetches] - 20.0).abs() < 0.1, "{taken:#?}");
        for name in taken.keys() {
            assert!(!name.contains("_ready") && !name.contains("_expiry"), "{name}");
        }
        assert!(taken.len() < 10, "{taken:#?}");
    });
}

#[cfg(all(feature = "store-file", unix))]
#[test]
fn what_is_stored_is_counted_under_the_names_it_was_given() {
    use tower_oauth::{
        FetchContext, TokenSource,
        observe::FetchReason,
        source::Identity,
        store::{FileStore, KeyRing, Persisted},
    };

    let name: String = std::iter::repeat_with(fastrand::alphanumeric).take(16).collect();
    let folder = std::env::temp_dir().join(format!("tower-oauth-metrics-{name}"));
    let there = folder.clone();
    recorded(|snapshotter| async move {
        let keys = KeyRing::new("k", "01".repeat(32)).unwrap();
        let store = FileStore::new(&there, keys).name("files");
        let fetch = async |reason| {
            let identity = Identity::new("https://as.example/token", "c");
            let source = Persisted::identified(identity, Script::tokens(HOUR), store.clone());
            let mut cx = FetchContext::first();
            cx.reason = reason;
            source.name("orders").fetch(cx).await.unwrap();
        };
        fetch(FetchReason::Initial).await;
        fetch(FetchReason::Requested).await;
        for file in std::fs::read_dir(&there).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|ending| ending == "token") {
                std::fs::write(path, "damaged").unwrap();
            }
        }
        fetch(FetchReason::Initial).await;
        let all = taken(&snapshotter);
        let count = |client, event| {
            let name = format!("tower_oauth_store_events_total{{client={client},event={event}}}");
            all.get(&name).copied().unwrap_or_default()
        };
        assert_eq!((count("orders", "saved"), count("orders", "adopted")), (2.0, 1.0), "{all:?}");
        assert!(count("files", "record_ignored") > 0.0, "{all:?}");
    });
    std::fs::remove_dir_all(folder).unwrap();
}
