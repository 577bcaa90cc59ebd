use std::{fmt, sync::Arc, time::SystemTime};

#[cfg(feature = "private-key-jwt")]
use super::ClientAssertion;
use super::{Credentials, basic};
use crate::{
    error::{ConfigError, Error, ErrorKind},
    secret::{Secret, SecretSource},
    token::jwt_expiry,
};

/// A client and how it authenticates at the authorization server.
///
/// The secret is read again for every exchange, so that rotating it needs no restart.
#[derive(Clone)]
pub struct ClientAuth {
    client_id: Arc<str>,
    method: Method,
}

#[derive(Clone)]
enum Method {
    Basic(SecretSource),
    BasicUnencoded(SecretSource),
    Post(SecretSource),
    None,
    Anonymous,
    GivenAssertion(SecretSource),
    #[cfg(feature = "private-key-jwt")]
    Assertion(Arc<ClientAssertion>),
}

impl ClientAuth {
    /// `client_secret_basic`: id and secret in the `Authorization` header, each form-encoded first
    /// ([RFC 6749 §2.3.1]). Every server that knows client secrets has to support it.
    ///
    /// [RFC 6749 §2.3.1]: https://www.rfc-editor.org/rfc/rfc6749#section-2.3.1
    pub fn basic(client_id: impl Into<String>, secret: impl Into<SecretSource>) -> Self {
        Self::new(client_id, Method::Basic(secret.into()))
    }

    /// `client_secret_basic` without the form encoding, as plain HTTP Basic has it ([RFC 7617]).
    ///
    /// For servers that do not decode what they get: they refuse a client whose id or secret has
    /// other characters than letters, digits and `* - . _`. It is never tried by itself.
    ///
    /// [RFC 7617]: https://www.rfc-editor.org/rfc/rfc7617
    pub fn basic_unencoded(client_id: impl Into<String>, secret: impl Into<SecretSource>) -> Self {
        Self::new(client_id, Method::BasicUnencoded(secret.into()))
    }

    /// `client_secret_post`: id and secret in the body.
    pub fn post(client_id: impl Into<String>, secret: impl Into<SecretSource>) -> Self {
        Self::new(client_id, Method::Post(secret.into()))
    }

    /// `none`: a public client, which has no secret. Its id is in the body.
    pub fn none(client_id: impl Into<String>) -> Self {
        Self::new(client_id, Method::None)
    }

    /// No client at all: neither an id nor a secret is sent. For grants whose assertion says enough,
    /// such as a workload's identity token at a cloud's token service.
    pub fn anonymous() -> Self {
        Self::new("", Method::Anonymous)
    }

    /// An assertion that somebody else signed ([RFC 7523 §2.2]), such as a workload's identity token
    /// in a file: to the server it is `private_key_jwt`. It is sent as it is, and one that has
    /// expired is not sent.
    ///
    /// ```
    /// use tower_oauth::{ClientAuth, SecretSource};
    ///
    /// let token = SecretSource::file("/var/run/secrets/tokens/workload");
    /// let auth = ClientAuth::assertion("orders", token);
    /// # let _ = auth;
    /// ```
    ///
    /// [RFC 7523 §2.2]: https://www.rfc-editor.org/rfc/rfc7523#section-2.2
    pub fn assertion(client_id: impl Into<String>, assertion: impl Into<SecretSource>) -> Self {
        Self::new(client_id, Method::GivenAssertion(assertion.into()))
    }

    #[cfg(feature = "private-key-jwt")]
    pub(super) fn by_assertion(assertion: ClientAssertion) -> Self {
        Self::new(assertion.client_id().to_owned(), Method::Assertion(Arc::new(assertion)))
    }

    fn new(client_id: impl Into<String>, method: Method) -> Self {
        Self { client_id: client_id.into().into(), method }
    }

