use std::{
    convert::Infallible,
    future::{Future, Ready, ready},
    pin::pin,
    task::{Context, Poll, Waker},
};

use allocation_counter::measure;
use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair},
};
use http::{HeaderMap, Request, Response};
use tower::Service;
use tower_layer::Layer;
use tower_oauth::{DpopAlgorithm, DpopKey, FixedToken, OAuthLayer, TokenHandle, TokenSet};

use super::server::API;

/// Answers at once, and allocates nothing.
#[derive(Clone)]
struct Bare;

impl Service<Request<()>> for Bare {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Ready<Result<Response<()>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        assert!(request.headers().contains_key("dpop"));
        ready(Ok(Response::new(())))
    }
}

fn send<S: Service<Request<()>>>(service: &mut S, request: Request<()>) {
    let mut cx = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut cx).is_ready());
    assert!(pin!(service.call(request)).poll(&mut cx).is_ready(), "nothing waits");
}

/// How many allocations it takes at least: the signer's own depend on the numbers that come out.
fn fewest(mut work: impl FnMut() -> u64) -> u64 {
    (0..100).map(|_| work()).min().unwrap_or_default()
}

/// How many allocations a signature takes.
fn of_the_signer(algorithm: DpopAlgorithm) -> u64 {
    let message = [b'm'; 480];
    if algorithm == DpopAlgorithm::EdDsa {
        let pair = Ed25519KeyPair::generate().unwrap();
        fewest(|| measure(|| assert_eq!(pair.sign(&message).as_ref().len(), 64)).count_total)
    } else {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let random = SystemRandom::new();
        let sign = || assert_eq!(pair.sign(&random, &message).unwrap().as_ref().len(), 64);
        fewest(|| measure(sign).count_total)
    }
}

#[tokio::test]
async fn dpo_02_a_proof_takes_one_allocation_beside_its_signature() {
    for algorithm in [DpopAlgorithm::Es256, DpopAlgorithm::EdDsa] {
        let key = DpopKey::generate(algorithm).unwrap();
        let token = TokenSet::bearer("t".repeat(200)).unwrap().with_dpop_key(key);
        let tokens = TokenHandle::spawn(FixedToken::new(token));
        tokens.ready().await.unwrap();
        let mut client = OAuthLayer::new(tokens, API.parse().unwrap()).layer(Bare);
        let count = || {
            let mut request = Request::get(format!("{API}/orders/7?a")).body(()).unwrap();
            *request.headers_mut() = HeaderMap::with_capacity(8);
            measure(|| send(&mut client, request)).count_total
        };
        assert_eq!(fewest(count), of_the_signer(algorithm) + 1, "{algorithm:?}");
    }
}
