use std::{fmt, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    Metadata, answer::life, cache::Cache, client::Client, location::of_issuer, screened::Screened,
    trust::Trust,
};
use crate::{
    error::{ConfigError, Error, ErrorKind, printable},
    http::{Endpoint, Transport, shown_url},
    time::{Clock, SystemClock, instant_in},
};

/// Finds the endpoints of an authorization server by its issuer ([RFC 8414], OpenID Connect
/// Discovery).
///
/// It takes the place of an endpoint's URL. The metadata is asked for when it is first needed, and
/// kept: as long as the server says, within 1 min and 24 h, and for 1 h if it says nothing. A copy
/// that could not be renewed stays in use. Clones share one copy and one request; a setting makes a
/// new one.
///
/// What is found is checked: the document's issuer is the one that was asked for, to the letter;
/// endpoints are `https`, and not in the network of this machine unless the issuer is there too, or
/// they are named in [`hosts`](Self::hosts). The default HTTP client makes sure of that when it
/// connects; with a transport of your own only addresses in URLs are checked, not what names resolve
/// to, and where a proxy is used it is the proxy that resolves them.
///
/// ```no_run
/// use tower_oauth::{ClientAuth, ClientCredentials, Discovery, SecretSource};
///
/// # fn main() -> Result<(), tower_oauth::ConfigError> {
/// let secret = SecretSource::file("/run/secrets/orders");
/// let source = ClientCredentials::builder(
///     Discovery::issuer("https://idp.example"),
///     ClientAuth::secret("orders", secret),
/// )
/// .build()?;
/// # let _ = source;
/// # Ok(())
/// # }
/// ```
///
/// [RFC 8414]: https://www.rfc-editor.org/rfc/rfc8414
#[derive(Clone)]
pub struct Discovery {
    config: Arc<Config>,
    shared: Arc<Shared>,
}

#[derive(Clone)]
struct Config {
    issuer: String,
    /// What the document's issuer has to be, if that is something else.
    expected: Option<String>,
    /// Where the document is, if not at the well-known places.
    url: Option<String>,
    transport: Option<Transport>,
    hosts: Option<Vec<String>>,
    allow_http: bool,
    timeout: Duration,
    clock: Arc<dyn Clock>,
}

struct Shared {
    cache: Cache<Metadata>,
    transport: Screened,
}

impl Discovery {
    /// Starts with the issuer's URL, exactly as the server writes it: a slash at its end counts.
    ///
    /// It is checked when the grant that uses it is built.
    pub fn issuer(issuer: impl Into<String>) -> Self {
        let config = Config {
            issuer: issuer.into(),
            expected: None,
            url: None,
            transport: None,
            hosts: None,
            allow_http: false,
            timeout: TIMEOUT,
            clock: Arc::new(SystemClock::new()),
        };
        Self { config: Arc::new(config), shared: Shared::new() }
    }

    /// Sets where the metadata is. Default: at the well-known places of the issuer, of which the first
    /// counts that answers with a document. Any other answer leads on to the next place, except for
    /// faults that pass: 408, 429, 5xx and errors of the network. The places are those of [RFC 8414 §3.1]
    /// and of OpenID Connect Discovery, in this order.
    ///
    /// [RFC 8414 §3.1]: https://www.rfc-editor.org/rfc/rfc8414#section-3.1
    #[must_use]
    pub fn metadata_url(self, url: impl Into<String>) -> Self {
        self.with(|config| config.url = Some(url.into()))
    }

    /// Allows endpoints at these hosts and at the issuer's, and nowhere else. (The host of a
    /// [`metadata_url`](Self::metadata_url) counts as the issuer's.) They are yours, so
    /// they may be in a network of their own. Default: every public host, and the issuer's.
    #[must_use]
    pub fn hosts<I>(self, hosts: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.with(|config| config.hosts = Some(hosts.into_iter().map(Into::into).collect()))
    }

