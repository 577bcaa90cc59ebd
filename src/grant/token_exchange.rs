use std::{fmt, future::Future, sync::Arc};

use serde_json::Value;

use super::{
    builder::{Checked, GrantBuilder},
    credential::{exchange_newest, read_live},
};
use crate::{
    client_auth::ClientAuth,
    discovery::EndpointSource,
    endpoint::{Form, IssuedToken},
    error::{ConfigError, Error, ErrorKind},
    secret::SecretSource,
    source::{FetchContext, TokenSource},
    token::TokenSet,
};

/// Token exchange ([RFC 8693]): one token is traded for another, such as a caller's token for one
/// to a second API, or a workload's identity token for a cloud's access token.
///
/// Subject and actor tokens are read again for every exchange, and one that has expired is not
/// sent.
///
/// ```no_run
/// use tower_oauth::{ClientAuth, SecretSource, TokenExchange};
///
/// # fn main() -> Result<(), tower_oauth::ConfigError> {
/// let source = TokenExchange::builder(
///     "https://sts.example/v1/token",
///     ClientAuth::anonymous(),
///     SecretSource::file("/var/run/secrets/tokens/workload"),
///     TokenExchange::JWT,
/// )
/// .audience("//iam.example/pools/orders")
/// .scope("orders.read")
/// .build()?;
/// # let _ = source;
/// # Ok(())
/// # }
/// ```
///
/// [RFC 8693]: https://www.rfc-editor.org/rfc/rfc8693
#[derive(Clone)]
pub struct TokenExchange(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) checked: Checked,
    pub(super) options: TokenExchangeOptions,
}

/// What only [`TokenExchange`] has to configure.
#[derive(Debug)]
pub struct TokenExchangeOptions {
    pub(super) subject: (SecretSource, String),
    pub(super) actor: Option<(SecretSource, String)>,
    requested: Option<String>,
    assume_access_token: bool,
}

impl TokenExchange {
    /// The type of an OAuth 2.0 access token ([RFC 8693 §3]).
    ///
    /// [RFC 8693 §3]: https://www.rfc-editor.org/rfc/rfc8693#section-3
    pub const ACCESS_TOKEN: &'static str = "urn:ietf:params:oauth:token-type:access_token";
    /// The type of an OpenID Connect ID token.
    pub const ID_TOKEN: &'static str = "urn:ietf:params:oauth:token-type:id_token";
    /// The type of a JWT, whatever it is for.
    pub const JWT: &'static str = "urn:ietf:params:oauth:token-type:jwt";
    /// The type of an identity assertion grant, which another authorization server trades for a token
    /// ([`issue`](Self::issue)).
    pub const ID_JAG: &'static str = "urn:ietf:params:oauth:token-type:id-jag";
    /// The type of a SAML 2.0 assertion, base64url-encoded.
    pub const SAML2: &'static str = "urn:ietf:params:oauth:token-type:saml2";

    /// Starts with the token endpoint's URL, or a [`Discovery`](crate::Discovery) of it, the client, and the subject token and its type.
    pub fn builder(
        token_endpoint: impl Into<EndpointSource>,
        auth: impl Into<ClientAuth>,
        subject_token: impl Into<SecretSource>,
        subject_token_type: impl Into<String>,
    ) -> GrantBuilder<TokenExchangeOptions> {
        let options = TokenExchangeOptions {
            subject: (subject_token.into(), subject_token_type.into()),
            actor: None,
            requested: None,
            assume_access_token: false,
        };
        GrantBuilder::new(token_endpoint.into(), auth.into(), options)
    }
}

impl GrantBuilder<TokenExchangeOptions> {
    /// Sets the token of the party that acts for the subject, and its type. Default: none.
    #[must_use]
    pub fn actor_token(
        mut self,
        token: impl Into<SecretSource>,
        token_type: impl Into<String>,
    ) -> Self {
        self.options_mut().actor = Some((token.into(), token_type.into()));
        self
    }

