use std::time::{Duration, Instant, SystemTime};

use http::Request;
use tokio::runtime::{Builder, Runtime};
use tower::Service;
use tower_layer::Layer;
use tower_oauth::{
    CloneRequest, TokenHandle,
    time::{Clock, Moment, SystemClock},
};

use crate::common::{
    Bare, add_authorization, layer, layer_of_eight, request, send, shared_header, source,
    static_header,
};

/// Handles, and the runtime that their refreshers need. They sleep unless a token is swapped.
pub(crate) struct Tokens {
    pub(crate) runtime: Runtime,
    handles: Vec<(usize, TokenHandle)>,
}

impl Tokens {
    pub(crate) fn start() -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_time().build();
        let runtime = runtime.expect("a runtime");
        let handles = runtime.block_on(async {
            let mut handles = Vec::new();
            for bytes in [200, 4096] {
                let clock = Hasty(SystemClock::new());
                let tokens = TokenHandle::builder(source(bytes)).clock(clock).spawn();
                tokens.ready().await.expect("a token");
                handles.push((bytes, tokens));
            }
            handles
        });
        Self { runtime, handles }
    }

    /// The handle whose tokens have this length.
    pub(crate) fn of(&self, bytes: usize) -> &TokenHandle {
        let found = self.handles.iter().find(|(length, _)| *length == bytes);
        &found.expect("a handle of that length").1
    }
}

/// The refresher makes a pause between two fetches; by this clock it is over within a storm's
/// beat. Requests read the same coarse clock as ever.
#[derive(Debug)]
struct Hasty(SystemClock);

impl Clock for Hasty {
    fn now(&self) -> Moment {
        let now = self.0.now();
        Moment { boot: now.boot * 10_000, wall: now.wall }
    }

    fn coarse_wall(&self) -> SystemTime {
        self.0.coarse_wall()
    }
}

/// A way to put a token on a request. All threads use the same one.
pub(crate) struct Design {
    pub(crate) name: &'static str,
    run: Box<dyn Fn(usize, bool) -> Duration + Send + Sync>,
}

impl Design {
    fn new<S>(name: &'static str, service: S) -> Self
    where
        S: Service<Request<()>> + Clone + Send + Sync + 'static,
    {
        let run = move |requests: usize, cloned: bool| {
            let mut kept = service.clone();
            let start = Instant::now();
            for _ in 0..requests {
                if cloned {
                    send(&mut service.clone(), request());
                } else {
                    send(&mut kept, request());
                }
            }
            start.elapsed()
        };
        Self { name, run: Box::new(run) }
    }

    /// How long it takes to send this many requests, with one service or with a clone for each.
    pub(crate) fn run(&self, requests: usize, cloned: bool) -> Duration {
        (self.run)(requests, cloned)
    }
}

/// What everything is compared with.
pub(crate) const FLOOR: &str = "SetRequestHeader, static";
pub(crate) const BARE: &str = "bare service";

pub(crate) fn floor(bytes: usize) -> Design {
    Design::new(FLOOR, static_header(bytes))
}

pub(crate) fn ours(tokens: &Tokens, bytes: usize) -> Design {
    Design::new("OAuthLayer", layer(tokens.of(bytes)).layer(Bare))
}

pub(crate) fn all(tokens: &Tokens, bytes: usize) -> Vec<Design> {
    let handle = tokens.of(bytes);
    let first = layer_of_eight(handle, 0).layer(Bare);
    let last = layer_of_eight(handle, 7).layer(Bare);
    let replaying = layer(handle).replay(CloneRequest).layer(Bare);
    vec![
        Design::new(BARE, Bare),
        floor(bytes),
        Design::new("SetRequestHeader, shared", shared_header(bytes)),
        Design::new("AddAuthorization", add_authorization(bytes)),
        ours(tokens, bytes),
        Design::new("OAuthLayer, first of 8", first),
        Design::new("OAuthLayer, last of 8", last),
        Design::new("OAuthLayer, CloneRequest", replaying),
    ]
}
