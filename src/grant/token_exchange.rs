use std::{fmt, sync::Arc};

use serde_json::Value;

use super::{
    builder::{Checked, GrantBuilder},
    credential::{exchange_newest, read_live},
};
use crate::{
    client_auth::ClientAuth,
    discovery::EndpointSource,
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

impl TokenSource for TokenExchange {
    async fn fetch(&self, cx: FetchContext) -> Result<TokenSet, Error> {
        let Inner { checked: Checked { endpoint, scopes, form, .. }, options } = &*self.0;
        let mut form = form.clone();
        if let Some((actor, _)) = &options.actor {
            form.set_secret("actor_token", read_live(actor, "the actor token", &cx).await?);
        }
        let subject = &options.subject.0;
        let token = exchange_newest(subject, "the subject token", &cx, |subject| {
            let mut form = form.clone();
            form.set_secret("subject_token", subject);
            let cx = &cx;
            async move { endpoint.request(cx, &form, scopes).await }
        })
        .await?;
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
    /// for somebody else than an API, and never sent to one.
    fn check_issued(&self, token: &TokenSet) -> Result<(), Error> {
        let problem = match token.member("issued_token_type") {
            Some(Value::String(issued)) if issued == TokenExchange::ACCESS_TOKEN => return Ok(()),
            // Only a name that is known is shown: a server may put anything here, what it was sent
            // among it.
            Some(Value::String(issued)) => match OTHER_TYPES.iter().find(|name| *name == issued) {
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
const OTHER_TYPES: [&str; 6] = [
    TokenExchange::ID_TOKEN,
    TokenExchange::JWT,
    TokenExchange::SAML2,
    "urn:ietf:params:oauth:token-type:refresh_token",
    "urn:ietf:params:oauth:token-type:saml1",
    "urn:ietf:params:oauth:token-type:id-jag",
];
