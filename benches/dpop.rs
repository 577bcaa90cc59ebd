//! What a proof costs beyond its signature: `cargo bench --bench dpop --features dpop`.
//!
//! In each round the bare signature, the layer with a bearer token and the layer with a bound token
//! take turns; the medians of all rounds are printed, and what a proof takes beside the layer's own
//! work as a ratio to the signature.
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a bench measures and prints")]

mod common;

use std::{hint::black_box, time::Instant};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair},
};
use common::{Bare, layer, request, send, source};
use tokio::runtime::Builder;
use tower_layer::Layer;
use tower_oauth::{DpopAlgorithm, DpopKey, Error, TokenHandle, TokenSet, source_fn};

const TOKEN: usize = 200;

type Work<'a> = Box<dyn FnMut() + 'a>;

fn main() -> Result<(), Error> {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let (rounds, requests) = if quick { (5, 20) } else { (301, 100) };
    let runtime = Builder::new_current_thread().enable_all().build().map_err(Error::other)?;
    runtime.block_on(async {
        for algorithm in [DpopAlgorithm::Es256, DpopAlgorithm::EdDsa] {
            let key = DpopKey::generate(algorithm)?;
            let bearer = TokenHandle::spawn(source(TOKEN));
            let bound = TokenHandle::spawn(source_fn(move |_| {
                let key = key.clone();
                async move { Ok(TokenSet::bearer("t".repeat(TOKEN))?.with_dpop_key(key)) }
            }));
            bearer.ready().await?;
            bound.ready().await?;
            let mut bearer = layer(&bearer).layer(Bare);
            let mut bound = layer(&bound).layer(Bare);
            // As long as what a proof signs for this request.
            let message = vec![b'm'; 480];
            let mut works: [Work<'_>; 3] = [
                signature(algorithm, &message),
                Box::new(move || send(&mut bearer, request())),
                Box::new(move || send(&mut bound, request())),
            ];
            let [signature, bearer, bound] = compare(&mut works, rounds, requests);
            println!(
                "{algorithm:?}: signature {signature:.0} ns, request with a bearer token {bearer:.0} ns, \
                 with a proof {bound:.0} ns: the proof is {:.3} x its signature",
                (bound - bearer) / signature,
            );
        }
        Ok(())
    })
}

fn signature(algorithm: DpopAlgorithm, message: &[u8]) -> Work<'_> {
    if algorithm == DpopAlgorithm::EdDsa {
        let pair = Ed25519KeyPair::generate().expect("there is randomness");
        return Box::new(move || {
            black_box(pair.sign(black_box(message)));
        });
    }
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING);
    let pair = pair.expect("there is randomness");
    let random = SystemRandom::new();
    Box::new(move || {
        let _ = black_box(pair.sign(&random, black_box(message)));
    })
}

/// Nanoseconds for one call of each: medians over the rounds.
fn compare<const N: usize>(works: &mut [Work<'_>; N], rounds: usize, calls: u32) -> [f64; N] {
    let mut times = [(); N].map(|()| Vec::with_capacity(rounds));
    for _ in 0..rounds {
        for (work, times) in works.iter_mut().zip(&mut times) {
            let start = Instant::now();
            for _ in 0..calls {
                work();
            }
            times.push(start.elapsed().as_secs_f64() * 1e9 / f64::from(calls));
        }
    }
    times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times.get(times.len() / 2).copied().unwrap_or_default()
    })
}
