use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError, Weak},
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
    built: Mutex<Vec<(Weak<Identity>, Client)>>,
}

pub(super) type Configure = dyn Fn(ClientBuilder) -> ClientBuilder + Send + Sync;

impl Clients {
    pub(super) fn new(configure: Box<Configure>) -> Self {
        Self { configure, built: Mutex::default() }
    }

    /// The client that presents this certificate, and no other.
    pub(super) fn of(&self, identity: &Arc<Identity>) -> Result<Client, Error> {
        // Nothing panics while it is held but the user's function, and that leaves it as it was.
        let mut built = self.built.lock().unwrap_or_else(PoisonError::into_inner);
        // A `Weak` that is held keeps the address from being given to another identity.
        let known = built.iter().find(|(known, _)| known.as_ptr() == Arc::as_ptr(identity));
        if let Some((_, client)) = known {
            return Ok(client.clone());
        }
        let failed = |source| {
            Error::new(
                ErrorKind::Credential,
                "no HTTP client can be built with the client certificate; its key may be another's",
            )
            .with_source(source)
        };
        let client = (self.configure)(Client::builder())
            .tls_backend_rustls()
            .identity(identity.to_reqwest().map_err(failed)?)
            .build()
            .map_err(failed)?;
        built.retain(|(known, _)| known.strong_count() > 0);
        built.push((Arc::downgrade(identity), client.clone()));
        Ok(client)
    }
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clients")
    }
}
