//! What becomes of one request at the API.

use std::time::Duration;

use http::StatusCode;

use super::challenge::{self, Refusal};
use crate::{
    ledger::{Key, Serial},
    weather::Trouble,
    world::World,
};

/// What becomes of one request.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fate {
    Served,
    Refused(StatusCode, Refusal),
    Redirected,
    Broken,
    Hangs,
}

/// What the API knows of a request before it has read the body.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) key: Key,
    /// It goes to the path that may refuse every token.
    pub(super) strict: bool,
    /// The token, if it is good.
    pub(super) good: Option<Serial>,
    /// Its caller will not wait for long.
    pub(super) may_hang: bool,
}

impl Fate {
    pub(super) fn draw(world: &World, asked: Asked) -> Self {
        let Asked { key, strict, good, may_hang } = asked;
        let dice = world.dice();
        if world.has(Trouble::ApiDown, key) {
            return Self::Broken;
        }
        let refused = |refusal| Self::Refused(StatusCode::UNAUTHORIZED, refusal);
        let invalid = if world.has(Trouble::ApiSloppy, key) {
            dice.pick(&challenge::SLOPPY)
        } else {
            challenge::INVALID_TOKEN
        };
        let Some(serial) = good else { return refused(invalid) };
        if world.has(Trouble::ApiRefuses, key)
            || (strict && world.has(Trouble::ApiRefusesOnePath, key))
        {
            return refused(invalid);
        }
        if world.has(Trouble::ApiRefusesMutely, key)
            || (strict && world.has(Trouble::ApiRefusesOnePathMutely, key))
        {
            return refused(dice.pick(&challenge::MUTE));
        }
        for (trouble, refusal) in
            [(Trouble::ApiLags, invalid), (Trouble::ApiLagsMutely, challenge::NONE)]
        {
            if world.has(trouble, key) && age(world, serial) < lag(key) {
                return refused(refusal);
            }
        }
        if world.has(Trouble::ApiWantsMore, key) {
            return Self::Refused(StatusCode::FORBIDDEN, challenge::INSUFFICIENT);
        }
        let flaky = world.has(Trouble::ApiFlaky, key) && dice.chance(0.5);
        if flaky || world.befalls(0.02) { Self::any(world, may_hang) } else { Self::Served }
    }

    fn any(world: &World, may_hang: bool) -> Self {
        let refused = |status| Self::Refused(status, challenge::NONE);
        match world.dice().below(10) {
            0 => Self::Broken,
            1 => Self::Refused(StatusCode::UNAUTHORIZED, challenge::INVALID_TOKEN),
            2 => refused(StatusCode::UNAUTHORIZED),
            3 => {
                let sloppy = world.dice().pick(&challenge::SLOPPY);
                Self::Refused(StatusCode::UNAUTHORIZED, sloppy)
            }
            4 => Self::Refused(StatusCode::FORBIDDEN, challenge::INSUFFICIENT),
            5 => refused(StatusCode::FORBIDDEN),
            6 => refused(StatusCode::SERVICE_UNAVAILABLE),
            7 => Self::Redirected,
            8 if may_hang => Self::Hangs,
            _ => refused(StatusCode::INTERNAL_SERVER_ERROR),
        }
    }
}

/// How long ago a token was issued.
fn age(world: &World, serial: Serial) -> Duration {
    let ledger = world.ledger();
    ledger.now.boot.saturating_sub(ledger.tokens[serial].issued)
}

/// For how long the API of a key does not know a new token, while it lags.
fn lag(key: Key) -> Duration {
    Duration::from_millis([1500, 4000, 12_000, 40_000][key % 4])
}
