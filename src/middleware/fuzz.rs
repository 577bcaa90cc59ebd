//! What holds for every `WWW-Authenticate` field.

use http::{HeaderMap, HeaderValue, StatusCode, header::WWW_AUTHENTICATE};

use super::challenge::{Verdict, parse, verdict};

/// Field lines, a line each.
pub fn www_authenticate(data: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in data.split(|b| *b == b'\n').take(1000) {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(WWW_AUTHENTICATE, value);
        }
    }
    let verdict = verdict(StatusCode::UNAUTHORIZED, &headers, false);
    let Ok(challenges) = parse(&headers) else {
        assert_eq!(verdict, Verdict::Other, "what cannot be read is nobody's word");
        return;
    };
    assert!(challenges.len() <= 64);
    for challenge in &challenges {
        assert_eq!(challenge.scheme, challenge.scheme.to_ascii_lowercase());
        assert!(!challenge.scheme.is_empty());
        for (at, (name, _)) in challenge.params.iter().enumerate() {
            assert!(challenge.params.iter().skip(at + 1).all(|(other, _)| other != name));
        }
    }
    let refused = challenges.iter().any(|challenge| {
        matches!(&*challenge.scheme, "bearer" | "dpop")
            && challenge.param("error") == Some("invalid_token")
    });
    assert_eq!(verdict == Verdict::InvalidToken, refused);
}
