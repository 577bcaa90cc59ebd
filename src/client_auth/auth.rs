use std::{fmt, sync::Arc, time::SystemTime};

#[cfg(feature = "private-key-jwt")]
use super::ClientAssertion;
use super::{
    Credentials, basic,
    offer::{Offer, choose},
};
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
    pub(super) method: Method,
}

#[derive(Clone)]
pub(super) enum Method {
    Basic(SecretSource),
    BasicUnencoded(SecretSource),
    Post(SecretSource),
    None,
    Anonymous,
    GivenAssertion(SecretSource),
    #[cfg(feature = "mtls")]
    Tls,
    #[cfg(feature = "mtls")]
    SelfSignedTls,
    #[cfg(feature = "private-key-jwt")]
    Assertion(Arc<ClientAssertion>),
    /// In the header or in the form, as the server wants it.
    Secret(SecretSource),
    AnyOf(Arc<[ClientAuth]>),
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

    /// `tls_client_auth`: the certificate of the connection says who the client is, and an authority
    /// that the server trusts has signed it ([RFC 8705 §2.1]). Feature `mtls`.
    ///
    /// Only the id is in the body. The certificate is presented by the grant's transport:
    /// [`Transport::mtls`](crate::Transport::mtls), or a client of your own.
    ///
    /// [RFC 8705 §2.1]: https://www.rfc-editor.org/rfc/rfc8705#section-2.1
    #[cfg(feature = "mtls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "mtls")))]
    pub fn tls(client_id: impl Into<String>) -> Self {
        Self::new(client_id, Method::Tls)
    }

    /// `self_signed_tls_client_auth`: the same with a certificate that the client has signed itself,
    /// and that is registered at the server ([RFC 8705 §2.2]). Feature `mtls`.
    ///
    /// [RFC 8705 §2.2]: https://www.rfc-editor.org/rfc/rfc8705#section-2.2
    #[cfg(feature = "mtls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "mtls")))]
    pub fn self_signed_tls(client_id: impl Into<String>) -> Self {
        Self::new(client_id, Method::SelfSignedTls)
    }

    /// A secret, sent as the server's metadata says: `client_secret_basic` or `client_secret_post`,
    /// whichever it lists first. Without metadata, and if it does not say, by
    /// `client_secret_basic`.
    pub fn secret(client_id: impl Into<String>, secret: impl Into<SecretSource>) -> Self {
        Self::new(client_id, Method::Secret(secret.into()))
    }

    /// Whichever of these the server's metadata lists: a private key or certificate before a
    /// secret. Without metadata, and if it does not say, that is `client_secret_basic`. The choice
    /// is made before a request; nothing is tried, and none of the others is sent.
    ///
    /// ```
    /// use tower_oauth::{ClientAuth, SecretSource};
    ///
    /// let secret = SecretSource::env("ORDERS_SECRET");
    /// let auth = ClientAuth::any_of([
    ///     ClientAuth::secret("orders", secret),
    ///     ClientAuth::none("orders"),
    /// ]);
    /// assert_eq!(auth.client_id(), "orders");
    /// ```
    pub fn any_of(held: impl IntoIterator<Item = Self>) -> Self {
        let mut flat = Vec::new();
        for auth in held {
            match auth.method {
                Method::AnyOf(inner) => flat.extend(inner.iter().cloned()),
                _ => flat.push(auth),
            }
        }
        let client_id = flat.first().map(|auth| auth.client_id().to_owned());
        Self::new(client_id.unwrap_or_default(), Method::AnyOf(flat.into()))
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

    /// The method's registered name, such as `client_secret_basic`. Where the server decides, it is
    /// the one that is used if it does not say, or else the first.
    pub fn method(&self) -> &'static str {
        match &self.method {
            Method::Basic(_) | Method::BasicUnencoded(_) | Method::Secret(_) => {
                "client_secret_basic"
            }
            Method::AnyOf(held) => {
                let mut names = held.iter().map(Self::method);
                let usual = names.clone().find(|name| *name == "client_secret_basic");
                usual.or_else(|| names.next()).unwrap_or("none")
            }
            Method::Post(_) => "client_secret_post",
            Method::None | Method::Anonymous => "none",
            Method::GivenAssertion(_) => "private_key_jwt",
            #[cfg(feature = "mtls")]
            Method::Tls => "tls_client_auth",
            #[cfg(feature = "mtls")]
            Method::SelfSignedTls => "self_signed_tls_client_auth",
            #[cfg(feature = "private-key-jwt")]
            Method::Assertion(assertion) => assertion.method(),
        }
    }

