use std::collections::BTreeSet;

use crate::{
    error::{ConfigError, Error, ErrorKind, printable},
    http::{Endpoint, is_loopback, screen_host, shown_url},
};

/// Which URLs from the network may be called. What the user configured is believed, the rest is
/// screened.
#[derive(Debug, Clone)]
pub(super) struct Trust {
    /// The hosts of the URLs that the user gave, in lower case.
    own: BTreeSet<String>,
    /// Whether these may be plain `http`.
    allow_http: bool,
    /// The other hosts that the user allows; `None` allows every public one.
    hosts: Option<BTreeSet<String>>,
}

impl Trust {
    /// Trusts the hosts of URLs that the user gave.
    pub(super) fn new<'a>(
        own: impl IntoIterator<Item = &'a Endpoint>,
        hosts: Option<&[String]>,
        allow_http: bool,
    ) -> Result<Self, ConfigError> {
        let own = own.into_iter().filter_map(|url| url.uri().host()).map(str::to_ascii_lowercase);
        let hosts = hosts.map(|hosts| hosts.iter().map(|host| plain_host(host)).collect());
        Ok(Self { own: own.collect(), allow_http, hosts: hosts.transpose()? })
    }

    /// The hosts that may be anywhere, also in a network of their own.
    pub(super) fn trusted(&self) -> impl Iterator<Item = String> {
        let loopback = self.is_loopback().then(|| "localhost".to_owned());
        self.own.iter().chain(self.hosts.iter().flatten()).cloned().chain(loopback)
    }

    /// Checks a URL from the network. `what` is what it is for.
    pub(super) fn check(&self, what: &'static str, url: &str) -> Result<Endpoint, Error> {
        let bad = |reason: &str| {
            let url = printable(&shown_url(url), URL_CAP);
            let message = format!("the metadata's {what} \"{url}\" cannot be used: {reason}");
            Error::new(ErrorKind::Discovery, message)
        };
        let endpoint =
            Endpoint::parse(what, url, self.allow_http).map_err(|error| match error {
                ConfigError::Url { reason, .. } => bad(reason),
                other => bad(&other.to_string()),
            })?;
        let host = endpoint.uri().host().unwrap_or_default().to_ascii_lowercase();
        let is_own = self.own.contains(&host);
        let is_local = self.is_loopback() && is_loopback(&host);
        if endpoint.uri().scheme_str() != Some("https") && !is_local && !(is_own && self.allow_http)
        {
            return Err(bad("it must be https"));
        }
        if is_own || is_local {
            return Ok(endpoint);
        }
        match &self.hosts {
            Some(hosts) if hosts.contains(&host) => Ok(endpoint),
            Some(_) => Err(bad("its host is not among those that are allowed")),
            None => screen_host(&host).map(|()| endpoint).map_err(bad),
        }
    }

    fn is_loopback(&self) -> bool {
        self.own.iter().any(|host| is_loopback(host))
    }
}

fn plain_host(host: &str) -> Result<String, ConfigError> {
    if host.is_empty() || host.contains(['/', '@', '?', '#']) || host.ends_with(':') {
        return Err(ConfigError::Setting {
            name: "hosts",
            value: shown_url(host),
            reason: "a host is a name or an address, such as login.example, without port or path",
        });
    }
    Ok(host.to_ascii_lowercase())
}

const URL_CAP: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    fn trust(url: &str, hosts: Option<&[&str]>, allow_http: bool) -> Trust {
        let url = Endpoint::parse("issuer", url, allow_http).unwrap();
        let hosts: Option<Vec<_>> = hosts.map(|h| h.iter().map(|h| (*h).to_owned()).collect());
        Trust::new([&url], hosts.as_deref(), allow_http).unwrap()
    }

    #[test]
    fn dsc_08_an_issuer_on_loopback_may_name_loopback_and_no_other_may() {
        let public = trust("https://idp.example", None, false);
        let local = trust("http://localhost:8080/realm", None, false);
        for (url, from_public, from_local) in [
            ("https://idp.example/token", true, true),
            ("https://login.example:8443/token", true, true),
            ("http://idp.example/token", false, false),
            ("http://127.0.0.1:1/token", false, true),
            ("https://localhost/token", false, true),
            ("https://10.0.0.1/token", false, false),
            ("https://169.254.169.254/token", false, false),
            ("https://[::ffff:10.0.0.1]/token", false, false),
            ("https://2130706433/token", false, false),
            ("https://0177.0.0.1/token", false, false),
        ] {
            assert_eq!(public.check("token_endpoint", url).is_ok(), from_public, "{url}");
            assert_eq!(local.check("token_endpoint", url).is_ok(), from_local, "{url}");
        }
    }

    #[test]
    fn dsc_08_what_the_user_configured_may_be_anywhere() {
        let corporate = trust("https://10.0.0.1/realm", None, false);
        assert!(corporate.check("token_endpoint", "https://10.0.0.1/token").is_ok());
        assert!(corporate.check("token_endpoint", "https://10.0.0.2/token").is_err());
        let named = trust("https://idp.example", Some(&["10.0.0.2", "Login.Example"]), false);
        for (url, allowed) in [
            ("https://10.0.0.2/token", true),
            ("https://login.example/token", true),
            ("https://idp.example/token", true),
            ("https://other.example/token", false),
        ] {
            assert_eq!(named.check("token_endpoint", url).is_ok(), allowed, "{url}");
        }
        let plain = trust("http://idp:8080", None, true);
        assert!(plain.check("token_endpoint", "http://idp:8080/token").is_ok());
        assert!(plain.check("token_endpoint", "http://other:8080/token").is_err());
    }

    #[test]
    fn a_host_has_no_port_or_path() {
        for bad in ["", "https://login.example", "login.example/x", "u@login.example"] {
            assert!(plain_host(bad).is_err(), "{bad}");
        }
    }
}
