//! One virtual day: who takes part, and how it goes.

use std::{sync::Arc, time::Duration};

use tokio::{
    runtime::{self, Handle},
    task::JoinSet,
    time::sleep,
};

use crate::{
    crowd, fate,
    issuer::{Book, Terms},
    ledger::{Invariant, Key, Ledger},
    load,
    log::Log,
    process::{Replays, Seat},
    store::SharedStore,
    tenants::Tenants,
    world::World,
};

/// Who takes part.
pub(crate) struct Cast {
    pub(crate) book: Book,
    pub(crate) seats: Vec<Arc<Seat>>,
    pub(crate) tenants: Tenants,
    pub(crate) keys: usize,
}

/// What a run leaves behind.
pub(crate) struct Run {
    pub(crate) ledger: Ledger,
    pub(crate) log_lines: u64,
}

/// Runs one seed.
pub(crate) fn run(seed: u64) -> Run {
    // What the crate draws, it draws from this thread's generator.
    fastrand::seed(seed);
    let log = Log::default();
    let _listening = tracing::subscriber::set_default(log.subscriber());
    let runtime = runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.unwrap();
    let world = runtime.block_on(async {
        let world = World::new(seed, KEYS, CALM);
        log.is_of(&world);
        day(&world).await;
        world
    });
    drop(runtime);
    let heard = log.take();
    for leak in heard.leaks {
        world.require(Invariant::I4, false, || format!("the log shows a secret, {leak}"));
    }
    world.ledger().counts.insert("log line lost", heard.lost);
    let ledger = std::mem::take(&mut *world.ledger());
    Run { ledger, log_lines: heard.lines }
}

async fn day(world: &World) {
    let cast = Arc::new(cast(world));
    let mut drivers = JoinSet::new();
    drivers.spawn(fate::inspect(world.fork(), cast.clone()));
    for seat in &cast.seats {
        seat.start();
        drivers.spawn(seat.clone().watch());
    }
    for key in (0..KEYS).filter(|key| cast.book.rotates(*key)) {
        drivers.spawn(fate::grant_again(world.fork(), cast.clone(), key));
    }
    let mut loads = JoinSet::new();
    for seat in &cast.seats {
        loads.spawn(load::on_seat(world.fork(), seat.clone()));
    }
    for tenant in 0..cast.tenants.callers.len() {
        loads.spawn(load::on_tenant(world.fork(), cast.clone(), tenant));
    }
    loads.spawn(crowd::gather(world.fork(), cast.clone()));
    let befalling = tokio::spawn(fate::befall(world.fork(), cast.clone()));
    sleep(CALM).await;
    world.ledger().say("from here on it is calm".to_owned());
    let _ = befalling.await;
    load::calm(world, &cast).await;
    loads.join_all().await;
    // The last requests end.
    sleep(Duration::from_secs(180)).await;
    world.ledger().check_all_ended();
    drivers.shutdown().await;
    // A refresher each, and one that listens to the store; and the pool's keeper.
    check_tasks(world, 2 * cast.seats.len() + 1, "with every handle alive").await;
    let Some(cast) = Arc::into_inner(cast) else {
        return world.require(Invariant::I11, false, || "somebody holds on to the clients".into());
    };
    drop(cast);
    // The refreshers end, and so does what servers are still at.
    sleep(Duration::from_secs(180)).await;
    check_tasks(world, 0, "after the last handle").await;
}

/// A fetch and its server have tasks of their own, and a token may be renewed just now. What is
/// there for a minute has leaked.
async fn check_tasks(world: &World, most: usize, when: &str) {
    let mut alive = usize::MAX;
    for _ in 0..60 {
        alive = alive.min(Handle::current().metrics().num_alive_tasks());
        if alive <= most {
            break;
        }
        sleep(Duration::from_secs(1)).await;
    }
    world.ledger().say(format!("{alive} tasks {when}"));
    world.require(Invariant::I11, alive <= most, || format!("{alive} tasks {when}, not {most}"));
}

fn cast(world: &World) -> Cast {
    let book = Book::default();
    let dice = world.dice();
    let grace = [0, 5, 30, 600].map(Duration::from_secs);
    let lifetimes = [120, 600, 900, 1800, 3600, 7200].map(Duration::from_secs);
    for key in 0..KEYS {
        let grace = ROTATING.contains(&key).then(|| dice.pick(&grace));
        let repeats = REPEATED.contains(&key) && dice.chance(0.5);
        let terms = Terms { lifetime: dice.pick(&lifetimes), grace, repeats };
        world.ledger().say(format!("key {key}: {terms:?}"));
        book.register(key, terms);
    }
    let seat = |key, replays| Seat::new(world, &book, key, replays);
    let mut seats =
        vec![seat(0, Replays::Never), seat(1, Replays::Clones), seat(2, Replays::Buffers)];
    for (key, processes) in [(3, 3), (4, 2), (5, 1)] {
        let lease = dice.chance(0.5).then(|| Duration::from_secs(20));
        let (hints, named) = (dice.chance(0.5), dice.chance(0.5));
        let store = SharedStore::new(world, key, lease, hints);
        for n in 0..processes {
            let replays = if n == 0 { Replays::Buffers } else { Replays::Clones };
            let mut seat = seat(key, replays).with_store(store.clone(), named);
            // Processes that want different things renew a shared token more often than once.
            seat.step_up &= processes == 1;
            seats.push(seat);
        }
    }
    let tenants = Tenants::new(world, &book, FIRST_TENANT..KEYS);
    Cast { book, seats: seats.into_iter().map(Arc::new).collect(), tenants, keys: KEYS }
}

/// The keys of clients with a refresh token.
const ROTATING: [Key; 3] = [1, 3, 5];
/// Those whose tokens may be given again: of clients that have no store.
const REPEATED: [Key; 6] = [0, 2, 6, 7, 8, 9];
const FIRST_TENANT: Key = 6;
const KEYS: usize = 10;
/// When all faults are over; the day goes on for an hour and a half.
pub(crate) const CALM: Duration = Duration::from_secs(22 * 3600 + 1800);
