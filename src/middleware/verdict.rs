//! What an answer means for the token.

use base64::{Engine, prelude::BASE64_STANDARD};
use http::StatusCode;
use serde_json::Value;

use super::challenge::{Challenge, Challenges};
use crate::{source::StepUp, token::Scopes};

/// What an answer says about the token that was sent with the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The token is refused: `invalid_token`.
    InvalidToken,
    /// The request is refused for want of authentication, without a reason that is known.
    Unexplained,
    /// The proof is refused, not the token.
    Proof(Refused),
    /// The token is good, and lacks this.
    Insufficient(StepUp),
    /// Nothing that another token would change.
    Other,
}

/// Why a proof is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It lacks the nonce that the answer brings: `use_dpop_nonce`.
    Nonce,
    /// `invalid_dpop_proof`: the clock may be wrong.
    Invalid,
}

/// Judges an answer by its status and its challenges. `bound` says whether the request had a proof.
pub(crate) fn verdict(status: StatusCode, challenges: &Challenges, bound: bool) -> Verdict {
    if let Some(refused) = refused_proof(challenges).filter(|_| bound) {
        // Before anything else: the token itself may be good. Some servers say it with 400.
        let answers = [StatusCode::UNAUTHORIZED, StatusCode::BAD_REQUEST].contains(&status);
        return if answers { Verdict::Proof(refused) } else { Verdict::Other };
    }
    let verdict = judge(challenges);
    match (status, &verdict) {
        (StatusCode::UNAUTHORIZED, _) | (StatusCode::FORBIDDEN, Verdict::Insufficient(_)) => {
            verdict
        }
        // As a wrong audience with 403 and invalid_token: the next token has the same.
        _ => Verdict::Other,
    }
}

fn judge(challenges: &Challenges) -> Verdict {
    let mut verdict = Verdict::Unexplained;
    let errors = challenges.about_tokens();
    for (challenge, error) in errors.filter_map(|ours| Some((ours, ours.error()?))) {
        match error {
            "invalid_token" => return Verdict::InvalidToken,
            "insufficient_scope" | "insufficient_claims" => {
                verdict = step_up(challenge).map_or(Verdict::Other, Verdict::Insufficient);
            }
            // RFC 6750 §3.1, RFC 9470 §3, RFC 9449 §7.1 and §9: the token itself is good.
            "invalid_request"
            | "insufficient_user_authentication"
            | "use_dpop_nonce"
            | "invalid_dpop_proof" => verdict = Verdict::Other,
            _ => {}
        }
    }
    verdict
}

/// Returns whether a challenge has an error code that the standards know, and that is not about the
/// token itself.
pub(crate) fn leaves_token_good(challenges: &Challenges) -> bool {
    let mut errors = challenges.about_tokens().filter_map(Challenge::error);
    errors.any(|error| {
        matches!(
            error,
            "insufficient_scope"
                | "insufficient_claims"
                | "invalid_request"
                | "insufficient_user_authentication"
                | "use_dpop_nonce"
                | "invalid_dpop_proof"
        )
    })
}

/// RFC 9449 §7.1 and §9: what a challenge of the scheme `DPoP` says of the proof.
fn refused_proof(challenges: &Challenges) -> Option<Refused> {
    let ours = challenges.iter().filter(|challenge| challenge.scheme() == "dpop");
    ours.filter_map(Challenge::error).find_map(|error| match error {
        "use_dpop_nonce" => Some(Refused::Nonce),
        "invalid_dpop_proof" => Some(Refused::Invalid),
        _ => None,
    })
}

