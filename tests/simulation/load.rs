//! The load: idle hours, a trickle, bursts; and at the end of the day, requests that must be served.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;
use tower_oauth::{ErrorKind, State};

use crate::{
    caller::Caller,
    day::Cast,
    ledger::{Invariant, Key, Times},
    process::Seat,
    world::World,
};

pub(crate) async fn on_seat(world: World, seat: Arc<Seat>) {
    let (other, key) = (world.fork(), seat.key);
    let send = || seat.spawn_request();
    tokio::join!(go_on(&world, send), insist(&other, key, send));
}

pub(crate) async fn on_tenant(world: World, cast: Arc<Cast>, tenant: usize) {
    let (other, key) = (world.fork(), cast.tenants.callers[tenant].key);
    let send = || cast.tenants.spawn_request(tenant);
    tokio::join!(go_on(&world, send), insist(&other, key, send));
}

/// Sends requests at a steady pace while tokens are refused that are good.
async fn insist(world: &World, key: Key, send: impl Fn()) {
    let dice = world.dice();
    while !world.is_calm() {
        if world.refuses_in_vain(key) {
            let gap = dice.seconds(0.2, 29.0);
            for _ in 0..dice.pick(&[30, 60, 120, 400]) {
                send();
                sleep(gap.mul_f64(0.8 + 0.2 * dice.part())).await;
                if world.is_calm() {
                    return;
                }
            }
            sleep(dice.gap(Duration::from_secs(900))).await;
        } else {
            sleep(Duration::from_secs(60)).await;
        }
    }
}

async fn go_on(world: &World, send: impl Fn()) {
    let dice = world.dice();
    while !world.is_calm() {
        match dice.below(3) {
            0 => sleep(dice.seconds(60.0, 4.0 * 3600.0)).await,
            1 => {
                let gap = dice.seconds(1.0, 900.0);
                for _ in 0..2 + dice.below(8) {
                    send();
                    sleep(dice.gap(gap)).await;
                }
            }
            _ => {
                let at_once = dice.chance(0.5);
                for _ in 0..3 + dice.below(20) {
                    send();
                    if !at_once {
                        sleep(dice.gap(Duration::from_millis(30))).await;
                    }
                }
                sleep(dice.gap(Duration::from_secs(1800))).await;
            }
        }
    }
}

/// After the last fault every client serves again, and goes on to. One whose grant has ended says
/// so, until somebody gives access again.
pub(crate) async fn calm(world: &World, cast: &Cast) {
    let begun = world.now();
    let start = begun.at;
    let mut granted = false;
    while world.now().at < start + CALM_FOR {
        sleep(world.dice().seconds(30.0, 180.0)).await;
        let passed = world.now().at - start;
        if !granted && passed > UNTIL_GRANTED {
            granted = true;
            for seat in &cast.seats {
                if !cast.book.is_alive(seat.key) {
                    check_says_so(world, seat);
                }
            }
            for key in 0..cast.keys {
                if !cast.book.is_alive(key) {
                    cast.book.grant_again(world, key);
                    world
                        .ledger()
                        .instances
                        .iter_mut()
                        .filter(|one| one.key == key)
                        .for_each(|one| one.recovers_from = passed + start);
                }
            }
        }
        let callers =
            cast.seats.iter().filter_map(|seat| Some(seat.process().as_ref()?.caller.next()));
        let callers: Vec<_> =
            callers.chain(cast.tenants.callers.iter().map(Caller::next)).collect();
        for caller in callers {
            if cast.book.is_alive(caller.key) {
                check_serves(world, cast, &caller, begun).await;
            }
        }
    }
}

async fn check_serves(world: &World, cast: &Cast, caller: &Caller, begun: Times) {
    let good = world.ledger().good(caller.instance);
    let good = good.filter(|serial| cast.book.is_good(*serial, world.now().boot));
    let sent = world.now();
    let status = caller.request().await;
    let now = world.now();
    world.ledger().served_in_calm(caller.instance, good, status, now.at - sent.at);
    let pending = world.ledger().pending_until(caller.instance);
    let since = begun.at.max(world.ledger().instances[caller.instance].recovers_from);
    // Boot time runs ahead by what the machine has slept.
    let pending = pending.saturating_sub(now.boot - now.at);
    let by = since.max(pending) + RECOVERY;
    // A token that was issued before may live shorter than was said, wherever it comes from.
    let bad = status == Some(401) && world.ledger().newest_issued(caller.instance) < begun.boot;
    world.require(Invariant::I9, now.at < by || status == Some(200) || bad, || {
        format!("{} answers with {status:?}, and should serve since {by:?}", caller.instance)
    });
}

fn check_says_so(world: &World, seat: &Seat) {
    let process = seat.process();
    let Some(process) = &*process else { return };
    let status = process.tokens.status();
    let ended = status
        .error()
        .is_some_and(|error| error.kind() == ErrorKind::InvalidGrant && error.needs_user());
    // One that was told to wait has not asked yet.
    let instance = process.caller.instance;
    let pending = world.ledger().pending_until(instance) > world.now().boot;
    // The last token may outlive its grant.
    let says_so = status.is_ready() || pending || (ended && status.state() == State::Failed);
    world.require(Invariant::I9, says_so, || {
        format!("{} does not say that its grant has ended: {status:?}", process.caller.instance)
    });
    world.ledger().count("ended grant in calm");
}

const CALM_FOR: Duration = Duration::from_secs(5400);
const UNTIL_GRANTED: Duration = Duration::from_secs(1200);
/// A fetch under way, the longest pause after a failure that passes, and the fetch after it.
const RECOVERY: Duration = Duration::from_secs(90);
