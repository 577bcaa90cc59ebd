//! What is wrong, and what to do.

use std::error::Error as StdError;

use http::{StatusCode, header::WWW_AUTHENTICATE};
use tower_oauth::{Error, ErrorKind};

/// Says why there is no token.
pub(crate) fn about_token(error: &Error) {
    println!("\nThere is no token: {error}");
    causes(error);
    println!("  What to do: {}", remedy(error));
}

/// Says why the API was not reached.
pub(crate) fn about_transport(error: &(dyn StdError + 'static)) {
    println!("\nThe API was not reached: {error}");
    causes(error);
    println!("  What to do: check the URL, and that this machine may connect there.");
}

/// Says what the API's answer means. `true` if all is well.
pub(crate) fn about_answer(response: &reqwest::Response) -> bool {
    let challenge = response.headers().get(WWW_AUTHENTICATE).and_then(|value| value.to_str().ok());
    let has = |code: &str| challenge.is_some_and(|challenge| challenge.contains(code));
    let remedy = match response.status() {
        status if status.is_success() => {
            println!("\nAll is well.");
            return true;
        }
        StatusCode::UNAUTHORIZED if has("invalid_token") => {
            "the API does not accept the token. Check that it is for this API (audience, resource, \
             scope), and that the API trusts this authorization server."
        }
        StatusCode::UNAUTHORIZED => {
            "if the request above has no Authorization header, the URL is not one of the \
             configuration's origins. If it has one, the API does not accept the token: check that \
             it is for this API (audience, resource, scope)."
        }
        StatusCode::FORBIDDEN if has("insufficient_scope") => {
            "the token lacks a scope. Add those that the API names above to the configuration's \
             scope, and have them granted to the client."
        }
        StatusCode::FORBIDDEN => {
            "the token is accepted, but the client may not do this. Have it granted the permission \
             or role at the API."
        }
        StatusCode::NOT_FOUND => "the token is not the problem: check the path.",
        status if status.is_redirection() => {
            "the API redirects. Call the URL that it names; a token follows only to the \
             configuration's origins."
        }
        status if status.is_server_error() => "the API has a problem of its own: ask its owner.",
        _ => "the token is not the problem: read the API's answer above.",
    };
    println!("\nThe API answers {}.\n  What to do: {remedy}", response.status());
    false
}

fn remedy(error: &Error) -> &'static str {
    // A wait that ended too late says what kept it waiting.
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<Error>());
    if let (ErrorKind::Timeout, Some(cause)) = (error.kind(), cause) {
        return remedy(cause);
    }
    match (error.kind(), error.oauth().and_then(|oauth| oauth.code.as_deref())) {
        (ErrorKind::InvalidClient, Some("unauthorized_client")) => {
            "the client is known, but may not use this grant: have it allowed at the server."
        }
        (ErrorKind::InvalidClient, _) => {
            "check the client's id and secret, and client.method: some servers take the secret in \
             the body only (client_secret_post), or without form encoding \
             (client_secret_basic_unencoded)."
        }
        (ErrorKind::InvalidGrant, _) => {
            "the refresh token or assertion is expired, revoked or spent: get a new one."
        }
        (ErrorKind::InvalidRequest, Some("invalid_scope")) => {
            "check the scopes: each has to exist, and to be granted to the client. Some servers \
             want one that ends with /.default."
        }
        (ErrorKind::InvalidRequest, Some("invalid_target")) => {
            "the server does not know the resource or audience: check its spelling."
        }
        (ErrorKind::InvalidRequest, Some("unsupported_grant_type")) => {
            "the server does not have this grant, or the URL is not its token endpoint."
        }
        (ErrorKind::InvalidRequest, _) => {
            "compare the request above with the server's manual: the URL, and which parameters it \
             wants (audience, resource, parameters)."
        }
        (ErrorKind::Transport, _) => {
            "check the token endpoint's host, and that this machine may connect there: name, \
             proxy, firewall, certificate."
        }
        (ErrorKind::Timeout, _) => {
            "the server does not answer in time: try again, or raise timeout."
        }
        (ErrorKind::Throttled, _) => "the server asks for fewer requests: wait.",
        (ErrorKind::Server, _) => "the server has a problem of its own: try again later.",
        (ErrorKind::MalformedResponse, _) => {
            "what answers is not a token endpoint, or something between changes its answers: check \
             the URL."
        }
        (ErrorKind::UnusableToken, _) => {
            "the server gives tokens that cannot be used like this: see the answer above. \
             assume_bearer takes one without token_type."
        }
        (ErrorKind::Discovery, _) => {
            "check the issuer's URL, to the letter; or configure token_endpoint in its place."
        }
        (ErrorKind::Credential, _) => "make the secret available where the configuration says.",
        (ErrorKind::Configuration, _) => "change the configuration to what the server supports.",
        (ErrorKind::Origin, _) => "add the URL's origin to the configuration, if it is trusted.",
        _ => "read the exchange above.",
    }
}

fn causes(error: &(dyn StdError + 'static)) {
    let mut next = error.source();
    while let Some(cause) = next {
        println!("  because: {cause}");
        next = cause.source();
    }
}
