//! What a pool of many tenants costs: memory, lookups, timers.
//!
//! `cargo bench --bench pool` prints a table; with `-- --quick` it takes less than ten seconds and
//! stops at a tenth of the tenants.

#![allow(clippy::print_stdout, reason = "it prints a table")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a bench may panic")]
#![allow(clippy::disallowed_methods, reason = "it measures time, and spawns")]
#![allow(clippy::cast_precision_loss, reason = "figures are printed with three digits")]

use std::{
    convert::Infallible,
    future::{Future, Ready, poll_fn, ready},
    hint::black_box,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderValue, Request, Response, header::AUTHORIZATION};
use tower::Service;
use tower_layer::Layer;
use tower_oauth::{
    Error, FetchContext, OAuthLayer, TokenHandle, TokenPool, TokenSet, TokenSource,
    pool::PoolKeeper, source_fn,
};

const HOUR: Duration = Duration::from_secs(3600);
/// As long as many opaque tokens are.
const TOKEN: &str = "2YotnFZFEjr1zCsicMWpAAd41d8cd98f00b204e9800998ecf8";

/// Each case runs in a process of its own: what one has freed would slow the allocator of the next.
fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let quick = arguments.iter().any(|argument| argument == "--quick");
    if let Some(at) = arguments.iter().position(|argument| argument == "--case") {
        let tenants = arguments[at + 2].parse().unwrap();
        let hours = if quick { 2 } else { 4 };
        return match &*arguments[at + 1] {
            "memory" => memory(tenants),
            "requests" => requests(tenants, if quick { 200_000 } else { 2_000_000 }),
            case => timers(tenants, hours, case == "used"),
        };
    }
    let run = |case: &str, tenants: u32| {
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args(["--case", case, &tenants.to_string()]);
        assert!(command.args(quick.then_some("--quick")).status().unwrap().success());
    };
    let sizes = [1, 10_000, if quick { 100_000 } else { 1_000_000 }];
    println!("memory: bytes per tenant with a token of {} characters, key u64", TOKEN.len());
    for tenants in sizes {
        run("memory", tenants);
    }
    println!("\nrequests: ns per lookup and injection, without the service below");
    for tenants in sizes {
        run("requests", tenants);
    }
    println!("\ntimers: hours of tokens of an hour, in virtual time");
    for tenants in sizes {
        run("used", tenants);
    }
    run("unused", sizes[2]);
}

/// Gives tokens at once; has no state of its own.
struct Instantly;

impl TokenSource for Instantly {
    fn fetch(&self, _: FetchContext) -> impl Future<Output = Result<TokenSet, Error>> + Send {
        FETCHES.fetch_add(1, Relaxed);
        ready(TokenSet::bearer(TOKEN).map(|token| token.with_lifetime(HOUR)))
    }
}

static FETCHES: AtomicU64 = AtomicU64::new(0);

fn pair(tenants: u32) -> (TokenPool<u64>, PoolKeeper) {
    TokenPool::builder(|_: &u64| Instantly)
        .max_tenants(tenants as usize)
        .idle_timeout(HOUR * 2)
        .pair()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

async fn fill(pool: &TokenPool<u64>, tenants: u32) {
    for key in 0..u64::from(tenants) {
        pool.token(&key).await.unwrap();
    }
}

/// Counts what is allocated and still there once every tenant has a token.
fn memory(tenants: u32) {
    let mut kept = None;
    let resident = resident_bytes();
    let counted = allocation_counter::measure(|| {
        let runtime = runtime();
        let pool = runtime.block_on(async {
            let (pool, keeper) = pair(tenants);
            tokio::spawn(keeper);
            fill(&pool, tenants).await;
            pool
        });
        kept = Some((runtime, pool));
    });
    let resident = resident_bytes().saturating_sub(resident);
    let n = f64::from(tenants);
    let set = allocation_counter::measure(|| {
        std::mem::forget(black_box(Arc::new(TokenSet::bearer(TOKEN).unwrap())));
    });
    let all = counted.bytes_current as f64 / n;
    let (key, text) = (8.0, TOKEN.len() as f64);
    let set = set.bytes_current as f64;
    println!(
        "{tenants:>9} tenants: {all:>7.0} allocated, {:>7.0} resident, in {:.1} allocations",
        resident as f64 / n,
        counted.count_current as f64 / n,
    );
    println!(
        "{:>18} {:.0} beyond key and token set ({set:.0}) and the header's text ({:.0})",
        "",
        all - key - set - text - 7.0,
        text + 7.0,
    );
    println!("{:>18} {:.0} beyond key and the token's text, once", "", all - key - text);
    drop(kept);
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or_default() * 4096
}

/// Answers at once, and allocates nothing.
#[derive(Clone)]
struct Bare;

impl Service<Request<u64>> for Bare {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Ready<Result<Response<()>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<u64>) -> Self::Future {
        black_box(request);
        ready(Ok(Response::new(())))
    }
}

