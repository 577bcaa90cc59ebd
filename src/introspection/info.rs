use std::{
    fmt,
    time::{Duration, SystemTime},
};

use serde_json::Value;

use crate::{
    endpoint::{MOST_SCOPES, NotAnObject, Object},
    error::{Error, ErrorKind},
    secret::Members,
    token::Scopes,
};

/// What an authorization server says about a token ([RFC 7662 §2.2]).
///
/// Of a token that is not active nothing else is known, whatever the server said.
///
/// [RFC 7662 §2.2]: https://www.rfc-editor.org/rfc/rfc7662#section-2.2
#[derive(Clone)]
pub struct TokenInfo {
    /// `None` if the token is not active.
    members: Option<Members>,
}

impl TokenInfo {
    /// Reads an answer.
    pub(super) fn read(object: Result<Object, NotAnObject>) -> Result<Self, Error> {
        let bad = |problem: &str| {
            Error::new(
                ErrorKind::MalformedResponse,
                format!("the introspection endpoint's answer cannot be read: {problem}"),
            )
        };
        let object = object.map_err(|problem| bad(&problem.to_string()))?;
        // Readers disagree on which of two counts, and every member may decide something.
        if object.repeats {
            return Err(bad("it has a member twice"));
        }
        let Object { members, .. } = object;
        // RFC 7662 §2.2: "active REQUIRED. Boolean indicator". A text that says "false" must not
        // pass for true, nor the other way round.
        match members.get("active") {
            Some(Value::Bool(true)) => Ok(Self { members: Some(members) }),
            Some(Value::Bool(false)) => Ok(Self { members: None }),
            Some(_) => Err(bad("active is not true or false")),
            None => Err(bad("it has no member active")),
        }
    }

    /// Whether the token is active: issued by this server, not expired, not revoked.
    pub fn is_active(&self) -> bool {
        self.members.is_some()
    }

    /// The token's scopes, if the server says. What is not a scope token is left out.
    pub fn scopes(&self) -> Option<Scopes> {
        let mut scopes = Scopes::default();
        for scope in self.text("scope")?.split(' ').take(MOST_SCOPES) {
            // Refused scopes are none that could have been asked for.
            let _ = scopes.insert(scope);
        }
        Some(scopes)
    }

    /// The client that the token was issued to.
    pub fn client_id(&self) -> Option<&str> {
        self.text("client_id")
    }

    /// A readable name of who gave the token.
    pub fn username(&self) -> Option<&str> {
        self.text("username")
    }

    /// Whom the token is about.
    pub fn subject(&self) -> Option<&str> {
        self.text("sub")
    }

    /// Who issued it.
    pub fn issuer(&self) -> Option<&str> {
        self.text("iss")
    }

    /// Whom the token is for; empty if the server does not say.
    pub fn audience(&self) -> Vec<&str> {
        match self.member("aud") {
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    }

    /// The token's type, such as `Bearer`.
    pub fn token_type(&self) -> Option<&str> {
        self.text("token_type")
    }

    /// When the token expires.
    pub fn expires_at(&self) -> Option<SystemTime> {
        self.time("exp")
    }

    /// When the token was issued.
    pub fn issued_at(&self) -> Option<SystemTime> {
        self.time("iat")
    }

    /// Before when the token is not to be used.
    pub fn not_before(&self) -> Option<SystemTime> {
        self.time("nbf")
    }

    /// Any member of the answer.
    pub fn member(&self, name: &str) -> Option<&Value> {
        self.members.as_ref()?.get(name)
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.member(name)?.as_str()
    }

    /// RFC 7519 §2: a number of seconds since 1970, with a fraction or without.
    fn time(&self, name: &str) -> Option<SystemTime> {
        let seconds = self.member(name)?.as_f64()?;
        SystemTime::UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(seconds).ok()?)
    }
}

impl fmt::Debug for TokenInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenInfo").field("active", &self.is_active()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::endpoint::object_of;

    fn read(body: &str) -> Result<TokenInfo, Error> {
        TokenInfo::read(object_of(&http::Response::new(body.to_owned().into())))
    }

    #[test]
    fn f88_rev_02_active_is_a_boolean_that_stands_there_once() {
        for body in [
            r#"{"active":"true"}"#,
            r#"{"active":"false"}"#,
            r#"{"active":1}"#,
            r#"{"active":null}"#,
            r#"{"Active":true}"#,
            r#"{"active":false,"active":true}"#,
            r#"{"active":true,"active":true}"#,
            // f88: the first member that stood there twice used to hide the second one.
            r#"{"scope":"a","scope":"a","active":true,"active":false}"#,
            r#"{"active":true,"sub":"a","sub":"b"}"#,
            r#"{"active":true,"exp":1,"exp":2}"#,
            r#"{"active":true,"cnf":{"jkt":"a","jkt":"b"}}"#,
            "{}",
            "true",
            "",
            "[{\"active\":true}]",
        ] {
            assert_eq!(read(body).unwrap_err().kind(), ErrorKind::MalformedResponse, "{body}");
        }
    }

    #[test]
    fn rev_02_of_an_inactive_token_nothing_else_is_known() {
        let info = read(r#"{"active":false,"scope":"read","client_id":"c","exp":1}"#).unwrap();
        assert!(!info.is_active());
        assert_eq!((info.scopes(), info.client_id(), info.expires_at()), (None, None, None));
        assert!(info.member("scope").is_none() && info.audience().is_empty());
    }

    #[test]
    fn the_members_of_an_active_token_are_read() {
        let body = r#"{"active":true,"scope":"write read","client_id":"c","username":"u","sub":"s",
            "iss":"https://idp.example","aud":["a",1,"b"],"token_type":"Bearer","exp":1700000000.5,
            "iat":1,"nbf":-1,"tenant":"t"}"#;
        let info = read(body).unwrap();
        assert!(info.is_active());
        assert_eq!(info.scopes().unwrap().to_string(), "read write");
        assert_eq!((info.client_id(), info.username()), (Some("c"), Some("u")));
        assert_eq!((info.subject(), info.issuer()), (Some("s"), Some("https://idp.example")));
        assert_eq!((info.audience(), info.token_type()), (vec!["a", "b"], Some("Bearer")));
        let at = |seconds| Some(SystemTime::UNIX_EPOCH + Duration::from_secs_f64(seconds));
        assert_eq!((info.expires_at(), info.issued_at()), (at(1_700_000_000.5), at(1.0)));
        assert_eq!(info.not_before(), None);
        assert_eq!(info.member("tenant"), Some(&"t".into()));
        let one = read(r#"{"active":true,"aud":"a","exp":1e300}"#).unwrap();
        assert_eq!((one.audience(), one.expires_at()), (vec!["a"], None));
    }

    proptest! {
        #[test]
        fn rev_02_no_bytes_make_the_reader_panic(body: Vec<u8>) {
            let _ = TokenInfo::read(object_of(&http::Response::new(body.into())));
        }
    }
}
