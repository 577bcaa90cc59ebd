//! Compositions whose types are not erased between the layers, as users write them.

use std::time::Duration;

use http::Request;
use tower::{
    ServiceBuilder, ServiceExt, buffer::BufferLayer, limit::ConcurrencyLimitLayer,
    load_shed::LoadShedLayer, retry::RetryLayer, timeout::TimeoutLayer,
};
use tower_http::follow_redirect::FollowRedirectLayer;
use tower_oauth::{CloneRequest, Idempotent, Origins, middleware::ReplayBody};

use crate::{
    client,
    draw::Stack,
    layers::{Kind, Unavailable},
    middle::{Replay, Tokens, buffered, keyed, single},
    story::Story,
    wire::{Svc, erase},
};

/// A composition.
pub(crate) struct Composition {
    pub(crate) name: &'static str,
    /// The drawn stack that it is like, for the bounds and the requests.
    pub(crate) like: fn() -> Stack,
    pub(crate) build: fn(&Tokens, &Origins, &str) -> Svc<Story>,
}

pub(crate) static COMPOSITIONS: [Composition; 6] = [
    Composition {
        name: "timeout, layer with a buffer, limit, hyper-util",
        like: || Stack {
            client: client::Kind::Legacy1,
            below: vec![Kind::ConcurrencyLimit(2)],
            replay: Replay::Buffers,
            tenants: 0,
            above: vec![Kind::Timeout(2000)],
        },
        build: |tokens, origins, _| {
            let client = client::legacy::<ReplayBody<Story>>(false);
            ServiceBuilder::new()
                .map_response(erase)
                .layer(TimeoutLayer::new(Duration::from_secs(2)))
                .layer(single(handle(tokens), origins).replay(buffered()))
                .layer(ConcurrencyLimitLayer::new(2))
                .service(client)
                .boxed_clone()
        },
    },
    Composition {
        name: "retry, layer with clones, load shed, limit, hyper-util over HTTP/2",
        like: || Stack {
            client: client::Kind::Legacy2,
            below: vec![Kind::ConcurrencyLimit(4), Kind::LoadShed],
            replay: Replay::Clones,
            tenants: 0,
            above: vec![Kind::Retry(2)],
        },
        build: |tokens, origins, _| {
            let client = client::legacy::<Story>(true);
            ServiceBuilder::new()
                .map_response(erase)
                .layer(RetryLayer::new(Unavailable(2)))
                .layer(single(handle(tokens), origins).replay(CloneRequest))
                .layer(LoadShedLayer::new())
                .layer(ConcurrencyLimitLayer::new(4))
                .service(client)
                .boxed_clone()
        },
    },
    Composition {
        name: "layer with a buffer on reqwest's own requests, reqwest",
        like: || Stack {
            client: client::Kind::Reqwest1,
            below: vec![Kind::Map],
            replay: Replay::Buffers,
            tenants: 0,
            above: vec![Kind::Map],
        },
        build: |tokens, origins, _| {
            ServiceBuilder::new()
                .map_request(|request: Request<Story>| {
                    reqwest::Request::try_from(request.map(reqwest::Body::wrap)).unwrap()
                })
                .map_response(client::from_reqwest)
                .layer(single(handle(tokens), origins).replay(buffered()))
                .service(client::reqwest(false))
                .boxed_clone()
        },
    },
    Composition {
        name: "redirects, keyed layer for idempotent methods, buffer, hyper-util",
        like: || Stack {
            client: client::Kind::Legacy1,
            below: vec![Kind::Buffer(2)],
            replay: Replay::IdempotentClones,
            tenants: 2,
            above: vec![Kind::FollowRedirect],
        },
        build: |tokens, origins, _| {
            let client = client::legacy::<Story>(false);
            ServiceBuilder::new()
                .map_response(erase)
                .layer(FollowRedirectLayer::new())
                .layer(keyed(pool(tokens), origins).replay(Idempotent(CloneRequest)))
                .layer(BufferLayer::<Request<Story>>::new(2))
                .service(client)
                .boxed_clone()
        },
    },
    Composition {
        name: "buffer, keyed layer with a buffer, reconnect behind a buffer",
        like: || Stack {
            client: client::Kind::Reconnect,
            below: Vec::new(),
            replay: Replay::Buffers,
            tenants: 3,
            above: vec![Kind::Buffer(4)],
        },
        build: |tokens, origins, home| {
            let client = client::reconnecting::<crate::wire::Wire>(client::address(home));
            let client =
                client.map_request(|request: Request<ReplayBody<Story>>| request.map(Into::into));
            ServiceBuilder::new()
                .map_response(erase)
                .layer(BufferLayer::<Request<Story>>::new(4))
                .layer(keyed::<Story>(pool(tokens), origins).replay(buffered()))
                .service(client)
                .boxed_clone()
        },
    },
    Composition {
        name: "layer with a buffer, tonic's channel",
        like: || Stack {
            client: client::Kind::Tonic,
            below: vec![Kind::ConcurrencyLimit(8)],
            replay: Replay::Buffers,
            tenants: 0,
            above: Vec::new(),
        },
        build: |tokens, origins, home| {
            let channel = client::tonic(home);
            ServiceBuilder::new()
                .map_response(erase)
                .layer(single(handle(tokens), origins).replay(buffered()))
                .layer(ConcurrencyLimitLayer::new(8))
                .map_request(|request: Request<ReplayBody<Story>>| {
                    request.map(tonic::body::Body::new)
                })
                .service(channel)
                .boxed_clone()
        },
    },
];

fn handle(tokens: &Tokens) -> &tower_oauth::TokenHandle {
    match tokens {
        Tokens::Handle(handle) => handle,
        Tokens::Pool(_) => panic!("the composition is for one handle"),
    }
}

fn pool(tokens: &Tokens) -> &tower_oauth::TokenPool<u32> {
    match tokens {
        Tokens::Pool(pool) => pool,
        Tokens::Handle(_) => panic!("the composition is for a pool"),
    }
}
