//! The load, and what must hold of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt, util::BoxCloneSyncService};
use tower_oauth::{
    ClientAuth, ClientCredentials, CloneRequest, OAuthLayer, TokenHandle,
    testing::AuthorizationServer,
};

use crate::{
    ALONE, api::Api, faults::token_replies, ledger::Ledger, number, resources::Held,
    source::Recording,
};

/// Of a request's number, the status of its answer, read to its end.
pub(crate) type Stack = BoxCloneSyncService<usize, u16, BoxError>;

/// How many requests are under way at once.
const WORKERS: usize = 64;
/// The load comes in so many parts; between them, what is held is measured.
const PARTS: usize = 10;

#[test]
fn f59_no_fault_of_many_loses_a_request_or_repeats_one_or_sends_a_token_that_is_over() {
    let _alone = ALONE.lock();
    let lifetimes = number("SOAK_LIFETIMES", 4);
    let requests = number("SOAK_REQUESTS", lifetimes * 500).next_multiple_of(PARTS);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        // Few lifetimes meet few faults, if those are one in ten.
        let every = if lifetimes < 50 { 3 } else { 10 };
        let soak = Soak::start(requests, lifetimes, every).await;
        let started = Instant::now();
        let held = soak.run(lifetimes).await;
        eprintln!("{}", soak.report(started.elapsed()));
        for held in &held {
            eprintln!("{held}");
        }
        soak.recording.check();
        assert_eq!(soak.ledger.violations(), [""; 0]);
        soak.check(lifetimes, requests);
        check_flat(&held);
        soak.end().await;
    });
}

struct Soak {
    ledger: Arc<Ledger>,
    issuer: AuthorizationServer,
    recording: Recording,
    tokens: TokenHandle,
    stacks: [Stack; 2],
    api: Api,
    requests: usize,
    rate: f64,
    next: AtomicUsize,
    /// What there was before the handle and the clients.
    before: Held,
}

