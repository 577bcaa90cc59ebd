//! What holds for every `WWW-Authenticate` field.
#![expect(clippy::missing_panics_doc, reason = "to panic is what they are for")]

use http::{HeaderMap, HeaderValue, StatusCode, header::WWW_AUTHENTICATE};

use super::{
    challenge::Challenges,
    verdict::{Verdict, verdict},
};

/// Field lines, a line each.
pub fn www_authenticate(data: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in data.split(|b| *b == b'\n').take(1000) {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(WWW_AUTHENTICATE, value);
        }
    }
    // What cannot be read is nobody's word.
    let Ok(challenges) = Challenges::read(&headers) else { return };
    let verdict = verdict(StatusCode::UNAUTHORIZED, &challenges, false);
    assert!(challenges.iter().count() <= 64);
    for challenge in challenges.iter() {
        let scheme = challenge.scheme();
        assert!(!scheme.is_empty() && scheme == scheme.to_ascii_lowercase());
    }
    let refused = challenges.iter().any(|challenge| {
        matches!(challenge.scheme(), "bearer" | "dpop")
            && challenge.param("error") == Some("invalid_token")
    });
    assert_eq!(verdict == Verdict::InvalidToken, refused);
}
