use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use reqwest::{Client, ClientBuilder};

use super::Identity;
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
    /// Closes the connections of certificates that are gone.
    pub(super) fn forget_unused(&self) {
        let unused: Vec<_> =
            self.lock().extract_if(.., |(known, _)| known.strong_count() == 0).collect();
        // Not while the lock is held: a client may do anything as it goes.
        drop(unused);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Weak<Identity>, Client)>> {
        // Nothing panics while it is held but the user's function, and that leaves it as it was.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        let failed = |source| {
            Error::new(
                ErrorKind::Credential,
                "no HTTP client can be built with the client certificate",
            )
            .with_source(source)
        };
        let client = (self.configure)(Client::builder())
            .tls_backend_rustls()
            .identity(identity.to_reqwest().map_err(failed)?)
            .build()
            .map_err(failed)?;
        built.push((Arc::downgrade(identity), client.clone()));
        identity.add_user(Arc::downgrade(&self.built));
        Ok(client)
    }
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clients")
    }
}
