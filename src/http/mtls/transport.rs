use std::{
    fmt,
    sync::{Arc, Weak},
};

use bytes::Bytes;
use http::Uri;
use reqwest::{ClientBuilder, redirect::Policy};
use tokio::runtime;

use super::{
    super::{
        built_in::{
            AuthorityClient, Held, Recipe, Resolver, authority, current_runtime, of_url_parser,
            with_bounds,
        },
        transport::{Exchange, ExchangeFuture, Limits, Transport},
    },
    ClientCertificate, Identity,
    clients::{Configure, present},
    identity::User,
};
use crate::error::{Error, ErrorKind};

impl Transport {
    /// A client as [`reqwest()`](Self::reqwest) makes it, which presents a certificate. Feature
    /// `mtls`.
    ///
    /// The certificate is read for every exchange. When it has changed, the exchange has a
    /// connection of its own, and the old one's are closed as soon as no token is left that came with
    /// it.
    ///
    /// All such transports of one certificate, or of clones of it, share their connections. Those of
    /// [`mtls_with`](Self::mtls_with) do not: there, give clones of one transport to all grants.
    pub fn mtls(certificate: &ClientCertificate) -> Self {
        Self::of(certificate.transport(|| MutualTls::new(certificate.clone(), |client| client)))
    }

    /// As [`mtls`](Self::mtls), with settings of your own, such as private root certificates. The
    /// function is called for each certificate. Redirects stay refused.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use tower_oauth::{ClientCertificate, SecretSource, Transport};
    ///
    /// let roots = reqwest::Certificate::from_pem_bundle(&std::fs::read("/etc/idp/ca.pem")?)?;
    /// let certificate = ClientCertificate::pem_bundle(SecretSource::file("/run/secrets/tls.pem"));
    /// let transport = Transport::mtls_with(&certificate, move |client| {
    ///     client.tls_certs_only(roots.clone())
    /// });
    /// # let _ = transport;
    /// # Ok(())
    /// # }
    /// ```
    pub fn mtls_with<F>(certificate: &ClientCertificate, configure: F) -> Self
    where
        F: Fn(ClientBuilder) -> ClientBuilder + Send + Sync + 'static,
    {
        Self::of(Arc::new(MutualTls::new(certificate.clone(), configure)))
    }
}

/// Presents the certificate. It holds the clients that it has used.
pub(super) struct MutualTls {
    certificate: ClientCertificate,
    configure: Arc<Configure>,
    held: Arc<Held<ClientKey>>,
}

/// What two requests must have in common to share a client.
///
/// RFC 8705 §6.3: a connection has the certificate that was current when it was made. So a client is
/// never given another one; it goes when its certificate does.
struct ClientKey {
    /// Scheme, host and port.
    authority: String,
    /// As long as it is held, its address is given to no other identity.
    identity: Weak<Identity>,
    /// As for the default client.
    runtime: runtime::Id,
}

impl PartialEq for ClientKey {
    fn eq(&self, other: &Self) -> bool {
        self.authority == other.authority
            && self.identity.ptr_eq(&other.identity)
            && self.runtime == other.runtime
    }
}

/// Makes clients that present a certificate.
struct Presenting {
    configure: Arc<Configure>,
    identity: Weak<Identity>,
    resolver: Resolver,
}

impl MutualTls {
    fn new(
        certificate: ClientCertificate,
        configure: impl Fn(ClientBuilder) -> ClientBuilder + Send + Sync + 'static,
    ) -> Self {
        Self { certificate, configure: Arc::new(configure), held: Arc::default() }
    }

    fn client(&self, uri: &Uri, identity: &Arc<Identity>) -> Result<Arc<AuthorityClient>, Error> {
        let key = ClientKey {
            authority: authority(uri)?,
            identity: Arc::downgrade(identity),
            runtime: current_runtime()?,
        };
        self.held.client(key, |key| {
            let client = AuthorityClient::new(Presenting {
                configure: self.configure.clone(),
                identity: key.identity.clone(),
                resolver: Resolver::new(true),
            })?;
            let held: Weak<Held<ClientKey>> = Arc::downgrade(&self.held);
            identity.add_user(held);
            Ok(Arc::new(client))
        })
    }
}

impl Recipe for Presenting {
    fn build(&self) -> Result<reqwest::Client, Error> {
        let identity = self.identity.upgrade().ok_or_else(|| {
            Error::new(ErrorKind::Credential, "the client certificate was replaced just now")
        })?;
        let client = with_bounds(reqwest::Client::builder(), &self.resolver);
        // Last, so that nobody has redirects by accident: they would take the client's credentials
        // to another server.
        present((self.configure)(client).redirect(Policy::none()), &identity)
    }
}

impl User for Held<ClientKey> {
    fn forget_unused(&self) {
        self.forget(|key| key.identity.strong_count() == 0);
    }
}

impl Exchange for MutualTls {
    fn exchange(&self, request: http::Request<Bytes>, limits: Limits) -> ExchangeFuture<'_> {
        Box::pin(async move {
            let identity = self.certificate.read().await?;
            let client = self.client(request.uri(), &identity)?;
            let mut answer = client.exchange(request, limits).await?;
            answer.extensions_mut().insert(identity);
            Ok(answer)
        })
    }

    fn is_mtls(&self) -> bool {
        true
    }

    fn sent_url(&self, url: &Uri) -> Uri {
        of_url_parser(url)
    }
}

impl fmt::Debug for MutualTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MutualTls").field(&self.certificate).finish()
    }
}
