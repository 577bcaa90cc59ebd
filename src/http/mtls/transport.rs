use std::sync::Arc;

use bytes::Bytes;
use http::Uri;
use reqwest::{ClientBuilder, redirect::Policy};

use super::{
    super::{
        built_in::{bounded, of_url_parser, with_bounds},
        transport::{Exchange, ExchangeFuture, Limits, Transport},
    },
    ClientCertificate,
    clients::Clients,
};

impl Transport {
    /// A client as [`reqwest()`](Self::reqwest) makes it, which presents a certificate. Feature
    /// `mtls`.
    ///
    /// The certificate is read for every exchange. When it has changed, the exchange has a
    /// connection of its own, and the old one's are closed as soon as no token is left that came with
    /// it.
    pub fn mtls(certificate: &ClientCertificate) -> Self {
        Self::mtls_with(certificate, |client| client)
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
        // Last, so that nobody has redirects by accident: they would take the client's credentials
        // to another server.
        let configure = move |client| configure(with_bounds(client)).redirect(Policy::none());
        let clients = Clients::new(Box::new(configure));
        Self::of(Arc::new(MutualTls { certificate: certificate.clone(), clients }))
    }
}

#[derive(Debug)]
struct MutualTls {
    certificate: ClientCertificate,
    clients: Clients,
}

impl Exchange for MutualTls {
    fn exchange(&self, request: http::Request<Bytes>, limits: Limits) -> ExchangeFuture<'_> {
        Box::pin(async move {
            let identity = self.certificate.read().await?;
            let client = self.clients.of(&identity)?;
            let mut answer = bounded(&client, request, limits).await?;
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
