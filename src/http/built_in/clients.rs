//! The clients of the process, each for one authority.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak},
};

use tokio::runtime;

use super::client::AuthorityClient;
use crate::error::Error;

/// What two requests must have in common to share a client.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct ClientKey {
    /// Scheme, host and port.
    pub(super) authority: String,
    /// As in [`BuiltIn`](super::BuiltIn).
    pub(super) trusted: Option<Arc<BTreeSet<String>>>,
    /// A connection is driven by a task of the runtime that has made it, and stands still while that
    /// runtime does.
    pub(super) runtime: runtime::Id,
}

/// The client of this key: the one that there is, or a new one.
pub(super) fn client_for(key: ClientKey) -> Result<Arc<AuthorityClient>, Error> {
    let mut clients = clients();
    if let Some(client) = clients.get(&key).and_then(Weak::upgrade) {
        return Ok(client);
    }
    let client = Arc::new(AuthorityClient::new(key.clone())?);
    clients.insert(key, Arc::downgrade(&client));
    Ok(client)
}

/// Forgets a client that has just been dropped, unless another one has taken its place.
pub(super) fn forget(key: &ClientKey) {
    let mut clients = clients();
    if clients.get(key).is_some_and(|client| client.strong_count() == 0) {
        clients.remove(key);
    }
}

fn clients() -> MutexGuard<'static, HashMap<ClientKey, Weak<AuthorityClient>>> {
    // Nothing panics while it is held.
    CLIENTS.lock().unwrap_or_else(PoisonError::into_inner)
}

static CLIENTS: LazyLock<Mutex<HashMap<ClientKey, Weak<AuthorityClient>>>> =
    LazyLock::new(Mutex::default);

#[cfg(test)]
mod tests {
    use tokio::runtime::{Builder, Handle};

    use super::*;

    fn key(authority: &str, trusted: Option<&str>) -> ClientKey {
        let trusted = trusted.map(|host| Arc::new(BTreeSet::from([host.to_owned()])));
        ClientKey { authority: authority.to_owned(), trusted, runtime: Handle::current().id() }
    }

    #[tokio::test]
    async fn f103_a_client_is_shared_by_authority_and_forgotten_with_its_last_user() {
        let [a, b] = ["https://a.example:443", "https://b.example:443"];
        let first = client_for(key(a, None)).unwrap();
        assert!(Arc::ptr_eq(&first, &client_for(key(a, None)).unwrap()));
        assert!(!Arc::ptr_eq(&first, &client_for(key(b, None)).unwrap()));
        assert!(!Arc::ptr_eq(&first, &client_for(key(a, Some("a.example"))).unwrap()));
        let other = Builder::new_current_thread().build().unwrap();
        let there = std::thread::scope(|scope| {
            let there = || other.block_on(async { client_for(key(a, None)) }).unwrap();
            scope.spawn(there).join().unwrap()
        });
        assert!(!Arc::ptr_eq(&first, &there), "its connections stand still when that runtime does");
        drop((first, there));
        let here = Handle::current().id();
        assert!(
            !clients().keys().any(|key| key.runtime == here || key.runtime == other.handle().id())
        );
        other.shutdown_background();
    }
}
