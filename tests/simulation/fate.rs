//! What befalls clients and their machine over the day.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{task::JoinSet, time::sleep};
use tower_oauth::{Rejection, Status, TokenHandle, time::Clock as _};

use crate::{
    canary,
    day::Cast,
    ledger::{Invariant, Key},
    process::refresh,
    world::World,
};

/// Lets things happen at random until it is calm.
pub(crate) async fn befall(world: World, cast: Arc<Cast>) {
    let mut errands = JoinSet::new();
    while !world.is_calm() {
        sleep(world.dice().gap(MEAN_GAP)).await;
        if world.is_calm() {
            break;
        }
        while errands.try_join_next().is_some() {}
        happen(&world, &cast, &mut errands);
    }
    // What was begun may be under way still.
    errands.join_all().await;
}

fn happen(world: &World, cast: &Cast, errands: &mut JoinSet<()>) {
    let dice = world.dice();
    let seat = &cast.seats[dice.below(cast.seats.len())];
    let key = dice.below(cast.keys);
    match dice.below(13) {
        0 => cast.book.revoke(world, key),
        1 if cast.book.rotates(seat.key) && dice.chance(0.3) => {
            world.ledger().say(format!("the grant of key {} is ended by its user", seat.key));
            cast.book.end_grant(seat.key);
        }
        2 => {
            world.ledger().say(format!("the secret of key {key} is replaced"));
            cast.book.replace_secret(key);
        }
        3 => {
            let process = seat.process();
            let Some(process) = &*process else { return };
            let (tokens, instance) = (process.tokens.clone(), process.caller.instance);
            errands.spawn(refresh(world.clone(), tokens, instance));
        }
        4 => {
            let process = seat.process();
            let Some(process) = &*process else { return };
            reject(world, &process.tokens, process.caller.instance);
        }
        5 | 6 => {
            let seconds = dice.pick(&[-1, 1, 20, -20, 3600, -3600, TEN_YEARS, -TEN_YEARS]);
            // No machine shows a time before 1970.
            let wall = world.clock().now().wall.duration_since(SystemTime::UNIX_EPOCH);
            let wall = wall.map_or(0, |wall| i64::try_from(wall.as_secs()).unwrap_or(0));
            if wall + seconds > 0 {
                world.clock().set_wall(seconds);
                world.ledger().wall_jumped(seconds);
            }
        }
        7 => {
            let time = Duration::from_secs(dice.seconds(60.0, 4.0 * 3600.0).as_secs());
            world.clock().sleep_machine(time);
            world.ledger().slept(time);
        }
        8 if seat.may_stop() => seat.recreate(),
        9 | 10 if seat.may_stop() => {
            if let Some(process) = &*seat.process() {
                match dice.below(3) {
                    0 => process.life.kill(),
                    _ => process.life.kill_after(1 + u32::try_from(dice.below(30)).unwrap_or(0)),
                }
            }
        }
        11 => cast.tenants.remove(dice.below(cast.tenants.callers.len())),
        _ => {}
    }
}

/// Rejects a token, which may be an old one.
fn reject(world: &World, tokens: &TokenHandle, instance: usize) {
    let Some(current) = tokens.current() else { return };
    let epoch = current.epoch();
    let old = world.dice().chance(0.5);
    let rejected = if old { epoch.saturating_sub(1) } else { epoch };
    world.ledger().rejecting(instance, rejected);
    let answer = tokens.reject(rejected);
    let after = tokens.current().map(|token| token.epoch());
    world.require(Invariant::I3, !old || answer == Rejection::Superseded, || {
        format!("{instance} takes the rejection of {rejected} for one of {epoch}")
    });
    world.require(Invariant::I3, !old || after == Some(epoch), || {
        format!("{instance} has {after:?} after the rejection of {rejected}")
    });
    world.require(Invariant::I2, answer != Rejection::Accepted || after != Some(rejected), || {
        format!("{instance} still has {rejected}, which it has rejected")
    });
}

/// Looks at every handle from time to time.
pub(crate) async fn inspect(world: World, cast: Arc<Cast>) {
    loop {
        sleep(Duration::from_secs(173)).await;
        for seat in &cast.seats {
            let process = seat.process();
            let Some(process) = &*process else { continue };
            let instance = process.caller.instance;
            let epoch = process.tokens.current().map(|token| token.epoch());
            world.ledger().shows(instance, epoch);
            let text = format!("{:?} {:?}", process.tokens, process.tokens.current());
            world.require(Invariant::I4, canary::find(&text).is_none(), || {
                format!("the Debug of {instance} shows a secret: {text}")
            });
        }
        for caller in &cast.tenants.callers {
            // Not `current()`: that is a use.
            if let Some(status) = cast.tenants.pool.status(&caller.key).filter(Status::is_ready) {
                world.ledger().shows(caller.instance, Some(status.epoch()));
            }
        }
    }
}

/// Gives access again some time after a grant has ended.
pub(crate) async fn grant_again(world: World, cast: Arc<Cast>, key: Key) {
    loop {
        sleep(Duration::from_secs(61)).await;
        if !cast.book.is_alive(key) && !world.is_calm() {
            sleep(world.dice().seconds(60.0, 3600.0)).await;
            if !world.is_calm() {
                cast.book.grant_again(&world, key);
            }
        }
    }
}

const MEAN_GAP: Duration = Duration::from_secs(900);
const TEN_YEARS: i64 = 10 * 365 * 24 * 3600;
