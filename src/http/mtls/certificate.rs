use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    sync::Mutex as AsyncMutex,
    time::{Instant, timeout},
};

use super::{Identity, transport::MutualTls};
use crate::{
    error::{Error, ErrorKind},
    secret::SecretSource,
    task::Contained,
};

/// A client certificate and its private key, for mutual TLS ([RFC 8705]).
///
/// Both are read again for every token request, so that replacing them needs no restart. Clones
/// share what was read last. A certificate that is the same, byte for byte, keeps its connections;
/// another one gets connections of its own. A certificate and a key that are not a pair, because only
/// one of two files has been replaced so far, do not take the place of the pair before them: a token
/// request fails meanwhile, and is tried again.
///
/// ```
/// use tower_oauth::{ClientCertificate, SecretSource, Transport};
///
/// let certificate = ClientCertificate::pem(
///     SecretSource::file("/run/secrets/tls.crt"),
///     SecretSource::file("/run/secrets/tls.key"),
/// );
/// let transport = Transport::mtls(&certificate);
/// # let _ = transport;
/// ```
///
/// [RFC 8705]: https://www.rfc-editor.org/rfc/rfc8705
#[derive(Clone)]
pub struct ClientCertificate(Arc<Inner>);

struct Inner {
    certificate: SecretSource,
    /// `None` if it stands beside the certificate.
    key: Option<SecretSource>,
    current: Mutex<Option<Arc<Identity>>>,
    /// When it was last looked at for requests to an API.
    looked: Mutex<Option<Instant>>,
    /// Held while reading: what was read first does not replace what was read later.
    reading: AsyncMutex<()>,
    /// The transport that all default ones with this certificate are.
    transport: Mutex<Weak<MutualTls>>,
}

impl ClientCertificate {
    /// A chain of certificates in PEM, the client's own first, and its private key in PEM: PKCS#8,
    /// PKCS#1 or SEC1, not encrypted.
    pub fn pem(certificate: impl Into<SecretSource>, key: impl Into<SecretSource>) -> Self {
        Self::new(certificate.into(), Some(key.into()))
    }

    /// As [`pem`](Self::pem), with chain and key in one piece of text.
    pub fn pem_bundle(bundle: impl Into<SecretSource>) -> Self {
        Self::new(bundle.into(), None)
    }

    fn new(certificate: SecretSource, key: Option<SecretSource>) -> Self {
        let (current, looked) = (Mutex::default(), Mutex::default());
        let (reading, transport) = (AsyncMutex::default(), Mutex::default());
        Self(Arc::new(Inner { certificate, key, current, looked, reading, transport }))
    }

    /// Reads the certificate and returns its SHA-256 thumbprint, in base64url. It is what a token
    /// that is bound to the certificate has in `cnf`, as `x5t#S256` ([RFC 8705 §3.1]).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Credential`](crate::ErrorKind::Credential) when certificate or key cannot be
    /// read, or are not PEM.
    ///
    /// [RFC 8705 §3.1]: https://www.rfc-editor.org/rfc/rfc8705#section-3.1
    pub async fn thumbprint(&self) -> Result<String, Error> {
        Ok(self.read().await?.thumbprint().to_owned())
    }

    /// The transport that presents it with default settings: the one that there is, or a new one.
    pub(super) fn transport(&self, new: impl FnOnce() -> MutualTls) -> Arc<MutualTls> {
        // Nothing panics while it is held.
        let mut transport = self.0.transport.lock().unwrap_or_else(PoisonError::into_inner);
        transport.upgrade().unwrap_or_else(|| {
            let new = Arc::new(new());
            *transport = Arc::downgrade(&new);
            new
        })
    }

    /// The pair for a request to an API whose token is not bound to one: as it is now, give or take
    /// [`LOOK`]; what was read before, if there is none now that can be used, or none within
    /// [`PATIENCE`].
    pub(crate) async fn recent(&self) -> Result<Arc<Identity>, Error> {
        let known = self.0.current().clone();
        if let Some(known) = &known
            && !self.0.is_due()
        {
            return Ok(known.clone());
        }
        // A provider of the user's may be part of it.
        let patience = if known.is_some() { PATIENCE } else { FIRST_PATIENCE };
        let failure = match timeout(patience, Contained::new(self.read())).await {
            Ok(Some(Ok(identity))) => return Ok(identity),
            Ok(Some(Err(error))) => error,
            Ok(None) => {
                let message = "the client certificate cannot be read: its provider panicked";
                Error::new(ErrorKind::Panic, message)
            }
            Err(_) => {
                let message = "the client certificate was not read in time";
                Error::new(ErrorKind::Timeout, message)
            }
        };
        known.ok_or(failure)
    }

    /// Reads certificate and key as they are now. They become current only if they are a pair.
    pub(crate) async fn read(&self) -> Result<Arc<Identity>, Error> {
        let Inner { certificate, key, reading, .. } = &*self.0;
        let _reading = reading.lock().await;
        let chain = certificate.read().await?;
        let key_text = match key {
            Some(key) => Some(key.read().await?),
            None => None,
        };
        let known = self.0.current().clone();
        if let Some(known) = known.filter(|known| known.is_of(&chain, key_text.as_ref())) {
            return Ok(known);
        }
        let identity = Arc::new(Identity::parse(chain, key_text).map_err(|e| e.within(self))?);
        *self.0.current() = Some(identity.clone());
        Ok(identity)
    }
}

impl Inner {
    /// Whether it is time to look again; one caller is told so.
    fn is_due(&self) -> bool {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = looked.is_none_or(|at| at.elapsed() >= LOOK);
        if is_due {
            *looked = Some(Instant::now());
        }
        is_due
    }

    fn current(&self) -> MutexGuard<'_, Option<Arc<Identity>>> {
        // Nothing panics while it is held.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("ClientCertificate");
        out.field("certificate", &self.0.certificate);
        if let Some(key) = &self.0.key {
            out.field("key", key);
        }
        if let Some(identity) = &*self.0.current() {
            out.field("thumbprint", &identity.thumbprint());
        }
        out.finish()
    }
}

/// How often the pair is read again for requests whose token is not bound to it.
const LOOK: Duration = Duration::from_secs(10);
/// How long a request to an API waits for a reading if there is a pair that was read before.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long it waits if there is none.
const FIRST_PATIENCE: Duration = Duration::from_secs(30);