    /// Sets the HTTP client for the metadata, and for the endpoints too where a grant has none of its
    /// own. Default: the grant's; where that has none either, with the feature `reqwest`, a client
    /// that connects only where the metadata may lead.
    #[must_use]
    pub fn transport(self, transport: Transport) -> Self {
        self.with(|config| config.transport = Some(transport))
    }

    /// Sets how long one search for metadata may take. Default: 10 s.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        self.with(|config| config.timeout = timeout)
    }

    /// Tells the time. Default: this machine's clocks.
    #[must_use]
    pub fn clock(self, clock: impl Clock) -> Self {
        self.with(|config| config.clock = Arc::new(clock))
    }

    /// Takes a document for the issuer's that names another one, namely this, to the letter. For
    /// servers whose metadata is not their own, such as Entra's
    /// `https://login.microsoftonline.com/{tenantid}/v2.0`: the check that is lost is the one that
    /// keeps an attacker's server from passing as yours. Default: the two are the same.
    #[must_use]
    pub fn danger_expect_issuer(self, issuer: impl Into<String>) -> Self {
        self.with(|config| config.expected = Some(issuer.into()))
    }

    /// Allows an issuer, and endpoints at its host, that are plain `http` on another machine:
    /// everybody on the way can change them, and read what is sent to them. Default: only on
    /// loopback.
    #[must_use]
    pub fn danger_allow_http(self) -> Self {
        self.with(|config| config.allow_http = true)
    }

    /// The metadata, asked for if there is no fresh copy.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Configuration`] when the settings cannot work, [`ErrorKind::Discovery`] when
    /// there is no metadata or it is another issuer's, and the kinds of a failed request.
    ///
    /// # Cancellation
    ///
    /// Safe: dropping the future changes nothing.
    pub async fn metadata(&self) -> Result<Arc<Metadata>, Error> {
        let transport = self.default_transport().map_err(misconfigured)?;
        self.find(&transport, instant_in(self.config.timeout)).await
    }

    /// Why the last request for metadata failed, if it did. An older copy may be in use.
    pub fn last_error(&self) -> Option<Error> {
        self.shared.cache.last_error()
    }

    /// Whether plain `http` is allowed beyond loopback.
    pub(crate) fn allows_http(&self) -> bool {
        self.config.allow_http
    }

    /// Whether the document may have another issuer than the one it is found by.
    pub(crate) fn has_other_issuer(&self) -> bool {
        self.config.expected.is_some()
    }

    /// The issuer as it was configured: the only source of what is told to others about it.
    pub(crate) fn configured_issuer(&self) -> &str {
        self.config.expected.as_deref().unwrap_or(&self.config.issuer)
    }

    /// Checks the settings.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if self.config.timeout.is_zero() {
            let (value, reason) = ("0".to_owned(), "nothing could ever succeed");
            return Err(ConfigError::Setting { name: "discovery timeout", value, reason });
        }
        self.config.search().map(drop)
    }

    /// The metadata, asked for with this transport if none was set here.
    pub(crate) async fn find(
        &self,
        transport: &Transport,
        deadline: Instant,
    ) -> Result<Arc<Metadata>, Error> {
        let config = &self.config;
        let deadline = deadline.min(instant_in(config.timeout));
        let transport = config.transport.as_ref().unwrap_or(transport);
        let client = Client { transport, clock: &config.clock, deadline };
        self.shared.cache.get(|| config.clock.now(), deadline, || config.fetch(&client)).await
    }

    /// Has the metadata renewed soon: an endpoint that it names did not work.
    pub(crate) fn doubt(&self) {
        self.shared.cache.doubt(self.config.clock.now());
    }

    /// The transport that was set, or a client that connects only where the metadata may lead.
    pub(crate) fn default_transport(&self) -> Result<Transport, ConfigError> {
        let trust = || self.config.search().map(|(_, trust)| trust);
        self.shared.transport.unless(self.config.transport.as_ref(), trust)
    }

    fn with(mut self, set: impl FnOnce(&mut Config)) -> Self {
        set(Arc::make_mut(&mut self.config));
        // Not the copy of another configuration.
        self.shared = Shared::new();
        self
    }
}

