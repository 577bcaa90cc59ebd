//! The clients of the process, each for one authority.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak},
};

use tokio::runtime;

use super::{
    client::{AuthorityClient, Recipe},
    resolver::Resolver,
    tls, with_bounds,
};
use crate::error::{Error, ErrorKind};

/// What two requests must have in common to share a client.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct ClientKey {
    /// Scheme, host and port.
    pub(super) authority: String,
    /// Whether its host may be at any address, and not at public ones only.
    pub(super) anywhere: bool,
    /// A connection is driven by a task of the runtime that has made it, and stands still while that
    /// runtime does.
    pub(super) runtime: runtime::Id,
}

/// The client of this key: the one that there is, or a new one.
pub(super) fn client_for(key: ClientKey) -> Result<Arc<AuthorityClient>, Error> {
    let known = clients().get(&key).and_then(Weak::upgrade);
    if let Some(client) = known {
        return Ok(client);
    }
    // Not while the lock is held: a recipe that goes takes it.
    let resolver = Resolver::new(key.anywhere);
    let client = Arc::new(AuthorityClient::new(Standard { key: key.clone(), resolver })?);
    let mut clients = clients();
    if let Some(known) = clients.get(&key).and_then(Weak::upgrade) {
        drop(clients);
        return Ok(known);
    }
    clients.insert(key, Arc::downgrade(&client));
    Ok(client)
}

/// Makes default clients.
struct Standard {
    key: ClientKey,
    resolver: Resolver,
}

impl Recipe for Standard {
    fn build(&self) -> Result<reqwest::Client, Error> {
        let failed = |message| Error::new(ErrorKind::Transport, message);
        let tls = tls::config().map_err(|error| {
            failed("no connection can be made to the authorization server").with_source(error)
        })?;
        with_bounds(reqwest::Client::builder(), &self.resolver)
            .tls_backend_preconfigured(tls)
            .build()
            .map_err(|error| failed("no HTTP client can be built").with_source(error))
    }
}

/// The last user of the client has gone.
impl Drop for Standard {
    fn drop(&mut self) {
        forget(&self.key);
    }
}

/// Forgets a client that has just been dropped, unless another one has taken its place.
fn forget(key: &ClientKey) {
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

    fn key(authority: &str, anywhere: bool) -> ClientKey {
        ClientKey { authority: authority.to_owned(), anywhere, runtime: Handle::current().id() }
    }

    #[tokio::test]
    async fn f103_a_client_is_shared_by_authority_and_forgotten_with_its_last_user() {
        let [a, b] = ["https://a.example:443", "https://b.example:443"];
        let first = client_for(key(a, true)).unwrap();
        assert!(Arc::ptr_eq(&first, &client_for(key(a, true)).unwrap()));
        assert!(!Arc::ptr_eq(&first, &client_for(key(b, true)).unwrap()));
        assert!(!Arc::ptr_eq(&first, &client_for(key(a, false)).unwrap()));
        let other = Builder::new_current_thread().build().unwrap();
        let there = std::thread::scope(|scope| {
            let there = || other.block_on(async { client_for(key(a, true)) }).unwrap();
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
