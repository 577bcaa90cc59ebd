//! The token source: slow, failing, repeating itself, or giving tokens that live for a second.

use std::{
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::{Instant, sleep};
use tower_oauth::{Error, ErrorKind, FetchContext, TokenSet, TokenSource};

use crate::{
    common::dice::Dice,
    ledger::{Fetch, Ledger},
};

/// The source of one tenant. Clones are the same source.
#[derive(Clone)]
pub(crate) struct Source(Arc<Inner>);

struct Inner {
    ledger: Arc<Ledger>,
    tenant: u32,
    lifetime: Duration,
    dice: Dice,
    last: Mutex<Option<String>>,
}

impl Source {
    pub(crate) fn new(ledger: Arc<Ledger>, tenant: u32, lifetime: Duration, dice: Dice) -> Self {
        Self(Arc::new(Inner { ledger, tenant, lifetime, dice, last: Mutex::default() }))
    }

    fn token(&self) -> String {
        let letters: String = std::iter::repeat_with(fastrand::alphanumeric).take(24).collect();
        // The form that the watch over logs looks for.
        let number = self.0.ledger.fetches().len();
        format!("at-{number}-{letters}")
    }
}

impl TokenSource for Source {
    fn fetch(&self, _: FetchContext) -> impl Future<Output = Result<TokenSet, Error>> + Send {
        let this = self.clone();
        let Inner { ledger, dice, tenant, .. } = &*self.0;
        let at = Instant::now();
        let calm = ledger.is_calm();
        let slow = if dice.chance(0.5) { dice.seconds(0.001, 0.15) } else { Duration::ZERO };
        let (fails, again) = (!calm && dice.chance(0.15), !calm && dice.chance(0.15));
        ledger.fetched(Fetch { tenant: *tenant, at });
        async move {
            let Inner { ledger, tenant, lifetime, last, .. } = &*this.0;
            while !ledger.is_open() {
                sleep(Duration::from_millis(2)).await;
            }
            sleep(slow).await;
            if fails {
                ledger.say(&format_args!("tenant {tenant}: the token request failed"));
                return Err(Error::new(ErrorKind::Transport, "the connection broke, as planned"));
            }
            let old = last.lock().unwrap().clone().filter(|_| again);
            let token = old.unwrap_or_else(|| this.token());
            *last.lock().unwrap() = Some(token.clone());
            ledger.issued(&token, *tenant, *lifetime);
            Ok(TokenSet::bearer(token)?.with_lifetime(*lifetime))
        }
    }
}
