//! A crowd of tenants whose servers never answer, in the pool of the others; and witnesses of whether
//! the others notice.

use std::{future::pending, sync::Arc, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tower_oauth::{Error, FetchContext, TokenPool, TokenSet, TokenSource};

use crate::{
    day::Cast,
    ledger::{Key, Ledger},
    world::World,
};

/// The source of a tenant.
pub(crate) enum Source<S> {
    /// One that takes part in the day.
    Probed(S),
    /// One of the crowd.
    Hangs,
    /// A witness, whose server is always well.
    Answers,
}

impl<S> Source<S> {
    /// That of a tenant which takes no part in the day, but for the pool.
    pub(crate) fn extra(key: Key) -> Self {
        if key < WITNESSES { Self::Hangs } else { Self::Answers }
    }
}

impl<S: TokenSource> TokenSource for Source<S> {
    async fn fetch(&self, cx: FetchContext) -> Result<TokenSet, Error> {
        match self {
            Self::Probed(source) => source.fetch(cx).await,
            Self::Hangs => pending().await,
            Self::Answers => {
                sleep(FETCH).await;
                Ok(TokenSet::bearer("of-a-witness")?.with_lifetime(Duration::from_secs(600)))
            }
        }
    }
}

/// Lets crowds gather over the day.
pub(crate) async fn gather(world: World, cast: Arc<Cast>) {
    let (mut next, mut witness) = (CROWD, WITNESSES);
    while !world.is_calm() {
        sleep(world.dice().gap(MEAN_GAP)).await;
        let size = world.dice().pick(&[31, 64, 200, 400]);
        let end = Instant::now() + world.dice().seconds(60.0, 300.0);
        world.ledger().say(format!("{size} tenants hang for {:?}", end - Instant::now()));
        world.ledger().count("crowd");
        let mut crowd = JoinSet::new();
        for key in next..next + size {
            let (world, pool) = (world.clone(), cast.tenants.pool.clone());
            crowd.spawn(async move {
                loop {
                    drop(pool.token(&key).await);
                    sleep(world.dice().seconds(1.0, 10.0)).await;
                }
            });
        }
        next += size;
        while Instant::now() < end && !world.is_calm() {
            sleep(world.dice().gap(Duration::from_secs(10))).await;
            witness += 1;
            testify(&world, &cast.tenants.pool, witness).await;
        }
    }
}

async fn testify(world: &World, pool: &TokenPool<Key>, witness: Key) {
    let asked = Instant::now();
    let outcome = pool.token(&witness).await.map(drop).map_err(|error| error.kind());
    let mut ledger = world.ledger();
    ledger.count("witness");
    ledger.testified(witness, outcome.is_ok(), asked.elapsed().saturating_sub(FETCH));
}

impl Ledger {
    /// A new tenant whose server answers was served, or was not, and waited so long beyond its own
    /// fetch.
    pub(crate) fn testified(&mut self, witness: Key, served: bool, waited: Duration) {
        self.require(crate::ledger::Invariant::I10, served && waited <= MOST, || {
            format!("tenant {witness} waits {waited:?} for others' servers (served: {served})")
        });
    }
}

/// What the fetch of a witness takes.
const FETCH: Duration = Duration::from_millis(200);

/// How long the fetch of a tenant may be kept waiting by those of others.
const MOST: Duration = Duration::from_secs(1);

/// The keys of the crowd, and of the witnesses.
const CROWD: Key = 1000;
const WITNESSES: Key = 1_000_000;

const MEAN_GAP: Duration = Duration::from_secs(5 * 3600);
