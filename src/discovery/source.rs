use std::{borrow::Cow, fmt};

use super::Discovery;
use crate::http::shown_url;

/// Where an endpoint's URL comes from: it is given, or discovered.
///
/// A string converts into a given one, a [`Discovery`] into one that is discovered.
#[derive(Clone)]
pub struct EndpointSource(Kind);

#[derive(Clone)]
enum Kind {
    Url(String),
    Discovered(Discovery),
}

impl EndpointSource {
    /// This URL.
    pub fn url(url: impl Into<String>) -> Self {
        Self(Kind::Url(url.into()))
    }

    /// What the metadata says.
    pub fn discovered(discovery: Discovery) -> Self {
        Self(Kind::Discovered(discovery))
    }

    pub(crate) fn into_parts(self) -> (Option<String>, Option<Discovery>) {
        match self.0 {
            Kind::Url(url) => (Some(url), None),
            Kind::Discovered(discovery) => (None, Some(discovery)),
        }
    }
}

impl From<Discovery> for EndpointSource {
    fn from(discovery: Discovery) -> Self {
        Self::discovered(discovery)
    }
}

impl From<&Discovery> for EndpointSource {
    fn from(discovery: &Discovery) -> Self {
        discovery.clone().into()
    }
}

impl From<String> for EndpointSource {
    fn from(url: String) -> Self {
        Self::url(url)
    }
}

impl From<&String> for EndpointSource {
    fn from(url: &String) -> Self {
        Self::url(url)
    }
}

impl From<&str> for EndpointSource {
    fn from(url: &str) -> Self {
        Self::url(url)
    }
}

impl From<Box<str>> for EndpointSource {
    fn from(url: Box<str>) -> Self {
        Self::url(url)
    }
}

impl From<Cow<'_, str>> for EndpointSource {
    fn from(url: Cow<'_, str>) -> Self {
        Self::url(url)
    }
}

impl fmt::Debug for EndpointSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Url(url) => f.write_str(&shown_url(url)),
            Kind::Discovered(discovery) => discovery.fmt(f),
        }
    }
}
