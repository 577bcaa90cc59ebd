use std::{sync::Arc, time::Duration};

use super::{
    Accepted,
    caller::{Caller, Location},
    codes::ErrorCodes,
};
use crate::{
    client_auth::{ClientAuth, FAPI_ALGORITHMS},
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
    pub(crate) codes: ErrorCodes,
    pub(crate) allow_http: bool,
    pub(crate) fapi: bool,
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
            codes: ErrorCodes::default(),
            allow_http: false,
            fapi: false,
        }
    }

    pub(crate) fn check(self) -> Result<CheckedSettings, ConfigError> {
        let zero = |name, is_zero| {
            let (value, reason) = ("0".to_owned(), "nothing could ever succeed");
            if is_zero { Err(ConfigError::Setting { name, value, reason }) } else { Ok(()) }
        };
        zero("timeout", self.timeout.is_zero())?;
        zero("body_limit", self.body_limit == 0)?;
        self.codes.check()?;
        let (url, discovery) = self.source.clone().into_parts();
        if let Some(discovery) = &discovery {
            discovery.check()?;
        }
        if self.fapi {
            self.check_fapi(discovery.as_ref())?;
        }
        self.auth.check()?;
        self.auth.check_for(discovery.as_ref().map(Discovery::configured_issuer))?;
        Ok(CheckedSettings { settings: self, url, discovery })
    }
}

impl Settings {
    fn check_fapi(&self, discovery: Option<&Discovery>) -> Result<(), ConfigError> {
        let Some(discovery) = discovery else {
            return Err(ConfigError::Fapi {
                clause: "shall only use authorization server metadata [...] retrieved from the \
                         metadata document",
                reason: "give a Discovery of the issuer in place of the endpoint's URL",
            });
        };
        self.auth.check_fapi(discovery.configured_issuer())?;
        if self.allow_http || discovery.allows_http() {
            return Err(ConfigError::Fapi {
                clause: "shall only offer TLS protected endpoints and shall establish connections \
                         to other servers using TLS",
                reason: "leave danger_allow_http() out",
            });
        }
        if discovery.has_other_issuer() {
            return Err(ConfigError::Fapi {
                clause: "shall ensure that [the] issuer URL and the issuer value in the obtained \
                         metadata match",
                reason: "do without the exception for this issuer",
            });
        }
        Ok(())
    }

    /// A client that authenticates with its certificate has one on its connection.
    fn check_certificate(&self, url: Option<&Endpoint>) -> Result<(), ConfigError> {
        let bad = |reason| Err(ConfigError::ClientAuth { method: self.auth.method(), reason });
        if !self.auth.needs_certificate() {
            return Ok(());
        }
        if self.transport.is_none() {
            return bad("the default transport has no certificate; set Transport::mtls(..)");
        }
        if self.auth.is_mtls() && url.is_some_and(|url| !url.is_https()) {
            return bad("the endpoint is plain http, which knows no certificates");
        }
        Ok(())
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
        self.settings.check_certificate(url.as_ref())?;
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
            algorithms: self.settings.fapi.then_some(&FAPI_ALGORITHMS),
            codes: self.settings.codes.clone(),
            clock: Arc::default(),
        })
    }
}

const TIMEOUT: Duration = Duration::from_secs(15);
const BODY_LIMIT: usize = 1024 * 1024;
