//! The same request through other crates that keep a token: what each adds to it, and what callers
//! see when the token is to be renewed. See README.md.

mod cost;
mod endpoint;
mod peer;
mod point;
mod service;

use cost::Bench;

fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let mut bench = Bench::new(&runtime, quick);
    peer::costs(&mut bench);
    println!("{}", bench.table());
    runtime.block_on(peer::points(quick));
}
