use std::time::Duration;

use super::{
    Accepted,
    caller::{Caller, Location},
};
use crate::{
    client_auth::ClientAuth,
    discovery::{Discovery, EndpointKind, EndpointSource},
    error::ConfigError,
    http::{Endpoint, Transport},
};

/// What is configured for every endpoint of an authorization server alike, not checked yet.
pub(crate) struct Settings {
    pub(crate) source: EndpointSource,
    pub(crate) auth: ClientAuth,
    pub(crate) transport: Option<Transport>,
    pub(crate) timeout: Duration,
    pub(crate) body_limit: usize,
    pub(crate) allow_http: bool,
}

/// Settings that were checked, of which callers are made.
pub(crate) struct CheckedSettings {
    settings: Settings,
    url: Option<String>,
    discovery: Option<Discovery>,
}

impl Settings {
    pub(crate) fn new(source: EndpointSource, auth: ClientAuth) -> Self {
        Self {
            source,
            auth,
            transport: None,
            timeout: TIMEOUT,
            body_limit: BODY_LIMIT,
            allow_http: false,
        }
    }

    pub(crate) fn check(self) -> Result<CheckedSettings, ConfigError> {
        let zero = |name, is_zero| {
            let (value, reason) = ("0".to_owned(), "nothing could ever succeed");
            if is_zero { Err(ConfigError::Setting { name, value, reason }) } else { Ok(()) }
        };
        zero("timeout", self.timeout.is_zero())?;
        zero("body_limit", self.body_limit == 0)?;
        let (url, discovery) = self.source.clone().into_parts();
        if let Some(discovery) = &discovery {
            discovery.check()?;
        }
        self.auth.check()?;
        self.auth.check_for(discovery.as_ref().map(Discovery::configured_issuer))?;
        Ok(CheckedSettings { settings: self, url, discovery })
    }
}

impl CheckedSettings {
    /// A caller of the endpoint that the source is for.
    pub(crate) fn caller(&mut self, kind: EndpointKind) -> Result<Caller, ConfigError> {
        self.caller_at(kind, self.url.clone().as_deref())
    }

    /// A caller of another endpoint of the server: the one at this URL, or else the one that is
    /// discovered, if it can be.
    pub(crate) fn other_caller(
        &mut self,
        kind: EndpointKind,
        url: Option<&str>,
    ) -> Result<Option<Caller>, ConfigError> {
        if url.is_none() && self.discovery.is_none() {
            return Ok(None);
        }
        self.caller_at(kind, url).map(Some)
    }

    fn caller_at(&mut self, kind: EndpointKind, url: Option<&str>) -> Result<Caller, ConfigError> {
        let Settings { allow_http, timeout, body_limit, .. } = self.settings;
        let url = url.map(|url| Endpoint::parse(kind.name(), url, allow_http)).transpose()?;
        let transport = match (&self.settings.transport, &url, &self.discovery) {
            (Some(transport), ..) => transport.clone(),
            // Only where the metadata may lead.
            (None, None, Some(discovery)) => discovery.default_transport()?,
            // A URL that was configured may be anywhere.
            _ => self.settings.transport.insert(Transport::standard()?).clone(),
        };
        Ok(Caller {
            location: Location { kind, url, discovery: self.discovery.clone() },
            auth: self.settings.auth.clone(),
            transport,
            timeout,
            body_limit,
            accepted: Accepted::Bearer,
        })
    }
}

const TIMEOUT: Duration = Duration::from_secs(15);
const BODY_LIMIT: usize = 1024 * 1024;