/// What a challenge asks for beyond what the token has, if another token could have it.
fn step_up(challenge: &Challenge) -> Option<StepUp> {
    let step_up = match challenge.error()? {
        // RFC 6750 §3.1: it "MAY include the "scope" attribute with the scope necessary to
        // access the protected resource."
        "insufficient_scope" => {
            let mut scopes = Scopes::default();
            let wanted = challenge.param("scope")?.split(' ').filter(|scope| !scope.is_empty());
            wanted.for_each(|scope| drop(scopes.insert(scope)));
            StepUp::scopes(scopes)
        }
        // Microsoft's continuous access evaluation: a JSON object in base64.
        "insufficient_claims" => {
            let json = BASE64_STANDARD.decode(challenge.param("claims")?).ok()?;
            let Ok(Value::Object(_)) = serde_json::from_slice(&json) else { return None };
            StepUp::claims(String::from_utf8(json).ok()?)
        }
        _ => return None,
    };
    (!step_up.is_empty()).then_some(step_up)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, header::WWW_AUTHENTICATE};

    use super::*;

    fn judged_as(status: u16, lines: &[&str], bound: bool) -> Verdict {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_str(line).unwrap());
        }
        let challenges = Challenges::read(&headers);
        verdict(StatusCode::from_u16(status).unwrap(), &challenges, bound)
    }

    fn judged(status: u16, lines: &[&str]) -> Verdict {
        judged_as(status, lines, false)
    }

    #[test]
    fn cha_05_only_a_401_with_invalid_token_refuses_the_token() {
        use Verdict::{InvalidToken, Other, Unexplained};
        for (code, on_401) in [
            ("invalid_token", InvalidToken),
            ("insufficient_scope", Other),
            ("invalid_request", Other),
            ("insufficient_user_authentication", Other),
            ("use_dpop_nonce", Other),
            ("invalid_dpop_proof", Other),
            ("x_custom", Unexplained),
        ] {
            for scheme in ["Bearer", "dpop"] {
                let line = format!("{scheme} realm=\"r\", error=\"{code}\"");
                assert_eq!(judged(401, &[&line]), on_401, "{line}");
                for status in [200, 400, 403, 404, 407, 500] {
                    assert_eq!(judged(status, &[&line]), Other, "{status} {line}");
                }
            }
        }
        let metadata = r#"Bearer error="invalid_request", resource_metadata="https://resource.example.com/.well-known/oauth-protected-resource""#;
        assert_eq!(judged(400, &[metadata]), Other);
    }

    #[test]
    fn cha_05_a_401_that_does_not_say_why_is_unexplained() {
        for lines in [
            &[][..],
            &[""],
            &["Bearer"],
            &[r#"Bearer realm="r", DPoP algs="ES256""#],
            &[r#"Basic realm="x""#],
            &["Newauth error=invalid_token"],
        ] {
            assert_eq!(judged(401, lines), Verdict::Unexplained, "{lines:?}");
        }
        let nonce = r#"Bearer realm="r", DPoP error="use_dpop_nonce", error_description="Resource server requires nonce in DPoP proof""#;
        assert_eq!(judged(401, &[nonce]), Verdict::Other);
        for rest in [
            r#"A different authentication level is required", acr_values="myACR""#,
            r#"More recent authentication is required", max_age="5""#,
        ] {
            let line = format!(
                r#"Bearer error="insufficient_user_authentication", error_description="{rest}"#
            );
            assert_eq!(judged(401, &[&line]), Verdict::Other, "{line}");
        }
        let both = ["Bearer error=insufficient_scope", "DPoP error=invalid_token"];
        assert_eq!(judged(401, &both), Verdict::InvalidToken);
    }

    #[test]
    fn f74_cha_04_a_malformed_challenge_counts_as_invalid_token_or_as_no_reason() {
        use Verdict::{InvalidToken, Unexplained};
        for (line, verdict) in [
            (
                r#"OAuth "Facebook Platform" "invalid_token" "Error validating access token""#,
                Unexplained,
            ),
            (r#"Bearer error="invalid_token" error_description="x""#, InvalidToken),
            (
                "Bearer authorization_uri=https://login.example/x, resource_id=https://org.example/",
                Unexplained,
            ),
            (r#"Basic realm=My Realm, Bearer error="invalid_token""#, InvalidToken),
            (
                r#"Bearer error="invalid_token", error_description=""exp" claim timestamp check failed""#,
                InvalidToken,
            ),
            ("Bearer error='invalid_token'", Unexplained),
            (r#"error="invalid_token""#, Unexplained),
            // Any other code is as good as none.
            (r#"Bearer error="invalid_request" error_description="x""#, Unexplained),
            (r#"Bearer error="insufficient_scope" scope="a""#, Unexplained),
            (r#"Bearer error="insufficient_scope", scope="a" x"#, Unexplained),
            (r#"DPoP error="use_dpop_nonce" algs="ES256""#, Unexplained),
            (r#"Bearer error="x", error="invalid_token""#, Unexplained),
            (r#"Bearer error="invalid_token", error="invalid_request""#, InvalidToken),
        ] {
            for bound in [false, true] {
                assert_eq!(judged_as(401, &[line], bound), verdict, "{line}");
            }
            for status in [200, 400, 403, 500] {
                assert_eq!(judged(status, &[line]), Verdict::Other, "{status} {line}");
            }
            // It hides no good challenge, before it or after it.
            let good = r#"Bearer error="invalid_token""#;
            assert_eq!(judged(401, &[line, good]), InvalidToken, "{line}");
            assert_eq!(judged(401, &[good, line]), InvalidToken, "{line}");
            let nonce = "DPoP error=use_dpop_nonce";
            let proof = Verdict::Proof(Refused::Nonce);
            assert_eq!(judged_as(401, &[line, nonce], true), proof, "{line}");
        }
        let broken = "Basic realm=My Realm";
        let scope = r#"Bearer error="insufficient_scope", scope="a""#;
        assert!(matches!(judged(403, &[broken, scope]), Verdict::Insufficient(_)));
        assert_eq!(judged(401, &[broken, "Bearer error=invalid_request"]), Verdict::Other);
    }

    #[test]
    fn cha_04_too_many_challenges_count_as_no_reason() {
        let many = vec!["Basic"; 1000].join(",");
        let large = format!("Bearer realm={}", "x".repeat(20_000));
        for line in [&many, &large] {
            assert_eq!(judged(401, &[line]), Verdict::Unexplained);
        }
        assert_eq!(judged(401, &[&large, "Bearer error=invalid_token"]), Verdict::InvalidToken);
    }

    #[test]
    fn dpo_08_a_refused_proof_says_nothing_of_the_token() {
        let nonce = r#"Bearer realm="r", DPoP error="use_dpop_nonce", error_description="Resource server requires nonce in DPoP proof""#;
        let invalid = r#"Bearer realm="api", DPoP error="invalid_dpop_proof", algs="ES256""#;
        for status in [400, 401] {
            let judged = |line| judged_as(status, &[line], true);
            assert_eq!(judged(nonce), Verdict::Proof(Refused::Nonce));
            assert_eq!(judged(invalid), Verdict::Proof(Refused::Invalid));
        }
        assert_eq!(judged_as(403, &[nonce], true), Verdict::Other);
        let both = ["Bearer error=invalid_token", "DPoP error=use_dpop_nonce"];
        assert_eq!(judged_as(401, &both, true), Verdict::Proof(Refused::Nonce));
        assert_eq!(judged_as(401, &both, false), Verdict::InvalidToken);
        // A scheme that takes no proofs does not judge them.
        let bearer = "Bearer error=use_dpop_nonce";
        assert_eq!(judged_as(401, &[bearer], true), Verdict::Other);
    }

    #[test]
    fn stp_02_what_a_token_lacks_is_read() {
        let mut scopes = Scopes::default();
        scopes.insert("a").unwrap();
        scopes.insert("b").unwrap();
        let lacks = |status, line| match judged(status, &[line]) {
            Verdict::Insufficient(step_up) => Some(step_up),
            Verdict::Other => None,
            verdict => panic!("{verdict:?}"),
        };
        let line = r#"Bearer error="insufficient_scope", scope="a b""#;
        assert_eq!(lacks(403, line), Some(StepUp::scopes(scopes)));
        for line in [
            "Bearer error=insufficient_scope",
            r#"Bearer error=insufficient_scope, scope="""#,
            r#"Bearer error=insufficient_scope, scope="\\""#,
            "Bearer error=insufficient_claims",
            r#"Bearer error=insufficient_claims, claims="W10=""#,
            "Bearer error=insufficient_claims, claims=a",
        ] {
            assert_eq!(lacks(403, line), None, "{line}");
        }
        let line = r#"Bearer error="insufficient_claims", claims="eyJhIjp7fX0=""#;
        assert_eq!(lacks(401, line), Some(StepUp::claims(r#"{"a":{}}"#)));
    }
}