impl Soak {
    async fn start(requests: usize, lifetimes: usize, every: usize) -> Arc<Self> {
        let tokens = 10 * lifetimes + 100;
        let ledger = Arc::new(Ledger::new(requests, tokens));
        let issuer = AuthorizationServer::start().await.unwrap();
        issuer.lifetime(Duration::from_secs(1));
        issuer.script_many(token_replies(2 * tokens, every));
        let api = Api::start(&issuer, &ledger).await;
        let before = Held::now();

        let auth = ClientAuth::basic("soak", "s3cr3t");
        let source = ClientCredentials::builder(issuer.token_endpoint(), auth)
            .timeout(Duration::from_millis(400))
            .build()
            .unwrap();
        let recording = Recording::new(source, ledger.clone());
        let observed = ledger.clone();
        let tokens = TokenHandle::builder(recording.clone())
            .observer(move |event: &tower_oauth::observe::Event<'_>| observed.observe(event))
            .spawn();
        tokens.ready().await.unwrap();
        let layer = OAuthLayer::new(tokens.clone(), api.url.parse().unwrap()).replay(CloneRequest);
        let stacks = [hyper(&layer, &ledger, &api.url), reqwest(&layer, &ledger, &api.url)];
        #[expect(clippy::cast_precision_loss, reason = "they are small")]
        let rate = requests as f64 / lifetimes as f64;
        let next = AtomicUsize::new(0);
        let soak =
            Self { ledger, issuer, recording, tokens, stacks, api, requests, rate, next, before };
        Arc::new(soak)
    }

    /// Sends all requests, and gives what was held after each part of them.
    async fn run(self: &Arc<Self>, lifetimes: usize) -> Vec<Held> {
        let every = if lifetimes < 50 { 2 } else { 10 };
        let revoking = tokio::spawn(revoke_some(self.issuer.clone(), self.tokens.clone(), every));
        let mut held = Vec::new();
        let longest = Duration::from_secs(2 * lifetimes as u64 + 10);
        let started = Instant::now();
        for part in 1..=PARTS {
            let until = self.requests / PARTS * part;
            let mut workers = JoinSet::new();
            let (from, at) = (self.next.load(Ordering::Relaxed), Instant::now());
            for worker in 0..WORKERS {
                let (soak, stack) = (self.clone(), self.stacks[worker % 2].clone());
                workers.spawn(async move { soak.work(stack, from, at, until).await });
            }
            while let Some(worked) = workers.join_next().await {
                worked.unwrap();
            }
            // What is reset by one side takes a moment to be gone on the other.
            sleep(Duration::from_millis(100)).await;
            held.push(Held::now());
            let took = started.elapsed();
            assert!(took < longest, "{took:?} for {part} of {PARTS} parts");
        }
        revoking.abort();
        held
    }

    /// Sends one request after the other, as its turn comes.
    async fn work(&self, mut stack: Stack, from: usize, at: Instant, until: usize) {
        loop {
            let number = self.next.load(Ordering::Relaxed);
            if number >= until {
                return;
            }
            let free = self.next.compare_exchange(
                number,
                number + 1,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            if free.is_err() {
                continue;
            }
            #[expect(clippy::cast_precision_loss, reason = "they are small")]
            let turn = (number - from) as f64 / self.rate;
            sleep_until(at + Duration::from_secs_f64(turn)).await;
            let sent = Instant::now();
            self.ledger.may_choose_token(number);
            let Ok(service) = stack.ready().await else { unreachable!("it is a client") };
            // Becoming ready may have taken a while.
            self.ledger.may_choose_token(number);
            match timeout(Duration::from_secs(10), service.call(number)).await {
                Ok(outcome) => self.ledger.ended(number, sent.elapsed(), &outcome),
                Err(_) => self.ledger.never_ended(number),
            }
        }
    }

    fn report(&self, took: Duration) -> String {
        let outcomes = self.ledger.outcomes();
        let width = outcomes.keys().map(String::len).max().unwrap_or_default();
        let line = |(name, count): (&String, &usize)| format!("  {name:width$} {count:>8}");
        let outcomes = outcomes.iter().map(line).collect::<Vec<_>>().join("\n");
        let (fetches, carried) = (self.recording.fetches(), self.ledger.carried());
        let refused: u64 = carried.iter().map(|(_, refused)| refused).sum();
        #[expect(clippy::cast_precision_loss, reason = "they are small")]
        let rate = self.requests as f64 / took.as_secs_f64();
        format!(
            "{} requests in {took:.1?}, {rate:.0} a second; the slowest took {:.1?}\n{outcomes}\n\
             {} tokens, {} token requests, {} rejections; {refused} requests had a token that the \
             server had ended",
            self.requests,
            self.ledger.slowest(),
            carried.len(),
            fetches.len(),
            self.ledger.rejections().len(),
        )
    }

    fn check(&self, lifetimes: usize, requests: usize) {
        let outcomes = self.ledger.outcomes();
        assert_eq!(outcomes.values().sum::<usize>(), requests, "a request was lost");
        let carried = self.ledger.carried();
        assert!(carried.len() >= lifetimes, "only {} tokens were used", carried.len());
        // Every token request is the refresher's. One may be under way, which is recorded at its end.
        let recorded = self.recording.fetches().len();
        let requests = self.issuer.token_request_count();
        assert!((recorded..=recorded + 1).contains(&requests), "{requests}, not {recorded}");
        // Each fault is met.
        for (outcome, least) in [
            ("200", requests / 2),
            ("401", requests / 500),
            ("403", requests / 500),
            ("503", requests / 500),
            ("connection error", requests / 500),
            // Where there is a good token to send it with.
            ("200, sent again", usize::from(lifetimes >= 50)),
        ] {
            let count = outcomes.get(outcome).copied().unwrap_or_default();
            assert!(count >= least, "{outcome}: {count}");
        }
        let failed = self.recording.fetches().iter().filter(|f| f.outcome.is_err()).count();
        assert!(failed > 0, "the token endpoint did not fail");
    }

    /// Lets go of everything, and sees that nothing of it is left.
    async fn end(self: Arc<Self>) {
        let Ok(soak) = Arc::try_unwrap(self) else { panic!("somebody still works") };
        let Self { stacks, tokens, recording, api, before, .. } = soak;
        drop((stacks, tokens, recording));
        let started = Instant::now();
        let is_left = loop {
            let now = Held::now();
            let is_left = now.tasks > before.tasks || now.files > before.files;
            if !is_left || started.elapsed() > Duration::from_secs(5) {
                break is_left.then_some(now);
            }
            sleep(Duration::from_millis(10)).await;
        };
        assert!(is_left.is_none(), "{} are left of {before}", is_left.unwrap());
        let left = Held::now().live.saturating_sub(before.live);
        assert!(left < 1 << 20, "{left} bytes are left");
        drop(api);
    }
}

/// After the first parts, nothing grows.
fn check_flat(held: &[Held]) {
    let (early, late) = held.split_at(PARTS / 2);
    // Connections are kept for as many requests as are under way at once; each has a task and a
    // file at both ends. A client may open one that it turns out not to need.
    let most = |of: &[Held], what: fn(&Held) -> usize| of.iter().map(what).max().unwrap();
    let connections = 2 * WORKERS;
    for (name, what, may_grow) in [
        ("tasks", (|held| held.tasks) as fn(&Held) -> usize, 2 * connections),
        ("files", |held| held.files, 2 * connections),
        ("live bytes", |held| held.live, 2 << 20),
        ("resident bytes", |held| held.resident, 16 << 20),
    ] {
        let (early, late) = (most(early, what), most(late, what));
        assert!(late <= early + may_grow, "{name} grew from {early} to {late}");
    }
    let (tasks, files) = (most(held, |held| held.tasks), most(held, |held| held.files));
    assert!(tasks < 2 * connections + 50 && files < 2 * connections + 50, "{tasks}, {files}");
}

/// One token in `every` is revoked in mid-life.
async fn revoke_some(issuer: AuthorizationServer, tokens: TokenHandle, every: usize) {
    let mut status = tokens.subscribe();
    drop(tokens);
    for epoch in (1..).step_by(every) {
        if status.wait_for(|status| status.epoch() >= epoch).await.is_err() {
            return;
        }
        sleep(Duration::from_millis(300)).await;
        issuer.revoke_access_tokens();
    }
}

/// Looks at what leaves the layer and at what comes back to it.
#[derive(Clone)]
struct Probe<S> {
    inner: S,
    ledger: Arc<Ledger>,
}

trait Seen {
    fn headers(&self) -> &http::HeaderMap;
    fn path(&self) -> &str;
}

impl<B> Seen for http::Request<B> {
    fn headers(&self) -> &http::HeaderMap {
        self.headers()
    }

    fn path(&self) -> &str {
        self.uri().path()
    }
}

impl Seen for reqwest::Request {
    fn headers(&self) -> &http::HeaderMap {
        self.headers()
    }

    fn path(&self) -> &str {
        self.url().path()
    }
}

impl<S, Q> Service<Q> for Probe<S>
where
    Q: Seen,
    S: Service<Q>,
    S::Future: Send + 'static,
    S::Error: Send,
    S::Response: Send,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = futures::Seen<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Q) -> Self::Future {
        let number = request.path().trim_start_matches('/').parse().unwrap();
        let token = request.headers().get("authorization").and_then(|value| value.to_str().ok());
        self.ledger.sent(number, token.and_then(|value| value.strip_prefix("Bearer ")));
        futures::Seen::new(self.inner.call(request), self.ledger.clone(), number)
    }
}

