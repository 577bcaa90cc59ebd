//! The transport that is used unless one is set: reqwest clients, one for each authorization server.

mod client;
mod clients;
mod held;
mod resolver;
mod tls;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::runtime::{self, Handle};

#[cfg(feature = "mtls")]
pub(super) use self::client::Recipe;
use self::clients::{ClientKey, client_for};
pub(super) use self::{client::AuthorityClient, held::Held, resolver::Resolver};
use super::transport::{Answer, Exchange, ExchangeFuture, Limits, Transport, read, unreachable};
use crate::error::{ConfigError, Error, ErrorKind};

impl Transport {
    /// The default client: rustls, at most 5 s to connect, no redirects, and the proxy that the
    /// environment names.
    ///
    /// All such transports of the process share one set of root certificates, which are the
    /// system's, and one client for each scheme, host and port: however many grants there are for an
    /// authorization server, they share its connections. Up to 32 idle ones are kept, for 30 s.
    /// A transport keeps the clients that it has used: those of the last 30 s at least, and 256 at
    /// most.
    ///
    /// A connection of HTTP/2 on which nothing was read for 5 s is asked for a sign of life (`PING`)
    /// while a request waits, and closed after another 5 s without one. After a request that timed
    /// out, or that its caller gave up after 1 s or more without an answer, the next request has a
    /// new connection. A request that was given up sooner says nothing about its connection: give a
    /// token request more than a second.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Transport`] when there are no root certificates. When they cannot be read
    /// because the process has no file descriptors left, requests fail instead, with
    /// [`ErrorKind::Transport`], until it has some.
    pub fn reqwest() -> Result<Self, ConfigError> {
        BuiltIn::transport(None)
    }

    /// The default client, for URLs that came over the network: it connects to public addresses
    /// only, and to these hosts wherever they are.
    pub(crate) fn screened(trusted: impl IntoIterator<Item = String>) -> Result<Self, ConfigError> {
        let trusted = trusted.into_iter().map(|host| resolver::plain(&host));
        BuiltIn::transport(Some(trusted.collect()))
    }

    /// A reqwest client of your own, such as one with private root certificates. It must be built
    /// with [`redirect::Policy::none()`](reqwest::redirect::Policy::none).
    ///
    /// With HTTP/2, set `http2_keep_alive_interval` as well: otherwise a connection that stalls is
    /// used until the operating system gives it up, which takes a quarter of an hour. Even so, a
    /// connection that stalls behind a proxy which answers the pings is not found. This transport
    /// cannot replace the client after a timeout, as [`reqwest()`](Self::reqwest) does, so such a
    /// connection is used until the proxy closes it. [`Transport::new`] with a service that makes
    /// another client after a timeout can end that.
    pub fn with_reqwest(client: reqwest::Client) -> Self {
        Self::of(Arc::new(client))
    }
}

impl Exchange for reqwest::Client {
    fn exchange(&self, request: http::Request<Bytes>, limits: Limits) -> ExchangeFuture<'_> {
        Box::pin(bounded(self, request, limits))
    }

    fn sent_url(&self, url: &http::Uri) -> http::Uri {
        of_url_parser(url)
    }
}

/// The default client. It holds the clients that it has used, which others may use, too.
struct BuiltIn {
    /// The hosts that may be at any address; `None` if all may.
    trusted: Option<BTreeSet<String>>,
    held: Held<ClientKey>,
}

impl BuiltIn {
    fn transport(trusted: Option<BTreeSet<String>>) -> Result<Transport, ConfigError> {
        match tls::config() {
            // Requests try again.
            Ok(_) | Err(tls::NoRoots::OutOfDescriptors(_)) => {}
            Err(error) => return Err(ConfigError::Transport(error.to_string())),
        }
        Ok(Transport::of(Arc::new(Self { trusted, held: Held::default() })))
    }

