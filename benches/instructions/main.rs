//! What callgrind counts: some number of requests through one design, and little else.
//!
//! `tests/instructions` runs it and holds the figures against a budget.
#![allow(missing_docs, reason = "a program")]

#[path = "../common/mod.rs"]
mod common;

use std::{env, hint::black_box};

use common::{
    Bare, add_authorization, layer, layer_of_eight, request, send, source, static_header,
};
use http::Request;
use tower::Service;
use tower_layer::Layer;
use tower_oauth::{CloneRequest, TokenHandle};

fn main() {
    let mut arguments = env::args().skip(1).filter(|argument| argument != "--bench");
    let design = arguments.next().unwrap_or_else(|| "oauth".to_owned());
    let requests = arguments.next().map_or(1, |n| n.parse().expect("a number of requests"));

    // One thread: what the refresher does is over before anything is counted.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a runtime");
    let tokens = runtime.block_on(async {
        let tokens = TokenHandle::spawn(source(1024));
        tokens.ready().await.expect("a token");
        tokens
    });

    match &*design {
        "bare" => kept(Bare, requests),
        "static" => kept(static_header(1024), requests),
        "static-cloned" => cloned(&static_header(1024), requests),
        "add-authorization" => kept(add_authorization(1024), requests),
        "oauth" => kept(layer(&tokens).layer(Bare), requests),
        "oauth-cloned" => cloned(&layer(&tokens).layer(Bare), requests),
        "oauth-last-of-eight" => kept(layer_of_eight(&tokens, 7).layer(Bare), requests),
        "oauth-replay" => kept(layer(&tokens).replay(CloneRequest).layer(Bare), requests),
        other => unreachable!("no such design: {other}"),
    }
}

fn kept(mut service: impl Service<Request<()>>, requests: usize) {
    // What is set up once per thread is not counted.
    send(&mut service, request());
    measured(|| send(&mut service, request()), requests);
}

fn cloned(service: &(impl Service<Request<()>> + Clone), requests: usize) {
    send(&mut service.clone(), request());
    measured(|| send(&mut service.clone(), request()), requests);
}

/// callgrind counts from the start of this function to its end.
#[inline(never)]
fn measured(mut work: impl FnMut(), requests: usize) {
    for _ in 0..black_box(requests) {
        work();
    }
}