    /// Whether the client has no secret, or may come without it.
    pub(crate) fn is_public(&self) -> bool {
        match &self.method {
            Method::AnyOf(held) => held.iter().any(Self::is_public),
            method => matches!(method, Method::None | Method::Anonymous),
        }
    }

    /// Whether the client's certificate is its authentication
    /// ([RFC 8705](https://www.rfc-editor.org/rfc/rfc8705)).
    pub(crate) fn is_mtls(&self) -> bool {
        matches!(self.method(), "tls_client_auth" | "self_signed_tls_client_auth")
    }

    /// Whether the client may authenticate with its certificate.
    pub(crate) fn needs_certificate(&self) -> bool {
        match &self.method {
            Method::AnyOf(held) => held.iter().any(Self::needs_certificate),
            _ => self.is_mtls(),
        }
    }

    /// Whether the credentials say what time it is.
    pub(crate) fn is_dated(&self) -> bool {
        match &self.method {
            #[cfg(feature = "private-key-jwt")]
            Method::Assertion(_) => true,
            _ => false,
        }
    }

    /// Whether reading the credentials again may give others.
    pub(crate) fn can_change(&self) -> bool {
        #[cfg(feature = "private-key-jwt")]
        if let Method::Assertion(assertion) = &self.method {
            return assertion.can_change();
        }
        if let Method::AnyOf(held) = &self.method {
            return held.iter().any(Self::can_change);
        }
        self.secret_source().is_some_and(SecretSource::can_change)
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
        if let Method::AnyOf(held) = &self.method {
            held.iter().try_for_each(Self::check)?;
            if held.iter().any(|auth| auth.client_id != self.client_id) {
                return bad("the client ids are not the same");
            }
        }
        // RFC 7617 §2: "a user-id containing a colon character is invalid, as the first colon in
        // a user-pass string separates user-id and password".
        if matches!(self.method, Method::BasicUnencoded(_)) && self.client_id.contains(':') {
            return bad("a client id with a colon cannot be sent unencoded");
        }
        Ok(())
    }

    /// Checks what depends on the server: its issuer, if it is to be discovered. Called once for
    /// each endpoint that this is configured for.
    pub(crate) fn check_for(&self, issuer: Option<&str>) -> Result<(), ConfigError> {
        match &self.method {
            #[cfg(feature = "private-key-jwt")]
            Method::Assertion(assertion) => assertion.check_for(issuer),
            Method::AnyOf(held) => {
                if issuer.is_none() && self.for_server(&Offer::UNKNOWN).is_err() {
                    let reason = "without discovery nothing is known of what the server supports, \
                                  so it is client_secret_basic, or the one method that you choose";
                    return Err(ConfigError::ClientAuth { method: self.method(), reason });
                }
                held.iter().try_for_each(|auth| auth.check_for(issuer))
            }
            _ => Ok(()),
        }
    }

    /// Whether it takes a word of the server to choose a method or make an assertion.
    pub(crate) fn needs_offer(&self) -> bool {
        match &self.method {
            Method::Secret(_) | Method::AnyOf(_) => true,
            #[cfg(feature = "private-key-jwt")]
            Method::Assertion(_) => true,
            _ => false,
        }
    }

