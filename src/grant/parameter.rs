use serde_json::Value;

use crate::{error::ConfigError, http::shown_url};

/// Checks the extra parameters of a request: each has a name and a value, and none repeats another
/// or one that the grant sets.
pub(super) fn check_extra(parameters: &[(String, String)]) -> Result<(), ConfigError> {
    for (i, (name, value)) in parameters.iter().enumerate() {
        let bad = |reason| Err(ConfigError::Parameter { name: name.clone(), reason });
        if name.is_empty() {
            return bad("it has no name");
        }
        if PROTOCOL_PARAMETERS.contains(&&**name) {
            return bad("the grant sets it, or has a setting for it");
        }
        if value.is_empty() {
            return bad("it is empty, which means the same as absent");
        }
        if parameters.iter().take(i).any(|(earlier, _)| earlier == name) {
            return bad("it is there twice");
        }
    }
    Ok(())
}

/// RFC 8707 §2: "Its value MUST be an absolute URI, as specified by Section 4.3 of [RFC3986]. The
/// URI MUST NOT include a fragment component."
pub(super) fn check_resource(value: &str) -> Result<(), ConfigError> {
    let bad = |reason| Err(ConfigError::Url { what: "resource", value: shown_url(value), reason });
    if value.contains('#') {
        return bad("it must not have a fragment");
    }
    let (scheme, rest) = value.split_once(':').unwrap_or_default();
    // RFC 3986 §3.1: scheme = ALPHA *( ALPHA / DIGIT / "+" / "-" / "." )
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    if !is_scheme || rest.is_empty() || !rest.bytes().all(|b| b.is_ascii_graphic()) {
        return bad("it must be an absolute URI, such as https://api.example");
    }
    Ok(())
}

/// A resource that is no URI: visible ASCII, so that it is not a sentence or a secret by mistake.
pub(super) fn check_identifier(value: &str) -> Result<(), ConfigError> {
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_graphic()) {
        return Ok(());
    }
    Err(ConfigError::Parameter {
        name: "resource".to_owned(),
        reason: "an identifier is visible ASCII, such as 00000003-0000-0000-c000-000000000000",
    })
}

/// RFC 9396 §2: "The request parameter `authorization_details` contains, in JSON notation, an
/// array of objects. [...] type: [...] REQUIRED."
pub(super) fn check_details(details: &Value) -> Result<String, ConfigError> {
    let typed = |detail: &Value| detail.get("type").is_some_and(Value::is_string);
    match details {
        Value::Array(details) if !details.is_empty() && details.iter().all(typed) => {}
        _ => {
            let reason = "it is an array of one or more objects, each with a type";
            return Err(ConfigError::Parameter { name: DETAILS.to_owned(), reason });
        }
    }
    Ok(details.to_string())
}

/// The parameter of [RFC 9396](https://www.rfc-editor.org/rfc/rfc9396).
pub(super) const DETAILS: &str = "authorization_details";

/// The parameters that a grant sets, now or with a setting of its own.
const PROTOCOL_PARAMETERS: &[&str] = &[
    "grant_type",
    "client_id",
    "client_secret",
    "client_assertion",
    "client_assertion_type",
    "scope",
    "resource",
    "audience",
    DETAILS,
    "refresh_token",
    "code",
    "code_verifier",
    "redirect_uri",
    "device_code",
    "assertion",
    "subject_token",
    "subject_token_type",
    "actor_token",
    "actor_token_type",
    "requested_token_type",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn check(parameters: &[(&str, &str)]) -> Result<(), ConfigError> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        check_extra(&parameters.iter().map(owned).collect::<Vec<_>>())
    }

    #[test]
    fn trq_03_extra_parameters_do_not_collide_repeat_or_stay_empty() {
        assert!(check(&[("tenant", "a"), ("Scope", "b")]).is_ok());
        for name in PROTOCOL_PARAMETERS {
            assert!(check(&[(name, "x")]).is_err(), "{name}");
        }
        for bad in [&[("", "x")][..], &[("x", "")], &[("x", "1"), ("y", "2"), ("x", "3")]] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_resource_is_an_absolute_uri_without_fragment() {
        for good in ["https://api.example", "https://api.example/a?b=c", "urn:example:api"] {
            assert!(check_resource(good).is_ok(), "{good}");
        }
        for bad in
            ["", "api", "/api", "https://a#b", "https:", "1a:b", ":b", "a b:c", "a:b c", "a:é"]
        {
            assert!(check_resource(bad).is_err(), "{bad}");
        }
    }
}