mod futures {
    use std::{
        future::Future,
        pin::Pin,
        sync::Arc,
        task::{Context, Poll, ready},
    };

    use crate::ledger::Ledger;

    pin_project_lite::pin_project! {
        /// An answer, whose arrival is noted.
        pub(crate) struct Seen<F> {
            #[pin]
            answer: F,
            ledger: Arc<Ledger>,
            number: usize,
        }
    }

    impl<F> Seen<F> {
        pub(super) fn new(answer: F, ledger: Arc<Ledger>, number: usize) -> Self {
            Self { answer, ledger, number }
        }
    }

    impl<F: Future> Future for Seen<F> {
        type Output = F::Output;

        fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
            let this = self.project();
            let output = ready!(this.answer.poll(cx));
            this.ledger.may_choose_token(*this.number);
            Poll::Ready(output)
        }
    }
}

fn hyper(layer: &OAuthLayer<CloneRequest>, ledger: &Arc<Ledger>, url: &str) -> Stack {
    let client: Client<HttpConnector, Full<Bytes>> =
        Client::builder(TokioExecutor::new()).build_http();
    let url = url.to_owned();
    let stack = ServiceBuilder::new()
        .map_request(move |number: usize| {
            http::Request::get(format!("{url}/{number}")).body(Full::default()).unwrap()
        })
        .layer(layer.clone())
        .service(Probe { inner: client, ledger: ledger.clone() });
    BoxCloneSyncService::new(stack.and_then(|answer: http::Response<_>| read(answer.map(boxed))))
}

pub(crate) fn reqwest(layer: &OAuthLayer<CloneRequest>, ledger: &Arc<Ledger>, url: &str) -> Stack {
    let client = reqwest::Client::builder().no_proxy();
    let client = client.redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let url = url.to_owned();
    let stack = ServiceBuilder::new()
        .map_request(move |number: usize| {
            let url = format!("{url}/{number}").parse().unwrap();
            reqwest::Request::new(http::Method::GET, url)
        })
        .layer(layer.clone())
        .service(Probe { inner: client, ledger: ledger.clone() });
    BoxCloneSyncService::new(stack.and_then(|answer: reqwest::Response| {
        read(http::Response::<reqwest::Body>::from(answer).map(boxed))
    }))
}

fn boxed<B>(body: B) -> BoxBody<Bytes, BoxError>
where
    B: http_body::Body<Data = Bytes> + Send + Sync + 'static,
    B::Error: Into<BoxError>,
{
    body.map_err(Into::into).boxed()
}

async fn read(answer: http::Response<BoxBody<Bytes, BoxError>>) -> Result<u16, BoxError> {
    let (parts, body) = answer.into_parts();
    body.collect().await?;
    Ok(parts.status.as_u16())
}