/// Seconds that so many threads take for their requests of one tenant, each as many as the others:
/// the fastest of several rounds.
fn at_once<L>(threads: usize, layer: &L, rounds: u32) -> f64
where
    L: Layer<Bare> + Sync,
    L::Service: Service<Request<u64>>,
{
    let round = |_| {
        let barrier = std::sync::Barrier::new(threads);
        let seconds = |service: &mut L::Service| {
            barrier.wait();
            let start = Instant::now();
            for _ in 0..100_000 {
                send(service, request(0));
            }
            start.elapsed().as_secs_f64()
        };
        std::thread::scope(|scope| {
            let run = || scope.spawn(|| seconds(&mut layer.layer(Bare)));
            let running: Vec<_> = (0..threads).map(|_| run()).collect();
            running.into_iter().map(|thread| thread.join().unwrap()).fold(0.0, f64::max)
        })
    };
    (0..rounds.clamp(1, 20)).map(round).fold(f64::INFINITY, f64::min)
}

fn requests(tenants: u32, rounds: u32) {
    let runtime = runtime();
    let random: Vec<u64> = (0..1 << 16).map(|_| fastrand::u64(..)).collect();
    let fixed = HeaderValue::from_static("Bearer 2YotnFZFEjr1zCsicMWpAA");
    let (tokens, pool) = runtime.block_on(async {
        let tokens = TokenHandle::spawn(source_fn(|_| ready(TokenSet::bearer(TOKEN))));
        tokens.ready().await.unwrap();
        let (pool, keeper) = pair(tenants);
        tokio::spawn(keeper);
        fill(&pool, tenants).await;
        (tokens, pool)
    });
    let mut handle = OAuthLayer::new(tokens, "https://api.example".parse().unwrap()).layer(Bare);
    let key = |request: &Request<u64>| Some(*request.body());
    let layer = OAuthLayer::keyed(pool, "https://api.example".parse().unwrap(), key);
    let (mut one, mut all) = (layer.layer(Bare), layer.layer(Bare));
    let [bare, fixed, handle, hot, uniform] = time(
        rounds,
        [
            &mut |_| drop(black_box(request(1))),
            &mut |_| {
                let mut request = request(1);
                request.headers_mut().insert(AUTHORIZATION, fixed.clone());
                black_box(request);
            },
            &mut |_| send(&mut handle, request(1)),
            &mut |_| send(&mut one, request(0)),
            &mut |n| {
                let key = random[n as usize & 0xFFFF].wrapping_add(u64::from(n) * 0x9E37_79B9);
                send(&mut all, request(key % u64::from(tenants)));
            },
        ],
    );
    println!(
        "{tenants:>9} tenants: hot {:.0}, uniform {:.0}; a static header {:.0}, one handle {:.0}",
        hot - bare,
        uniform - bare,
        fixed - bare,
        handle - bare,
    );
    println!("{:>18} hot, by two threads at once: {:.2} x the time of one", "", {
        let alone = at_once(1, &layer, rounds);
        at_once(2, &layer, rounds) / alone
    });
}

fn request(key: u64) -> Request<u64> {
    let mut request = Request::get("https://api.example/orders").body(key).unwrap();
    *request.headers_mut() = HeaderMap::with_capacity(2);
    request
}

fn send<S: Service<Request<u64>>>(service: &mut S, request: Request<u64>) {
    let mut cx = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut cx).is_ready());
    assert!(pin!(service.call(request)).poll(&mut cx).is_ready(), "a token is at hand");
}

