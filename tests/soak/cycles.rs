//! Handles and stacks that come and go.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::json;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tower::{Layer, ServiceExt};
use tower_oauth::{
    ClientAuth, ClientCredentials, CloneRequest, OAuthLayer, TokenHandle, Transport,
    testing::{AuthorizationServer, ProtectedApi, Reply},
};

use crate::{ALONE, number, resources::Held};

/// How many there are at once.
const AT_ONCE: usize = 8;

#[test]
fn f27_i11_handles_and_stacks_that_come_and_go_leave_no_task_no_socket_and_no_memory() {
    let _alone = ALONE.lock();
    let cycles = number("SOAK_CYCLES", 400);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let servers = Servers::start().await;
        let empty = Held::now();
        // What is allocated once is, by then.
        servers.run(cycles / 10 + 2 * AT_ONCE).await;
        let before = settled(&empty).await;
        let started = Instant::now();
        servers.run(cycles).await;
        let took = started.elapsed();
        let after = settled(&empty).await;
        eprintln!("{cycles} cycles in {took:.1?}\n{before}\n{after}");
        assert!(after.tasks <= empty.tasks, "{empty}, then {after}");
        assert!(after.files <= empty.files, "{empty}, then {after}");
        assert!(after.live < before.live + (256 << 10), "{before}, then {after}");
        assert!(after.resident < before.resident + (16 << 20), "{before}, then {after}");
    });
}

#[derive(Clone)]
struct Servers {
    issuer: AuthorizationServer,
    api: ProtectedApi,
}

impl Servers {
    /// They give one token and take it, so that they have nothing to remember.
    async fn start() -> Self {
        let issuer = AuthorizationServer::start().await.unwrap();
        let api = ProtectedApi::start(&issuer).await.unwrap();
        let token = json!({ "access_token": "t", "token_type": "Bearer", "expires_in": 3600 });
        issuer.always(Reply::json(200, token));
        api.always(Reply::status(200));
        Self { issuer, api }
    }

    async fn run(&self, cycles: usize) {
        let mut workers = JoinSet::new();
        for first in 0..AT_ONCE {
            let servers = self.clone();
            workers.spawn(async move {
                for round in 0..cycles / AT_ONCE {
                    let cycle = servers.cycle(first + round);
                    let ended = timeout(Duration::from_secs(20), cycle).await;
                    assert!(ended.is_ok(), "cycle {round} of {first} does not end");
                    // They keep every request, and the room for as many as there ever were.
                    servers.issuer.reset_ledger();
                    servers.api.reset_ledger();
                }
            });
        }
        while let Some(worker) = workers.join_next().await {
            worker.unwrap();
        }
    }

    /// A handle and a stack, each with connections of its own, and a request; dropped at different
    /// points of their lives.
    async fn cycle(&self, number: usize) {
        let auth = ClientAuth::basic("client", "s3cr3t");
        let source = ClientCredentials::builder(self.issuer.token_endpoint(), auth);
        // The standard client takes a while to make: it reads the certificates that it trusts.
        let is_standard = number % 50 == 49;
        let source = if is_standard { source } else { source.transport(Transport::new(client())) };
        let tokens = TokenHandle::spawn(source.build().unwrap());
        let stack = OAuthLayer::new(tokens.clone(), self.api.url().parse().unwrap())
            .replay(CloneRequest)
            .layer(client());
        if !number.is_multiple_of(3) {
            tokens.ready().await.unwrap();
        }
        let request = http::Request::get(self.api.url()).body(Full::default()).unwrap();
        let mut answer = Box::pin(stack.oneshot(request));
        match number % 4 {
            // Nobody asks, or somebody does and goes away.
            0 => {}
            1 => drop(timeout(Duration::from_micros(300), &mut answer).await),
            _ => assert_eq!(answer.await.unwrap().status(), 200),
        }
    }
}

fn client() -> Client<HttpConnector, Full<Bytes>> {
    Client::builder(TokioExecutor::new()).build_http()
}

/// What is held once everything has ended that was dropped.
async fn settled(empty: &Held) -> Held {
    let started = Instant::now();
    loop {
        let held = Held::now();
        let is_settled = held.tasks <= empty.tasks && held.files <= empty.files;
        if is_settled || started.elapsed() > Duration::from_secs(10) {
            return held;
        }
        sleep(Duration::from_millis(20)).await;
    }
}
