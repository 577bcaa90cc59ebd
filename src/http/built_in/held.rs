//! The clients that a transport has used, and keeps for a while.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::{IDLE_TIMEOUT, client::AuthorityClient};
use crate::error::Error;

/// Clients by what requests must have in common to share one. One that was not used for
/// [`IDLE_TIMEOUT`] has no connection left, and goes when another one comes.
pub(in super::super) struct Held<K>(Mutex<Vec<Entry<K>>>);

struct Entry<K> {
    key: K,
    client: Arc<AuthorityClient>,
    used: Instant,
}

impl<K: PartialEq> Held<K> {
    /// The client of this key: the one that is kept, or a new one.
    pub(in super::super) fn client(
        &self,
        key: K,
        new: impl FnOnce(&K) -> Result<Arc<AuthorityClient>, Error>,
    ) -> Result<Arc<AuthorityClient>, Error> {
        let now = Instant::now();
        let known = used(&mut self.lock(), &key, now);
        if let Some(client) = known {
            return Ok(client);
        }
        let client = new(&key)?;
        let mut entries = self.lock();
        // Another request may have been faster.
        if let Some(known) = used(&mut entries, &key, now) {
            drop(entries);
            return Ok(known);
        }
        let mut surplus: Vec<_> = entries
            .extract_if(.., |entry| now.saturating_duration_since(entry.used) >= IDLE_TIMEOUT)
            .collect();
        if entries.len() >= HELD {
            let oldest = (0..entries.len()).min_by_key(|at| entries.get(*at).map(|e| e.used));
            surplus.extend(oldest.map(|at| entries.swap_remove(at)));
        }
        entries.push(Entry { key, client: client.clone(), used: now });
        drop(entries);
        // Not while the lock is held: a client may do anything as it goes.
        drop(surplus);
        Ok(client)
    }

    /// Lets the clients of such keys go.
    #[cfg(feature = "mtls")]
    pub(in super::super) fn forget(&self, is_over: impl Fn(&K) -> bool) {
        let over: Vec<_> = self.lock().extract_if(.., |entry| is_over(&entry.key)).collect();
        drop(over);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry<K>>> {
        // Nothing panics while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K> Default for Held<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

fn used<K: PartialEq>(
    entries: &mut [Entry<K>],
    key: &K,
    now: Instant,
) -> Option<Arc<AuthorityClient>> {
    let entry = entries.iter_mut().find(|entry| entry.key == *key)?;
    entry.used = now;
    Some(entry.client.clone())
}

/// How many clients one transport keeps at most.
const HELD: usize = 256;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{super::client::Recipe, *};

    struct Plain;

    impl Recipe for Plain {
        fn build(&self) -> Result<reqwest::Client, Error> {
            Ok(reqwest::Client::new())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn f103_a_transport_keeps_its_clients_while_they_have_connections_and_not_too_many() {
        let held = Held::default();
        let shared = Arc::new(AuthorityClient::new(Plain).unwrap());
        let is_new = |key: usize| {
            let mut is_new = false;
            let new = |_: &usize| {
                is_new = true;
                Ok(shared.clone())
            };
            held.client(key, new).unwrap();
            is_new
        };
        for round in 0..3 {
            for key in 0..100 {
                assert_eq!(is_new(key), round == 0);
            }
        }
        tokio::time::advance(IDLE_TIMEOUT / 2).await;
        assert!(!is_new(0));
        tokio::time::advance(IDLE_TIMEOUT / 2 + Duration::from_secs(1)).await;
        // Alone it stays, however long it is not used.
        assert!(!is_new(1) && is_new(1000));
        assert_eq!(held.lock().len(), 3, "0, 1 and the new one");
        for key in 0..1000 {
            tokio::time::advance(Duration::from_millis(1)).await;
            is_new(key);
        }
        assert!(held.lock().len() == HELD && is_new(1) && !is_new(999));
    }
}
