//! The configuration file.

use std::{collections::BTreeMap, path::Path};

use axum::http::Uri;
use serde::Deserialize;
use tower_oauth::{
    BoxError,
    config::{OAuthConfig, read},
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where the gateway listens.
    #[serde(default = "loopback")]
    pub listen: String,
    /// The APIs, by name.
    pub upstreams: BTreeMap<String, UpstreamSettings>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamSettings {
    /// Where the API is. What follows the gateway's path is added to this one's.
    pub url: String,
    /// Requests to this path, and below it, go to the API. Default: `/NAME`.
    pub path: Option<String>,
    /// Where its tokens come from. They go to the API's origin, unless it says otherwise.
    pub oauth: OAuthConfig,
}

fn loopback() -> String {
    "127.0.0.1:8080".to_owned()
}

impl Settings {
    pub fn load(path: &Path) -> Result<Self, BoxError> {
        let wrong = |error: BoxError| format!("{}: {error}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| wrong(error.into()))?;
        Self::parse(&text).map_err(|error| wrong(error).into())
    }

    pub fn parse(text: &str) -> Result<Self, BoxError> {
        // What toml says of a syntax error shows the line, which may hold a secret.
        let document = toml::Deserializer::parse(text).map_err(|error| {
            let line = error.span().map_or(0, |at| {
                text.bytes().take(at.start).filter(|byte| *byte == b'\n').count() + 1
            });
            format!("line {line}: {}", error.message())
        })?;
        let mut settings: Self = read(document)?;
        if settings.upstreams.is_empty() {
            return Err("upstreams: there is none".into());
        }
        let mut paths = BTreeMap::new();
        for (name, upstream) in &mut settings.upstreams {
            let wrong = |key: &str, what: &str| format!("upstreams.{name}.{key}: {what}");
            let url: Uri = upstream.url.parse().map_err(|_| wrong("url", "it is not a URL"))?;
            let (Some(scheme), Some(authority)) = (url.scheme_str(), url.authority()) else {
                return Err(wrong("url", "it must be absolute").into());
            };
            if url.query().is_some() || authority.as_str().contains('@') {
                return Err(wrong("url", "it must not have a query or user information").into());
            }
            if upstream.oauth.origins.is_empty() && !upstream.oauth.layer.danger_any_origin {
                upstream.oauth.origins = vec![format!("{scheme}://{authority}")];
            }
            let path = upstream.path.get_or_insert_with(|| format!("/{name}"));
            *path = path.trim_end_matches('/').to_owned();
            if !path.is_empty() && !path.starts_with('/') {
                return Err(wrong("path", "it must begin with a slash").into());
            }
            if OWN_PATHS.contains(&path.as_str()) {
                return Err(wrong("path", "it is one of the gateway's own").into());
            }
            if let Some(other) = paths.insert(path.clone(), name.clone()) {
                return Err(wrong("path", &format!("it is the one of {other} too")).into());
            }
        }
        Ok(settings)
    }
}

pub const OWN_PATHS: [&str; 4] = ["/healthz", "/readyz", "/metrics", "/status"];
