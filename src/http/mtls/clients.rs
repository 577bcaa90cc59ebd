use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use reqwest::{Client, ClientBuilder};

use super::{Identity, identity::User};
use crate::error::{Error, ErrorKind};

/// An HTTP client, and so a pool of connections, for each certificate that is in use.
///
/// RFC 8705 §6.3: a connection has the certificate that was current when it was made. So a client
/// is never given another one; it goes when its certificate does.
pub(super) struct Clients {
    configure: Box<Configure>,
    built: Arc<BuiltClients>,
}

/// The clients, each until its certificate goes.
#[derive(Default)]
pub(super) struct BuiltClients(Mutex<Vec<(Weak<Identity>, Client)>>);

impl BuiltClients {
    fn lock(&self) -> MutexGuard<'_, Vec<(Weak<Identity>, Client)>> {
        // Nothing panics while it is held but the user's function, and that leaves it as it was.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl User for BuiltClients {
    fn forget_unused(&self) {
        let unused: Vec<_> =
            self.lock().extract_if(.., |(known, _)| known.strong_count() == 0).collect();
        // Not while the lock is held: a client may do anything as it goes.
        drop(unused);
    }
}

pub(super) type Configure = dyn Fn(ClientBuilder) -> ClientBuilder + Send + Sync;

impl Clients {
    pub(super) fn new(configure: Box<Configure>) -> Self {
        Self { configure, built: Arc::default() }
    }

    /// The client that presents this certificate, and no other.
    pub(super) fn of(&self, identity: &Arc<Identity>) -> Result<Client, Error> {
        let mut built = self.built.lock();
        // A `Weak` that is held keeps the address from being given to another identity.
        let known = built.iter().find(|(known, _)| known.as_ptr() == Arc::as_ptr(identity));
        if let Some((_, client)) = known {
            return Ok(client.clone());
        }
        let client = present((self.configure)(Client::builder()), identity)?;
        built.push((Arc::downgrade(identity), client.clone()));
        let user: Weak<BuiltClients> = Arc::downgrade(&self.built);
        identity.add_user(user);
        Ok(client)
    }
}

/// Builds a client that presents this certificate, and no other.
pub(super) fn present(client: ClientBuilder, identity: &Identity) -> Result<Client, Error> {
    let failed = |source| {
        let message = "no HTTP client can be built with the client certificate";
        Error::new(ErrorKind::Credential, message).with_source(source)
    };
    let certificate = identity.to_reqwest().map_err(failed)?;
    client.tls_backend_rustls().identity(certificate).build().map_err(failed)
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clients")
    }
}
