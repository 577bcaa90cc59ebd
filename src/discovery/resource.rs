use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{
    Discovery, ResourceMetadata, answer::life, cache::Cache, client::Client, issuer::tried,
    location::of_resource, screened::Screened, trust::Trust,
};
use crate::{
    error::{ConfigError, Error, ErrorKind},
    http::{Endpoint, Transport},
    time::{Clock, SystemClock, instant_in},
};

/// Finds out which authorization server an API takes tokens from ([RFC 9728]).
///
/// The API has a say, and not the last word: of the servers that it names only those count that are
/// configured here. Nothing is asked unless one of the methods is called, so this is off by default.
///
/// ```no_run
/// use tower_oauth::{Discovery, ResourceDiscovery, middleware::Challenges};
///
/// # async fn example(response: http::Response<()>) -> Result<(), tower_oauth::Error> {
/// let resources = ResourceDiscovery::new([
///     Discovery::issuer("https://idp.example"),
///     Discovery::issuer("https://partner.example"),
/// ]);
/// let url = "https://api.example/orders";
/// // After a request to this URL was refused, with status 400, 401 or 403:
/// let challenges = response.extensions().get::<Challenges>();
/// if let Some(place) = challenges.and_then(Challenges::resource_metadata) {
///     let api = resources.of_challenge(url, place).await?;
///     let issuer = api.authorization_server()?;
///     println!("{} takes tokens of {issuer:?}", api.resource());
/// }
/// # Ok(())
/// # }
/// ```
///
/// [`ByResource`](crate::ByResource) is a source of tokens that goes by it.
///
/// URLs that an API names are screened as those of [`Discovery`] are: with the default HTTP client
/// when it connects, with one of your own by the addresses in them.
///
/// [RFC 9728]: https://www.rfc-editor.org/rfc/rfc9728
#[derive(Clone)]
pub struct ResourceDiscovery {
    config: Arc<Config>,
    places: Arc<Mutex<BTreeMap<Question, Arc<Place>>>>,
}

#[derive(Clone)]
struct Config {
    issuers: Arc<[Discovery]>,
    transport: Option<Transport>,
    hosts: Option<Vec<String>>,
    allow_http: bool,
    timeout: Duration,
    clock: Arc<dyn Clock>,
}

/// What is asked: another place is another question, and so is another resource at the same place.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Question {
    resource: String,
    /// The place that a challenge named; `None` is the well-known one.
    url: Option<String>,
}

struct Place {
    cache: Cache<ResourceMetadata>,
    transport: Screened,
}

impl ResourceDiscovery {
    /// Starts with the authorization servers that may be used, the preferred one first.
    pub fn new(issuers: impl IntoIterator<Item = Discovery>) -> Self {
        let config = Config {
            issuers: issuers.into_iter().collect(),
            transport: None,
            hosts: None,
            allow_http: false,
            timeout: TIMEOUT,
            clock: Arc::new(SystemClock::new()),
        };
        Self { config: Arc::new(config), places: Arc::default() }
    }

    /// Allows metadata at these hosts and at the API's, and nowhere else. They are yours, so they
    /// may be in a network of their own. Default: every public host, and the API's.
    #[must_use]
    pub fn hosts<I>(self, hosts: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.with(|config| config.hosts = Some(hosts.into_iter().map(Into::into).collect()))
    }

    /// Sets the HTTP client. Default: with the feature `reqwest` a client of its own; without it,
    /// one has to be set.
    #[must_use]
    pub fn transport(self, transport: Transport) -> Self {
        self.with(|config| config.transport = Some(transport))
    }