    /// The client for the authority of this URL.
    fn client(&self, uri: &http::Uri) -> Result<Arc<AuthorityClient>, Error> {
        let host = resolver::plain(uri.host().unwrap_or_default());
        let key = ClientKey {
            authority: authority(uri)?,
            anywhere: self.trusted.as_ref().is_none_or(|trusted| trusted.contains(&host)),
            runtime: current_runtime()?,
        };
        self.held.client(key, |key| client_for(key.clone()))
    }
}

impl Exchange for BuiltIn {
    fn exchange(&self, request: http::Request<Bytes>, limits: Limits) -> ExchangeFuture<'_> {
        Box::pin(async move {
            let client = self.client(request.uri())?;
            client.exchange(request, limits).await
        })
    }

    fn sent_url(&self, url: &http::Uri) -> http::Uri {
        of_url_parser(url)
    }
}

/// A URL as reqwest's parser writes it.
pub(super) fn of_url_parser(url: &http::Uri) -> http::Uri {
    let parsed = reqwest::Url::parse(&url.to_string()).ok();
    parsed.and_then(|parsed| parsed.as_str().parse().ok()).unwrap_or_else(|| url.clone())
}

/// Scheme, host and port of a URL.
pub(super) fn authority(uri: &http::Uri) -> Result<String, Error> {
    let (Some(scheme), Some(host)) = (uri.scheme_str(), uri.host()) else {
        return Err(Error::new(ErrorKind::Configuration, "the endpoint's URL is not absolute"));
    };
    let port = uri.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
    Ok(format!("{scheme}://{}:{port}", host.to_ascii_lowercase()))
}

/// The runtime that drives the connections that are made now.
pub(super) fn current_runtime() -> Result<runtime::Id, Error> {
    let handle = Handle::try_current().map_err(|error| {
        let message = "the default transport works in a tokio runtime only";
        Error::new(ErrorKind::Configuration, message).with_source(error)
    })?;
    Ok(handle.id())
}

/// Sends a request and reads the answer, up to the largest body.
pub(super) async fn bounded(
    client: &reqwest::Client,
    request: http::Request<Bytes>,
    limits: Limits,
) -> Result<Answer, Error> {
    let request = reqwest::Request::try_from(request).map_err(unreachable)?;
    let response = client.execute(request).await.map_err(unreachable)?;
    read(http::Response::<reqwest::Body>::from(response), limits.body).await
}

/// What every client for an authorization server has.
pub(super) fn with_bounds(
    client: reqwest::ClientBuilder,
    resolver: &Resolver,
) -> reqwest::ClientBuilder {
    client
        .dns_resolver(resolver.clone())
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(QUIET)
        .http2_keep_alive_timeout(QUIET)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(MAX_IDLE)
        .user_agent(concat!("tower-oauth/", env!("CARGO_PKG_VERSION")))
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection of HTTP/2 may be silent before it is asked for a sign of life, and then
/// until it gives one. A server that needs longer may have taken the request, so not less.
const QUIET: Duration = Duration::from_secs(5);
/// Load balancers close after a minute what is idle; a request that meets that has to be repeated.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_IDLE: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    /// The hosts that a tenant's issuer adds are no reason for a client of its own.
    #[tokio::test]
    async fn f103_transports_that_trust_other_hosts_share_the_clients_of_the_rest() {
        let built_in = |trusted: Option<&str>| BuiltIn {
            trusted: trusted.map(|host| BTreeSet::from([host.to_owned()])),
            held: Held::default(),
        };
        let (a, b) = (built_in(Some("a.example")), built_in(Some("b.example")));
        let client = |of: &BuiltIn, host: &str| {
            of.client(&format!("https://{host}/token").parse().unwrap()).unwrap()
        };
        let shared = client(&a, "idp.example");
        assert!(Arc::ptr_eq(&shared, &client(&b, "idp.example")));
        // One that may be anywhere, and one that may not, are two.
        let anywhere = client(&a, "A.example.");
        assert!(!Arc::ptr_eq(&anywhere, &client(&b, "a.example.")));
        assert!(Arc::ptr_eq(&anywhere, &client(&built_in(None), "a.example.")));
    }
}