    /// Sets the type of token that is asked for. Default: the server decides.
    ///
    /// An access token, and a [`JWT`](TokenExchange::JWT) whose `token_type` is `Bearer`, can be put on
    /// requests ([RFC 8693 §2.2.1]); any other type is only for [`TokenExchange::issue`].
    ///
    /// [RFC 8693 §2.2.1]: https://www.rfc-editor.org/rfc/rfc8693#section-2.2.1
    #[must_use]
    pub fn requested_token_type(mut self, token_type: impl Into<String>) -> Self {
        self.options_mut().requested = Some(token_type.into());
        self
    }

    /// Takes a token without `issued_token_type` for an access token. Default: it is refused.
    #[must_use]
    pub fn assume_access_token(mut self) -> Self {
        self.options_mut().assume_access_token = true;
        self
    }

    /// Checks the configuration.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for anything that cannot work.
    pub fn build(self) -> Result<TokenExchange, ConfigError> {
        let (checked, options) = self.check(TokenExchange::GRANT_TYPE)?;
        TokenExchange::new(checked, options)
    }
}

impl TokenExchange {
    pub(super) const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

    /// An exchange of this subject token for an access token.
    pub(super) fn for_access_token(
        checked: Checked,
        subject: (SecretSource, String),
    ) -> Result<Self, ConfigError> {
        let requested = Some(Self::ACCESS_TOKEN.to_owned());
        let actor = None;
        Self::new(
            checked,
            TokenExchangeOptions { subject, actor, requested, assume_access_token: false },
        )
    }

    fn new(mut checked: Checked, options: TokenExchangeOptions) -> Result<Self, ConfigError> {
        let types = [
            ("subject_token_type", Some(&options.subject.1)),
            ("actor_token_type", options.actor.as_ref().map(|(_, token_type)| token_type)),
            ("requested_token_type", options.requested.as_ref()),
        ];
        for (name, value) in types {
            let Some(value) = value else { continue };
            // RFC 8693 §3: token type identifiers are URIs.
            if !value.contains(':') || !value.bytes().all(|b| b.is_ascii_graphic()) {
                let reason = "a token type is a URI, such as TokenExchange::ACCESS_TOKEN";
                return Err(ConfigError::Parameter { name: name.to_owned(), reason });
            }
            checked.form.set(name, &**value);
        }
        Ok(Self(Arc::new(Inner { checked, options })))
    }
}

impl TokenExchange {
    /// Exchanges the subject token for one of the type that was
    /// [requested](GrantBuilder::requested_token_type), whatever that is, and returns it: an identity
    /// assertion grant ([`ID_JAG`](Self::ID_JAG)), a SAML assertion, any token whose `token_type` is
    /// `N_A`. It is the caller's to use: no layer puts it on a request, and nothing keeps it.
    ///
    /// ```no_run
    /// use tower_oauth::{ClientAuth, SecretSource, TokenExchange};
    ///
    /// # async fn example() -> Result<(), tower_oauth::BoxError> {
    /// let auth = ClientAuth::basic("orders", SecretSource::env("ORDERS_SECRET"));
    /// let id_token = SecretSource::file("/run/secrets/id-token");
    /// let exchange = TokenExchange::builder(
    ///     "https://idp.example/token",
    ///     auth,
    ///     id_token,
    ///     TokenExchange::ID_TOKEN,
    /// )
    /// .requested_token_type(TokenExchange::ID_JAG)
    /// .audience("https://partner.example")
    /// .build()?;
    /// let grant = exchange.issue().await?;
    /// assert_eq!(grant.issued_token_type(), TokenExchange::ID_JAG);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Configuration`] when no type was requested, [`ErrorKind::UnusableToken`] when the
    /// server issued another type, and the kinds of a failed token request.
    ///
    /// # Cancellation
    ///
    /// A dropped call may have been answered: the server may have issued a token that nobody has.
    pub async fn issue(&self) -> Result<IssuedToken, Error> {
        let Some(requested) = &self.0.options.requested else {
            let message = "no type of token was requested: set requested_token_type()";
            return Err(Error::new(ErrorKind::Configuration, message));
        };
        let Checked { endpoint, scopes, .. } = &self.0.checked;
        let cx = &endpoint.caller.context();
        let issue = |form: Form| async move { endpoint.issue(cx, &form, scopes).await };
        let issued = self.exchange(cx, issue).await?;
        if issued.issued_token_type() == requested {
            return Ok(issued);
        }
        let message = match shown_type(issued.issued_token_type()) {
            Some(name) => format!("the token endpoint issued a {name}, not a {requested}"),
            None => format!("the token endpoint issued another type of token than {requested}"),
        };
        Err(Error::new(ErrorKind::UnusableToken, message))
    }

