use http::{HeaderMap, StatusCode};

use super::challenge::parse;

/// Where an API that refused a request says its metadata is: the parameter `resource_metadata` of
/// its challenge ([RFC 9728 §5.1]), for [`ResourceDiscovery`](crate::ResourceDiscovery).
///
/// It is read from answers with status 400, 401 and 403. The URL is as the API wrote it, and nothing
/// has been checked.
///
/// [RFC 9728 §5.1]: https://www.rfc-editor.org/rfc/rfc9728#section-5.1
pub fn resource_metadata(status: StatusCode, headers: &HeaderMap) -> Option<String> {
    if !matches!(status, StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
    {
        return None;
    }
    // RFC 9728 §5.1: the parameter is for use "with any authentication scheme".
    let challenges = parse(headers).ok()?;
    let place = challenges.iter().find_map(|challenge| challenge.param("resource_metadata"))?;
    Some(place.to_owned()).filter(|place| !place.is_empty())
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, header::WWW_AUTHENTICATE};

    use super::*;

    fn of(status: u16, challenges: &[&'static str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for challenge in challenges {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        resource_metadata(StatusCode::from_u16(status).unwrap(), &headers)
    }

    #[test]
    fn dsc_06_the_place_is_read_from_400_401_and_403() {
        let place = "https://resource.example.com/.well-known/oauth-protected-resource";
        // RFC 9728 §5.1
        let challenge = r#"Bearer resource_metadata="https://resource.example.com/.well-known/oauth-protected-resource""#;
        for (status, is_read) in [(400, true), (401, true), (403, true), (200, false), (404, false)]
        {
            assert_eq!(of(status, &[challenge]).is_some(), is_read, "{status}");
        }
        assert_eq!(of(401, &[challenge]).as_deref(), Some(place));
        assert_eq!(of(401, &["Basic realm=\"a\"", challenge]).as_deref(), Some(place));
        let dpop = r#"DPoP error="invalid_token", resource_metadata="https://r.example/m""#;
        assert_eq!(of(401, &[dpop]).as_deref(), Some("https://r.example/m"));
        for none in ["Bearer", "Bearer realm=\"a\"", "Bearer resource_metadata=\"\"", "\"", ""] {
            assert_eq!(of(401, &[none]), None, "{none}");
        }
        assert_eq!(of(401, &[]), None);
        let quoted = r#"Bearer realm="a, resource_metadata=\"https://evil.example\"""#;
        assert_eq!(of(401, &[quoted]), None);
    }
}