    /// The one method that is used at a server which says this about itself. One that was chosen
    /// explicitly stays: metadata is not always right.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Configuration`](crate::ErrorKind::Configuration) when the server supports none.
    pub(crate) fn for_server(&self, offer: &Offer<'_>) -> Result<Self, Error> {
        let chosen = match &self.method {
            Method::Secret(_) => choose(std::slice::from_ref(self), offer)?,
            Method::AnyOf(held) => choose(held, offer)?,
            _ => self.clone(),
        };
        #[cfg(feature = "private-key-jwt")]
        if let Method::Assertion(assertion) = &chosen.method {
            return assertion.for_server(offer).map(Self::by_assertion);
        }
        Ok(chosen)
    }

    /// This by a method that the server supports, if it can be used so.
    pub(super) fn by_method(&self, name: &str) -> Option<Self> {
        let with = |method| Some(Self { client_id: self.client_id.clone(), method });
        match (&self.method, name) {
            (Method::Secret(secret), "client_secret_basic") => with(Method::Basic(secret.clone())),
            (Method::Secret(secret), "client_secret_post") => with(Method::Post(secret.clone())),
            (Method::Secret(_), _) => None,
            _ => Some(self.clone()).filter(|auth| auth.method() == name),
        }
    }

    /// Reads the secret as it is now and makes the credentials of one request of it. `now` is the
    /// wall-clock time, for assertions.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Credential`](crate::ErrorKind::Credential) when the secret cannot be read.
    pub(crate) async fn credentials(&self, now: SystemTime) -> Result<Credentials, Error> {
        if matches!(self.method, Method::AnyOf(_)) {
            let message = "the method of client authentication was not chosen";
            return Err(Error::new(ErrorKind::Configuration, message));
        }
        #[cfg(feature = "private-key-jwt")]
        if let Method::Assertion(assertion) = &self.method {
            return assertion.credentials(now).await;
        }
        let secret = match self.secret_source() {
            Some(source) => Some(source.read().await?),
            None => None,
        };
        Ok(match (&self.method, secret) {
            (Method::Basic(_) | Method::Secret(_), Some(secret)) => {
                Credentials::in_header(basic::encoded(&self.client_id, secret.expose())?, secret)
            }
            (Method::BasicUnencoded(_), Some(secret)) => {
                Credentials::in_header(basic::raw(&self.client_id, secret.expose())?, secret)
            }
            (Method::GivenAssertion(source), Some(assertion)) => {
                check_live(&assertion, source, now)?;
                Credentials::assertion(&self.client_id, assertion.clone(), assertion)
            }
            // An empty parameter is not sent, so an anonymous client leaves none. RFC 8705 §2: "the
            // client MUST include the client_id parameter", also where the certificate says enough.
            (_, secret) => Credentials::in_body(&self.client_id, secret),
        })
    }

    fn secret_source(&self) -> Option<&SecretSource> {
        match &self.method {
            Method::Basic(secret)
            | Method::BasicUnencoded(secret)
            | Method::Post(secret)
            | Method::Secret(secret)
            | Method::GivenAssertion(secret) => Some(secret),
            Method::None | Method::Anonymous | Method::AnyOf(_) => None,
            #[cfg(feature = "mtls")]
            Method::Tls | Method::SelfSignedTls => None,
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
        if let Method::AnyOf(held) = &self.method {
            return out.field("any_of", held).finish();
        }
        out.field("client_id", &self.client_id).field("method", &self.method());
        if let Some(secret) = self.secret_source() {
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

    #[cfg(feature = "mtls")]
    #[tokio::test]
    async fn mtl_01_only_the_id_is_sent_beside_a_certificate() {
        for (auth, method) in [
            (ClientAuth::tls("id"), "tls_client_auth"),
            (ClientAuth::self_signed_tls("id"), "self_signed_tls_client_auth"),
        ] {
            assert_eq!(auth.method(), method);
            assert!(auth.is_mtls() && !auth.is_public(), "{auth:?}");
            let credentials = auth.credentials(SystemTime::UNIX_EPOCH).await.unwrap();
            assert!(credentials.authorization().is_none());
            let [(name, value)] = credentials.parameters() else { panic!("{auth:?}") };
            assert_eq!((*name, value.expose()), ("client_id", "id"));
            assert_eq!(credentials.secrets().count(), 0);
        }
        assert!(!ClientAuth::basic("id", "s").is_mtls());
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