    /// Sends the subject's token, and the actor's, as they are now.
    async fn exchange<T, Fut>(
        &self,
        cx: &FetchContext,
        send: impl Fn(Form) -> Fut,
    ) -> Result<T, Error>
    where
        Fut: Future<Output = Result<T, Error>>,
    {
        let Inner { checked, options } = &*self.0;
        let mut form = checked.form.clone();
        if let Some((actor, _)) = &options.actor {
            form.set_secret("actor_token", read_live(actor, "the actor token", cx).await?);
        }
        exchange_newest(&options.subject.0, "the subject token", cx, |subject| {
            let mut form = form.clone();
            form.set_secret("subject_token", subject);
            send(form)
        })
        .await
    }
}

impl TokenSource for TokenExchange {
    async fn fetch(&self, cx: FetchContext) -> Result<TokenSet, Error> {
        let Inner { checked: Checked { endpoint, scopes, .. }, options } = &*self.0;
        let cx = &cx;
        let request = |form: Form| async move {
            endpoint.request(cx, &form, scopes).await.map_err(Error::from)
        };
        let token = self.exchange(cx, request).await?;
        options.check_issued(&token)?;
        // The subject token takes its place: it is at hand, and as old as whoever gave it wants.
        Ok(token.without_refresh_token())
    }

    async fn revoke(&self, cx: FetchContext) -> Result<(), Error> {
        self.0.checked.revoke(&cx).await
    }
}

impl TokenExchangeOptions {
    /// RFC 8693 §2.2.1: `issued_token_type` is "REQUIRED". A token that is not an access token is
    /// for somebody else than an API, and never sent to one. A JWT may be one: its `token_type` says
    /// so, which was checked before.
    fn check_issued(&self, token: &TokenSet) -> Result<(), Error> {
        let usable = [TokenExchange::ACCESS_TOKEN, TokenExchange::JWT];
        let problem = match token.member("issued_token_type") {
            Some(Value::String(issued)) if usable.contains(&&**issued) => return Ok(()),
            Some(Value::String(issued)) => match shown_type(issued) {
                Some(name) => format!("the token endpoint issued a {name}, not an access token"),
                None => "the token endpoint issued a token that is not an access token".to_owned(),
            },
            None | Some(Value::Null) if self.assume_access_token => return Ok(()),
            _ => "the token response has no issued_token_type; assume_access_token() takes such \
                  tokens for access tokens"
                .to_owned(),
        };
        Err(Error::new(ErrorKind::UnusableToken, problem))
    }
}

/// A type of token as an error may show it: only a name that is known. A server may put anything
/// there, what it was sent among it.
fn shown_type(issued: &str) -> Option<&'static str> {
    let types = [TokenExchange::ACCESS_TOKEN, TokenExchange::JWT].into_iter().chain(OTHER_TYPES);
    types.into_iter().find(|name| *name == issued)
}

impl fmt::Debug for TokenExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Checked { endpoint, scopes, .. } = &self.0.checked;
        f.debug_struct("TokenExchange")
            .field("token_endpoint", &endpoint.caller.location)
            .field("auth", &endpoint.caller.auth)
            .field("options", &self.0.options)
            .field("scopes", scopes)
            .finish_non_exhaustive()
    }
}

/// Types of tokens that are for somebody else than an API.
const OTHER_TYPES: [&str; 5] = [
    TokenExchange::ID_TOKEN,
    TokenExchange::SAML2,
    TokenExchange::ID_JAG,
    "urn:ietf:params:oauth:token-type:refresh_token",
    "urn:ietf:params:oauth:token-type:saml1",
];
