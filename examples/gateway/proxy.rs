//! What changes about a request on its way to an API, and about the answer.

use std::{net::IpAddr, time::Duration};

use axum::{
    body::Body,
    http::{
        HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, Version, header,
        uri::PathAndQuery,
    },
};
use tower_oauth::{BoxError, Error, ErrorKind};

use crate::upstream::Upstream;

/// Sends a request on to the API that its path names.
pub async fn forward(
    upstream: &Upstream,
    mut request: Request<Body>,
    caller: Option<IpAddr>,
) -> Response<Body> {
    let uri = match target(upstream, request.uri()) {
        Ok(uri) => uri,
        Err(why) => return problem(StatusCode::BAD_REQUEST, "bad path", why),
    };
    let host = request.headers().get(header::HOST).cloned();
    let version = request.version();
    let headers = request.headers_mut();
    drop_hop_by_hop(headers);
    // The API has a name of its own, and hyper has answered the expectation already.
    headers.remove(header::HOST);
    headers.remove(header::EXPECT);
    via(headers, version);
    // What somebody else says of the way before us cannot be known to be true.
    for name in [FORWARDED_FOR, FORWARDED_HOST, FORWARDED_PROTO] {
        headers.remove(name);
    }
    headers.remove(header::FORWARDED);
    if let Some(Ok(caller)) = caller.map(|caller| HeaderValue::from_str(&caller.to_string())) {
        headers.insert(FORWARDED_FOR, caller);
    }
    if let Some(host) = host {
        headers.insert(FORWARDED_HOST, host);
    }
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static("http"));
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_11;

    match upstream.send(request).await {
        Ok(mut response) => {
            let version = response.version();
            drop_hop_by_hop(response.headers_mut());
            via(response.headers_mut(), version);
            response.map(Body::new)
        }
        Err(error) => failed(&error),
    }
}

/// The URL at the API.
fn target(upstream: &Upstream, uri: &Uri) -> Result<Uri, &'static str> {
    let path = uri.path();
    // An API may take them for a way out of the path it was given for.
    let climbs = |segment: &str| {
        let plain = segment.to_ascii_lowercase().replace("%2e", ".");
        plain == "." || plain == ".."
    };
    let lower = path.to_ascii_lowercase();
    if lower.replace("%2f", "/").replace("%5c", "/").split(['/', '\\']).any(climbs) {
        return Err("a path with '.' or '..' in it is not sent on");
    }
    let rest = path.strip_prefix(&*upstream.path).unwrap_or(path);
    let base = upstream.url.path().trim_end_matches('/');
    let mut path = format!("{base}{rest}");
    if path.is_empty() {
        path.push('/');
    }
    if let Some(query) = uri.query() {
        path.push('?');
        path.push_str(query);
    }
    let mut parts = upstream.url.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(path).map_err(|_| "the path is not valid")?);
    Uri::from_parts(parts).map_err(|_| "the path is not valid")
}

/// RFC 9110 §7.6.1: what is for the next hop only, and what `Connection` says is.
fn drop_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

static HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// RFC 9110 §7.6.3: a gateway says that the message passed it.
fn via(headers: &mut HeaderMap, version: Version) {
    let via = match version {
        Version::HTTP_2 => "2 tower-oauth-gateway",
        Version::HTTP_10 => "1.0 tower-oauth-gateway",
        _ => "1.1 tower-oauth-gateway",
    };
    headers.append(header::VIA, HeaderValue::from_static(via));
}

/// An answer in place of the API's.
fn failed(error: &BoxError) -> Response<Body> {
    let Some(ours) = Error::find(&**error) else {
        // Not in words: the client's errors name internal addresses.
        return problem(StatusCode::BAD_GATEWAY, "bad gateway", "the API could not be reached");
    };
    let detail = ours.to_string();
    let mut response = match ours.kind() {
        ErrorKind::Timeout => problem(StatusCode::GATEWAY_TIMEOUT, "no token in time", &detail),
        _ => problem(StatusCode::SERVICE_UNAVAILABLE, "no token", &detail),
    };
    let now = tokio::time::Instant::now();
    let wait = ours.retry_at().map(|at| at.saturating_duration_since(now));
    let wait = wait.unwrap_or(Duration::from_secs(1)).as_secs().max(1);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait));
    response
}

/// RFC 9457: what went wrong here, in words.
pub fn problem(status: StatusCode, title: &str, detail: &str) -> Response<Body> {
    let body = serde_json::json!({ "title": title, "status": status.as_u16(), "detail": detail });
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
