//! What a refusal says: challenges as they should be, and as real servers send them.

use crate::ledger::Says;

/// The challenges of a refusal, line by line, and what they say of the token, if the status is 401.
#[derive(Debug, Clone, Copy)]
pub(super) struct Refusal {
    pub(super) lines: &'static [&'static str],
    pub(super) says: Says,
}

const fn refuses(lines: &'static [&'static str]) -> Refusal {
    Refusal { lines, says: Says::Refuses }
}

/// Without a reason that can be read.
const fn doubts(lines: &'static [&'static str]) -> Refusal {
    Refusal { lines, says: Says::Doubts }
}

const fn nothing(lines: &'static [&'static str]) -> Refusal {
    Refusal { lines, says: Says::Nothing }
}

pub(super) const NONE: Refusal = doubts(&[]);
pub(super) const INVALID_TOKEN: Refusal = refuses(&[r#"Bearer realm="r", error="invalid_token""#]);
pub(super) const INSUFFICIENT: Refusal =
    nothing(&[r#"Bearer error="insufficient_scope", scope="more""#]);

/// Without a word about tokens.
pub(super) const MUTE: [Refusal; 3] =
    [NONE, doubts(&[r#"Bearer realm="r""#]), doubts(&[r#"Basic realm="r""#])];

/// Lines that break the grammar, as real servers send them.
pub(super) const SLOPPY: [Refusal; 18] = [
    doubts(&[r#"OAuth "Facebook Platform" "invalid_token" "Error validating access token""#]),
    doubts(&["Bearer authorization_uri=https://login.example/x, resource_id=https://org.example/"]),
    doubts(&["Bearer error='invalid_token'"]),
    doubts(&[r#"error="invalid_token""#]),
    doubts(&[r#"Bearer realm="unterminated"#]),
    doubts(&[r#"Bearer error="x", error="invalid_token""#]),
    // Any other code before a fault is as good as none.
    doubts(&[r#"Bearer error="insufficient_scope" scope="more""#]),
    doubts(&[r#"Bearer error="invalid_request" error_description="x""#]),
    // Text inside quotes is no challenge.
    doubts(&[r#"Basic realm=My "x, Bearer error=invalid_token""#]),
    refuses(&[r#"Bearer error="invalid_token" error_description="x""#]),
    refuses(&[
        r#"Bearer error="invalid_token", error_description=""exp" claim timestamp check failed""#,
    ]),
    refuses(&[r#"Basic realm=My Realm, Bearer error="invalid_token""#]),
    refuses(&[r#"Bearer error="invalid_token", error="invalid_request""#]),
    refuses(&["Bearer realm=a,b, error=invalid_token", "Bearer error=invalid_token"]),
    // A broken line hides no good one.
    refuses(&[r#"Bearer realm="unterminated"#, r#"Bearer error="invalid_token""#]),
    refuses(&[r#"Bearer error="invalid_token""#, r#"OAuth "Facebook Platform" "x""#]),
    nothing(&["Basic realm=My Realm", "Bearer error=invalid_request"]),
    nothing(&[r#"Bearer error="invalid_request""#, r#"Bearer realm="unterminated"#]),
];