impl Shared {
    fn new() -> Arc<Self> {
        Arc::new(Self { cache: Cache::new(), transport: Screened::default() })
    }
}

impl Config {
    /// Where to look, and what to believe.
    fn search(&self) -> Result<(Vec<Endpoint>, Trust), ConfigError> {
        let issuer = Endpoint::parse("issuer", &self.issuer, self.allow_http)?;
        let mut urls = of_issuer(&self.issuer, self.allow_http)?;
        if let Some(url) = &self.url {
            urls = vec![Endpoint::parse("metadata URL", url, self.allow_http)?];
        }
        let own = urls.iter().chain([&issuer]);
        let trust = Trust::new(own, self.hosts.as_deref(), self.allow_http)?;
        Ok((urls, trust))
    }

    async fn fetch(&self, client: &Client<'_>) -> Result<(Metadata, Duration), Error> {
        let (urls, trust) = self.search().map_err(misconfigured)?;
        let issuer = self.expected.as_deref().unwrap_or(&self.issuer);
        let mut answers = Vec::new();
        for url in &urls {
            let found = match client.get(url).await {
                Ok(Ok(answer)) => Metadata::parse(answer.body(), issuer, trust.clone())
                    .map(|found| found.map(|metadata| (metadata, life(answer.headers())))),
                Ok(Err(problem)) => Ok(Err(problem)),
                Err(error) => Err(error),
            };
            match found {
                Ok(Ok(found)) => return Ok(found),
                Ok(Err(problem)) => answers.push(tried(url, &problem)),
                Err(error) => return Err(stopped(error, url, &answers)),
            }
        }
        Err(Error::new(
            ErrorKind::Discovery,
            format!(
                "the issuer has no metadata where it should be: {}; check the issuer's URL, say where \
                 the metadata is with metadata_url(), or configure the endpoints' URLs",
                answers.join(", ")
            ),
        ))
    }
}

/// A place that was asked, and what it answered.
pub(super) fn tried(url: &Endpoint, problem: &str) -> String {
    let url = shown_url(&url.uri().to_string());
    format!("{} answered with {}", printable(&url, URL_CAP), printable(problem, ANSWER_CAP))
}

/// An error that ends the search for the metadata, with where that was.
fn stopped(error: Error, url: &Endpoint, answers: &[String]) -> Error {
    let url = shown_url(&url.uri().to_string());
    let url = printable(&url, URL_CAP);
    let before = if answers.is_empty() {
        String::new()
    } else {
        format!("; before it, {}; metadata_url() says where it is", answers.join(", "))
    };
    let stopped = Error::new(error.kind(), format!("{error} (the metadata at {url}){before}"));
    let stopped = match error.retry_at() {
        Some(at) => stopped.with_retry_at(at),
        None => stopped,
    };
    if std::error::Error::source(&error).is_some() { stopped.with_source(error) } else { stopped }
}

/// A configuration that was not checked before.
fn misconfigured(error: ConfigError) -> Error {
    Error::new(ErrorKind::Configuration, "the discovery is not configured well").with_source(error)
}

impl fmt::Debug for Discovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It may have a password in it: nothing of it has been checked.
        let issuer = shown_url(&self.config.issuer);
        f.debug_struct("Discovery").field("issuer", &issuer).finish_non_exhaustive()
    }
}

const TIMEOUT: Duration = Duration::from_secs(10);
// Three of each, and our own words, stay below 1 KiB.
const URL_CAP: usize = 150;
const ANSWER_CAP: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f57_debug_shows_the_issuer_without_what_may_be_a_password_or_a_key() {
        for issuer in [
            "https://user:hunter2@idp.example",
            "https://idp.example/?key=hunter2",
            "https://idp.example/#hunter2",
            "idp.example?key=hunter2",
        ] {
            let shown = format!("{:?}", Discovery::issuer(issuer));
            assert!(shown.contains("idp.example") && !shown.contains("hunter2"), "{shown}");
        }
    }
}