    /// Sets how long one search may take. Default: 10 s.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        self.with(|config| config.timeout = timeout)
    }

    /// Tells the time. Default: this machine's clocks.
    #[must_use]
    pub fn clock(self, clock: impl Clock) -> Self {
        self.with(|config| config.clock = Arc::new(clock))
    }

    /// Allows resources, and metadata at their hosts, that are plain `http` on another machine:
    /// everybody on the way can change them. Default: only on loopback.
    #[must_use]
    pub fn danger_allow_http(self) -> Self {
        self.with(|config| config.allow_http = true)
    }

    /// The metadata of a resource by its identifier, from the well-known place
    /// ([RFC 9728 §3](https://www.rfc-editor.org/rfc/rfc9728#section-3)).
    ///
    /// It is kept as metadata of authorization servers is.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Discovery`] when there is none, or it is another resource's;
    /// [`ErrorKind::Configuration`] when the identifier is no URL; and the kinds of a failed request.
    ///
    /// # Cancellation
    ///
    /// Safe: dropping the future changes nothing.
    pub async fn of_resource(&self, resource: &str) -> Result<Arc<ResourceMetadata>, Error> {
        self.find(Question { resource: resource.to_owned(), url: None }).await
    }

    /// The metadata that an API pointed to when it refused a request, by the parameter
    /// `resource_metadata` of its challenge
    /// ([RFC 9728 §5](https://www.rfc-editor.org/rfc/rfc9728#section-5)). `requested` is the URL of
    /// that request: the metadata has to be about just it.
    ///
    /// A challenge may mean that the metadata has changed: a copy is used only within a minute, and
    /// for the same place.
    ///
    /// # Errors
    ///
    /// As [`of_resource`](Self::of_resource); [`ErrorKind::Discovery`] also when the place is not
    /// allowed.
    ///
    /// # Cancellation
    ///
    /// Safe: dropping the future changes nothing.
    pub async fn of_challenge(
        &self,
        requested: &str,
        resource_metadata: &str,
    ) -> Result<Arc<ResourceMetadata>, Error> {
        let url = Some(resource_metadata.to_owned());
        self.find(Question { resource: requested.to_owned(), url }).await
    }

    /// The authorization servers that may be used.
    pub(crate) fn issuers(&self) -> &[Discovery] {
        &self.config.issuers
    }

    /// Checks the settings, for a resource that is known.
    pub(crate) fn check(&self, resource: &str) -> Result<(), ConfigError> {
        let Config { hosts, allow_http, issuers, .. } = &*self.config;
        of_resource(resource, *allow_http)?;
        let resource = Endpoint::parse("resource", resource, *allow_http)?;
        Trust::new([&resource], hosts.as_deref(), *allow_http)?;
        if issuers.is_empty() {
            let (name, value) = ("issuers", "empty".to_owned());
            let reason = "only authorization servers that are configured are ever used";
            return Err(ConfigError::Setting { name, value, reason });
        }
        issuers.iter().try_for_each(Discovery::check)
    }

    async fn find(&self, question: Question) -> Result<Arc<ResourceMetadata>, Error> {
        let config = &self.config;
        let (url, trust) = config.locate(&question)?;
        let place = self.place(question.clone());
        let transport = place.transport.unless(config.transport.as_ref(), || Ok(trust));
        let transport = transport.map_err(misconfigured)?;
        let deadline = instant_in(config.timeout);
        if question.url.is_some() {
            // RFC 9728 §5.2: a challenge says that the metadata may have changed.
            place.cache.doubt(config.clock.now());
        }
        let client = Client { transport: &transport, clock: &config.clock, deadline };
        let fetch = || async {
            let no_metadata = |problem: String| {
                let tried = tried(&url, &problem);
                let message = format!("the resource has no metadata where it should be: {tried}");
                Error::new(ErrorKind::Discovery, message)
            };
            let answer = client.get(&url).await?.map_err(no_metadata)?;
            let issuers = config.issuers.clone();
            let metadata = ResourceMetadata::parse(answer.body(), &question.resource, issuers)?;
            Ok((metadata.map_err(no_metadata)?, life(answer.headers())))
        };
        place.cache.get(|| config.clock.now(), deadline, fetch).await
    }

    /// Where the answer to a question is kept. An API that names ever new places fills no memory.
    fn place(&self, question: Question) -> Arc<Place> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if places.len() >= MAX_PLACES && !places.contains_key(&question) {
            places.clear();
        }
        let new = || Arc::new(Place { cache: Cache::new(), transport: Screened::default() });
        places.entry(question).or_insert_with(new).clone()
    }

    fn with(mut self, set: impl FnOnce(&mut Config)) -> Self {
        set(Arc::make_mut(&mut self.config));
        // Not the copies of another configuration.
        self.places = Arc::default();
        self
    }
}

impl Config {
    /// Where the answer to a question is, and what to believe.
    fn locate(&self, question: &Question) -> Result<(Endpoint, Trust), Error> {
        let Question { resource, url } = question;
        let known = Endpoint::parse("resource", resource, self.allow_http);
        let known = known.map_err(misconfigured)?;
        let trust = Trust::new([&known], self.hosts.as_deref(), self.allow_http);
        let trust = trust.map_err(misconfigured)?;
        let url = match url {
            Some(url) => trust.check("resource_metadata", url)?,
            None => of_resource(resource, self.allow_http).map_err(misconfigured)?,
        };
        Ok((url, trust))
    }
}

fn misconfigured(error: ConfigError) -> Error {
    Error::new(ErrorKind::Configuration, "the resource cannot be looked up").with_source(error)
}

impl fmt::Debug for ResourceDiscovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResourceDiscovery")
            .field("issuers", &self.config.issuers)
            .finish_non_exhaustive()
    }
}

const TIMEOUT: Duration = Duration::from_secs(10);
const MAX_PLACES: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dsc_06_an_api_that_names_ever_new_places_fills_no_memory() {
        let discovery = ResourceDiscovery::new([]);
        for i in 0..10 * MAX_PLACES {
            let (resource, url) = ("https://api.example".to_owned(), Some(i.to_string()));
            discovery.place(Question { resource, url });
            assert!(discovery.places.lock().unwrap().len() <= MAX_PLACES);
        }
    }
}
