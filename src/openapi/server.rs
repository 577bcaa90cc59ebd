use http::{Uri, uri::Authority};
use serde_json::Value;

use super::{OpenApiError, document::Document, operation::path_items};
use crate::error::printable;

/// Where an API is, as far as it matters: its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    scheme: String,
    authority: Authority,
}

/// The servers of the whole document, of its paths and of its operations, in that order.
pub(super) fn all(
    document: &Document<'_>,
    base: Option<&str>,
) -> Result<Vec<Server>, OpenApiError> {
    let base = match base {
        Some(url) => Some(parse(url, None)?),
        None => None,
    };
    let mut servers = Vec::new();
    add(document, document.0, base.as_ref(), "servers", &mut servers)?;
    if servers.is_empty()
        && let Some(base) = &base
    {
        // "If the servers property is not provided, or is an empty array, the default value would
        // be a Server Object with a url value of /."
        servers.push(base.clone());
    }
    for (_, path, item) in path_items(document)? {
        add(document, item, base.as_ref(), &format!("{path}.servers"), &mut servers)?;
        for (method, operation) in item.as_object().into_iter().flatten() {
            if operation.get("servers").is_some() {
                let path = format!("{path}.{}.servers", printable(method, 20));
                add(document, operation, base.as_ref(), &path, &mut servers)?;
            }
        }
    }
    Ok(servers)
}

/// Each origin once, in order.
pub(super) fn origins(servers: &[Server]) -> Vec<String> {
    let mut origins = Vec::new();
    for server in servers {
        let origin = format!("{}://{}", server.scheme, server.authority);
        if !origins.contains(&origin) {
            origins.push(origin);
        }
    }
    origins
}

impl Server {
    /// The URL of a path at this server.
    pub(super) fn resolve(&self, reference: &str) -> Option<String> {
        match reference {
            other_host if other_host.starts_with("//") => {
                Some(format!("{}:{other_host}", self.scheme))
            }
            path if path.starts_with('/') => {
                Some(format!("{}://{}{path}", self.scheme, self.authority))
            }
            // Relative to a path, of which nobody can say which one was meant.
            _ => None,
        }
    }
}

fn add<'a>(
    document: &Document<'a>,
    parent: &'a Value,
    base: Option<&Server>,
    path: &str,
    servers: &mut Vec<Server>,
) -> Result<(), OpenApiError> {
    let listed = match parent.get("servers") {
        None | Some(Value::Null) => return Ok(()),
        Some(Value::Array(listed)) => listed,
        Some(_) => return Err(OpenApiError::member(path, "it is not a list")),
    };
    for (at, server) in listed.iter().enumerate() {
        let path = format!("{path}[{at}]");
        let server = document.follow(server, &path)?;
        let Some(url) = server.get("url").and_then(Value::as_str) else {
            return Err(OpenApiError::member(path, "its url is missing"));
        };
        let server = parse(&filled(url, server, &path)?, base)?;
        if !servers.contains(&server) {
            servers.push(server);
        }
    }
    Ok(())
}

/// The URL with the defaults of its variables.
fn filled(url: &str, server: &Value, path: &str) -> Result<String, OpenApiError> {
    let (mut text, mut rest) = (String::new(), url);
    while let Some((before, after)) = rest.split_once('{') {
        let Some((name, after)) = after.split_once('}') else {
            return Err(OpenApiError::member(path, "a brace in its url has no other half"));
        };
        let variable = server.get("variables").and_then(|variables| variables.get(name));
        let default = match variable.and_then(|variable| variable.get("default")) {
            Some(Value::String(default)) => default.clone(),
            // A port, in YAML.
            Some(Value::Number(default)) => default.to_string(),
            _ => {
                let shown = printable(name, 40);
                let reason = format!("the variable \"{shown}\" of its url has no default");
                return Err(OpenApiError::member(path, reason));
            }
        };
        text.push_str(before);
        text.push_str(&default);
        rest = after;
    }
    text.push_str(rest);
    Ok(text)
}

fn parse(url: &str, base: Option<&Server>) -> Result<Server, OpenApiError> {
    let bad = |reason| OpenApiError::Server { url: printable(url, 100), reason };
    let url = match (url.trim(), base) {
        (url, _) if url.contains("://") => url.to_owned(),
        (url, Some(base)) if url.starts_with("//") => format!("{}:{url}", base.scheme),
        (_, Some(base)) => return Ok(base.clone()),
        (_, None) => {
            return Err(bad("it is relative: say where the document was found, with parse_at"));
        }
    };
    // Not the path, which may have what is no URI.
    let (scheme, rest) = url.split_once("://").ok_or_else(|| bad("it is not a URL"))?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let uri: Uri =
        format!("{scheme}://{authority}/").parse().map_err(|_| bad("it is not a URL"))?;
    let authority = uri.authority().ok_or_else(|| bad("it has no host"))?;
    if authority.as_str().contains('@') {
        return Err(bad("it has user information"));
    }
    match uri.scheme_str() {
        Some(scheme @ ("https" | "http" | "wss" | "ws")) => {
            Ok(Server { scheme: scheme.replace("ws", "http"), authority: authority.clone() })
        }
        _ => Err(bad("it is not http")),
    }
}