/// What a round of each design takes, in ns: the median of runs in turn, so that a machine that is
/// slow for a while is slow for all.
fn time<const N: usize>(rounds: u32, mut designs: [&mut dyn FnMut(u32); N]) -> [f64; N] {
    let rounds = rounds / RUNS;
    let mut times = [const { Vec::new() }; N];
    for run in 0..RUNS {
        for (design, times) in designs.iter_mut().zip(&mut times) {
            let start = Instant::now();
            for n in 0..rounds {
                design(run * rounds + n);
            }
            times.push(start.elapsed().as_nanos() as f64 / f64::from(rounds));
        }
    }
    times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    })
}

const RUNS: u32 = 25;

/// What the keeper's polls cost.
#[derive(Default)]
struct Polls {
    cpu: AtomicU64,
    longest_cpu: AtomicU64,
    longest_wall: AtomicU64,
    count: AtomicU64,
}

/// `used`: each tenant's token is used in time for its renewal; otherwise all run out.
fn timers(tenants: u32, hours: u32, used: bool) {
    let polls = Arc::new(Polls::default());
    runtime().block_on(async {
        let (pool, keeper) = pair(tenants);
        let meter = polls.clone();
        tokio::spawn(async move {
            let mut keeper = pin!(keeper);
            poll_fn(|cx| {
                let (start, wall) = (cpu_time(), Instant::now());
                let outcome = keeper.as_mut().poll(cx);
                let (spent, wall) = (cpu_time() - start, wall.elapsed().as_nanos());
                meter.cpu.fetch_add(spent, Relaxed);
                meter.longest_cpu.fetch_max(spent, Relaxed);
                meter.longest_wall.fetch_max(u64::try_from(wall).unwrap_or(u64::MAX), Relaxed);
                meter.count.fetch_add(1, Relaxed);
                outcome
            })
            .await;
        });
        // All in one second: the worst that can happen to the spread.
        fill(&pool, tenants).await;
        if !used {
            // The tokens that nobody uses are the second ones. They run out, and then all tenants
            // are dropped at the same instant.
            tokio::time::sleep(HOUR * 51 / 60).await;
        }
        let reset = |counter: &AtomicU64| counter.swap(0, Relaxed);
        let (spent_to_fill, _) = (reset(&polls.cpu), reset(&polls.count));
        let longest_to_fill = reset(&polls.longest_cpu);
        reset(&polls.longest_wall);
        FETCHES.store(0, Relaxed);
        let (mut peak, mut before, mut touching) = (0, 0, 0);
        let start = cpu_time();
        for second in 0..hours * 3600 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let now = FETCHES.load(Relaxed);
            peak = peak.max(now - before);
            before = now;
            if used && second % 1800 == 1799 {
                let touch = cpu_time();
                for key in 0..u64::from(tenants) {
                    black_box(pool.current(&key));
                }
                touching += cpu_time() - touch;
            }
        }
        let whole = cpu_time() - start - touching;
        let fetches = FETCHES.load(Relaxed);
        let seconds = |ns: u64| ns as f64 / 1e9;
        let hours = f64::from(hours);
        let hour = seconds(polls.cpu.load(Relaxed)) / hours;
        println!(
            "{tenants:>9} {}: keeper {hour:.3} s CPU an hour ({:.4} % of a core) in {} polls, \
             with fetches {:.3} s",
            if used { "used  " } else { "unused" },
            hour / 36.0,
            polls.count.load(Relaxed),
            seconds(whole) / hours,
        );
        println!(
            "{:>18} longest poll {:.2} ms CPU, {:.2} ms wall; while filling {:.2} ms, {:.2} s in all",
            "",
            seconds(polls.longest_cpu.load(Relaxed)) * 1e3,
            seconds(polls.longest_wall.load(Relaxed)) * 1e3,
            seconds(longest_to_fill) * 1e3,
            seconds(spent_to_fill),
        );
        // All tokens were obtained in one second, so the first renewals all fall within a tenth of
        // an hour; later ones within ever longer times.
        println!(
            "{:>18} {fetches} fetches; a second: at most {peak}, {:.0} on average over the 360 s of \
             the first renewals, {:.0} over all",
            "",
            f64::from(tenants) / 360.0,
            fetches as f64 / 3600.0 / hours,
        );
    });
}

/// CPU time of this thread, in ns: what else runs on the machine is not in it.
#[cfg(unix)]
fn cpu_time() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    u64::try_from(time.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap()
}

#[cfg(not(unix))]
fn cpu_time() -> u64 {
    static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    u64::try_from(START.elapsed().as_nanos()).unwrap()
}
