//! The main job, to watch: an authorization server and an API of this process' own, tokens that
//! live three seconds, and clients that never notice.
//!
//! ```sh
//! cargo run --example quickstart
//! ```
//!
//! It takes about fifteen seconds. In the middle a token is revoked, and later the authorization
//! server goes down for a while.
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::{
    process::ExitCode,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_oauth::{
    BoxError, ClientAuth, ClientCredentials, CloneRequest, OAuth, OAuthLayer, Origins, TokenHandle,
    observe::{Event, FetchReason},
    testing::{AuthorizationServer, ProtectedApi},
};

const CLIENTS: usize = 20;
const LIFETIME: Duration = Duration::from_secs(3);

#[tokio::main]
async fn main() -> Result<ExitCode, BoxError> {
    // The two servers. In real life they are somebody else's.
    let issuer = AuthorizationServer::start().await?;
    issuer.client("quickstart", "a secret").lifetime(LIFETIME);
    let api = ProtectedApi::start(&issuer).await?;

    // Where tokens come from, and who keeps them fresh.
    let source = ClientCredentials::builder(
        issuer.token_endpoint(),
        ClientAuth::basic("quickstart", "a secret"),
    )
    .scope("orders.read")
    .build()?;
    println!("{CLIENTS} clients call a protected API; tokens live {LIFETIME:?}\n");
    println!("  time  requests  failed");
    let show = Show::new();
    let observer = show.clone();
    let tokens = TokenHandle::builder(source)
        .observer(move |event: &Event<'_>| observer.event(event))
        .spawn();

    // The layer, around any HTTP client. This one follows redirects to the allowed origins only.
    let origins: Origins = api.url().parse()?;
    let http = reqwest::Client::builder().redirect(origins.redirect_policy()).build()?;
    let client = ServiceBuilder::new()
        .layer(OAuthLayer::new(tokens.clone(), origins).replay(CloneRequest))
        .service(http);

    let end = Instant::now() + Duration::from_secs(15);
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        clients.spawn(call(client.clone(), api.url().to_owned(), show.clone(), end));
    }

    sleep(Duration::from_secs(5)).await;
    let token = tokens.token().await?;
    show.line(&format!(">> somebody revokes token {}", token.epoch()));
    issuer.revoke(token.access_token().expose());

    sleep(Duration::from_secs(3)).await;
    let mut status = tokens.subscribe();
    let epoch = status.borrow().epoch();
    status.wait_for(|status| status.epoch() > epoch).await?;
    sleep(Duration::from_millis(100)).await;
    show.line(">> the authorization server goes down");
    issuer.stop().await;
    let down = Instant::now();
    status.wait_for(|status| status.failures() > 0).await?;
    sleep(Duration::from_millis(100)).await;
    issuer.resume()?;
    let outage = down.elapsed();
    show.line(">> the authorization server is back");

    clients.join_all().await;
    tokens.shutdown().await;
    Ok(show.summary(outage, &api))
}

/// Calls the API until the end, every 20 ms.
async fn call(
    mut client: OAuth<reqwest::Client, CloneRequest>,
    url: String,
    show: Show,
    end: Instant,
) {
    let mut next = Instant::now();
    while next < end {
        let request = reqwest::Request::new(http::Method::GET, url.parse().expect("a URL"));
        let response = match client.ready().await {
            Ok(client) => client.call(request).await,
            Err(error) => Err(error),
        };
        show.answered(response);
        next += Duration::from_millis(20);
        sleep_until(next).await;
    }
}

/// Counts, and prints what happens as it happens.
#[derive(Clone)]
struct Show(Arc<Counts>);

struct Counts {
    start: Instant,
    requests: AtomicUsize,
    failed: AtomicUsize,
    waited: AtomicUsize,
    obtained: AtomicUsize,
    renewed: AtomicUsize,
    rejected: AtomicUsize,
    replayed: AtomicUsize,
    attempts_failed: AtomicUsize,
    current: Mutex<Option<(u64, Instant)>>,
}

impl Show {
    fn new() -> Self {
        Self(Arc::new(Counts {
            start: Instant::now(),
            requests: AtomicUsize::new(0),
            failed: AtomicUsize::new(0),
            waited: AtomicUsize::new(0),
            obtained: AtomicUsize::new(0),
            renewed: AtomicUsize::new(0),
            rejected: AtomicUsize::new(0),
            replayed: AtomicUsize::new(0),
            attempts_failed: AtomicUsize::new(0),
            current: Mutex::new(None),
        }))
    }

    fn event(&self, event: &Event<'_>) {
        let counts = &self.0;
        match *event {
            Event::Obtained { epoch, reason, lifetime, .. } => {
                add(&counts.obtained);
                let expiry = Instant::now() + lifetime;
                let before = counts.current.lock().expect("no panic").replace((epoch, expiry));
                let left =
                    before.map(|(_, expiry)| expiry.saturating_duration_since(Instant::now()));
                match (reason, before, left) {
                    (FetchReason::Due, Some((old, _)), Some(left)) => {
                        add(&counts.renewed);
                        self.line(&format!(
                            "token {epoch} obtained, {:.1} s before token {old} expires",
                            left.as_secs_f64()
                        ));
                    }
                    _ => self.line(&format!("token {epoch} obtained ({reason})")),
                }
            }
            Event::Failed { error, retry_in, holds_token, .. } => {
                add(&counts.attempts_failed);
                let held = if holds_token { "the current token is still good" } else { "no token" };
                self.line(&format!(
                    "renewal failed: {error}; {held}; again in {:.1} s",
                    retry_in.as_secs_f64()
                ));
            }
            Event::Rejected { epoch } => {
                add(&counts.rejected);
                self.line(&format!("401: the API refuses token {epoch}"));
            }
            Event::Replayed { .. } => add(&counts.replayed),
            Event::Waited { .. } => add(&counts.waited),
            _ => {}
        }
    }

    fn answered(&self, response: Result<reqwest::Response, BoxError>) {
        add(&self.0.requests);
        if !response.is_ok_and(|response| response.status() == 200) {
            add(&self.0.failed);
        }
    }

    fn line(&self, what: &str) {
        println!(
            "{:>5.1}s  {:>8}  {:>6}  {what}",
            self.0.start.elapsed().as_secs_f64(),
            get(&self.0.requests),
            get(&self.0.failed),
        );
    }

    fn summary(&self, outage: Duration, api: &ProtectedApi) -> ExitCode {
        let counts = &self.0;
        let row = |name: &str, value: String| println!("  {name:<26}{value}");
        println!("\nsummary");
        row("tokens obtained", get(&counts.obtained).to_string());
        row("  renewed before expiry", get(&counts.renewed).to_string());
        row("  refused with a 401", get(&counts.rejected).to_string());
        row("requests replayed", format!("{}, each once, with a new token", get(&counts.replayed)));
        row(
            "outage survived",
            format!(
                "{:.1} s; attempts to renew that failed: {}",
                outage.as_secs_f64(),
                get(&counts.attempts_failed)
            ),
        );
        row("requests sent", get(&counts.requests).to_string());
        row("requests that failed", get(&counts.failed).to_string());
        row(
            "requests that waited",
            format!("{}, at the start and after the revocation", get(&counts.waited)),
        );
        let bare = api.requests().iter().filter(|request| request.bearer().is_none()).count();
        row("requests without a token", bare.to_string());
        if get(&counts.failed) + bare == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

fn add(count: &AtomicUsize) {
    count.fetch_add(1, Ordering::Relaxed);
}

fn get(count: &AtomicUsize) -> usize {
    count.load(Ordering::Relaxed)
}
