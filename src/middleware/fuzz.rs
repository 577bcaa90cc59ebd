//! What holds for every `WWW-Authenticate` field.
#![expect(clippy::missing_panics_doc, reason = "to panic is what they are for")]

use http::{HeaderMap, HeaderValue, StatusCode, header::WWW_AUTHENTICATE};

use super::{
    challenge::{Challenge, Challenges},
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
    let challenges = Challenges::read(&headers);
    // 64, and one for those that were left out.
    assert!(challenges.iter().count() <= 65);
    for challenge in challenges.iter() {
        let scheme = challenge.scheme();
        assert!(!scheme.is_empty() || challenge.is_malformed());
        assert_eq!(scheme, scheme.to_ascii_lowercase());
    }
    let verdict = |bound| verdict(StatusCode::UNAUTHORIZED, &challenges, bound);
    let refused = challenges.iter().any(|challenge| {
        matches!(challenge.scheme(), "bearer" | "dpop")
            && challenge.param("error") == Some("invalid_token")
    });
    assert_eq!(verdict(false) == Verdict::InvalidToken, refused);
    // A 401 never counts as less than one without a reason because of a malformed challenge.
    if challenges.iter().all(Challenge::is_malformed) {
        let expected = if refused { Verdict::InvalidToken } else { Verdict::Unexplained };
        assert_eq!((verdict(false), verdict(true)), (expected.clone(), expected));
        assert!(challenges.resource_metadata().is_none());
    }
}