    /// The client's id.
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// The method's registered name, such as `client_secret_basic`.
    pub fn method(&self) -> &'static str {
        match &self.method {
            Method::Basic(_) | Method::BasicUnencoded(_) => "client_secret_basic",
            Method::Post(_) => "client_secret_post",
            Method::None | Method::Anonymous => "none",
            Method::GivenAssertion(_) => "private_key_jwt",
            #[cfg(feature = "private-key-jwt")]
            Method::Assertion(assertion) => assertion.method(),
        }
    }

    /// Whether the client has no secret.
    pub(crate) fn is_public(&self) -> bool {
        matches!(self.method, Method::None | Method::Anonymous)
    }

    /// Whether reading the credentials again may give others.
    pub(crate) fn can_change(&self) -> bool {
        #[cfg(feature = "private-key-jwt")]
        if let Method::Assertion(assertion) = &self.method {
            return assertion.can_change();
        }
        self.secret().is_some_and(SecretSource::can_change)
    }

    /// Checks what can be checked without the secret.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let bad = |reason| Err(ConfigError::ClientAuth { method: self.method(), reason });
        if self.client_id.is_empty() && !matches!(self.method, Method::Anonymous) {
            return bad("the client id is empty");
        }
        #[cfg(feature = "private-key-jwt")]
        if let Method::Assertion(assertion) = &self.method {
            assertion.check()?;
        }
        // RFC 7617 §2: "a user-id containing a colon character is invalid, as the first colon in
        // a user-pass string separates user-id and password".
        if matches!(self.method, Method::BasicUnencoded(_)) && self.client_id.contains(':') {
            return bad("a client id with a colon cannot be sent unencoded");
        }
        Ok(())
    }

    /// Reads the secret as it is now and makes the credentials of one request of it. `now` is the
    /// wall-clock time, for assertions.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Credential`](crate::ErrorKind::Credential) when the secret cannot be read.
    pub(crate) async fn credentials(&self, now: SystemTime) -> Result<Credentials, Error> {
        #[cfg(feature = "private-key-jwt")]
        if let Method::Assertion(assertion) = &self.method {
            return assertion.credentials(now).await;
        }
        let secret = match self.secret() {
            Some(source) => Some(source.read().await?),
            None => None,
        };
        Ok(match (&self.method, secret) {
            (Method::Basic(_), Some(secret)) => {
                Credentials::in_header(basic::encoded(&self.client_id, secret.expose())?, secret)
            }
            (Method::BasicUnencoded(_), Some(secret)) => {
                Credentials::in_header(basic::raw(&self.client_id, secret.expose())?, secret)
            }
            (Method::GivenAssertion(source), Some(assertion)) => {
                check_live(&assertion, source, now)?;
                Credentials::assertion(&self.client_id, assertion.clone(), assertion)
            }
            // An empty parameter is not sent, so an anonymous client leaves none.
            (_, secret) => Credentials::in_body(&self.client_id, secret),
        })
    }

    fn secret(&self) -> Option<&SecretSource> {
        match &self.method {
            Method::Basic(secret)
            | Method::BasicUnencoded(secret)
            | Method::Post(secret)
            | Method::GivenAssertion(secret) => Some(secret),
            Method::None | Method::Anonymous => None,
            #[cfg(feature = "private-key-jwt")]
            Method::Assertion(_) => None,
        }
    }
}

/// An assertion that has expired would be sent in vain, and whatever writes it may be about to replace
/// it.
fn check_live(assertion: &Secret, source: &SecretSource, now: SystemTime) -> Result<(), Error> {
    match jwt_expiry(assertion.expose()) {
        Some(expiry) if expiry <= now => {
            let ago = now.duration_since(expiry).unwrap_or_default().as_secs();
            let message = format!("the client assertion from {source:?} has expired {ago} s ago");
            Err(Error::new(ErrorKind::Credential, message))
        }
        _ => Ok(()),
    }
}

impl fmt::Debug for ClientAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("ClientAuth");
        out.field("client_id", &self.client_id).field("method", &self.method());
        if let Some(secret) = self.secret() {
            out.field("secret", secret);
        }
        #[cfg(feature = "private-key-jwt")]
        if let Method::Assertion(assertion) = &self.method {
            out.field("assertion", assertion);
        }
        out.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn trq_06_each_method_puts_one_credential_in_one_place() {
        for (auth, in_header, names) in [
            (ClientAuth::basic("id", "s"), true, vec![]),
            (ClientAuth::basic_unencoded("id", "s"), true, vec![]),
            (ClientAuth::post("id", "s"), false, vec!["client_id", "client_secret"]),
            (ClientAuth::none("id"), false, vec!["client_id"]),
            (
                ClientAuth::assertion("id", "a.b.c"),
                false,
                vec!["client_id", "client_assertion_type", "client_assertion"],
            ),
        ] {
            let credentials = auth.credentials(SystemTime::UNIX_EPOCH).await.unwrap();
            assert_eq!(credentials.authorization().is_some(), in_header, "{auth:?}");
            let sent: Vec<_> = credentials.parameters().iter().map(|(name, _)| *name).collect();
            assert_eq!(sent, names, "{auth:?}");
        }
    }

    #[test]
    fn a_client_id_that_cannot_be_sent_is_refused() {
        assert!(ClientAuth::none("").check().is_err());
        assert!(ClientAuth::basic_unencoded("a:b", "s").check().is_err());
        assert!(ClientAuth::basic("a:b", "s").check().is_ok());
    }

    #[test]
    fn f57_debug_shows_the_client_and_not_its_secret() {
        let shown = format!("{:?}", ClientAuth::post("orders", "hunter2"));
        assert!(shown.contains("orders") && !shown.contains("hunter2"), "{shown}");
    }
}
