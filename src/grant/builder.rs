use std::{fmt, time::Duration};

use serde_json::Value;

use super::parameter::{DETAILS, check_details, check_extra, check_identifier, check_resource};
#[cfg(feature = "dpop")]
use crate::dpop::DpopKey;
use crate::{
    client_auth::ClientAuth,
    discovery::{EndpointKind, EndpointSource},
    endpoint::{
        Accepted, Form, Pointer, Revoker, Rules, Settings, Space, TokenEndpoint, nowhere_to_revoke,
    },
    error::{ConfigError, Error, ErrorKind},
    http::Transport,
    source::FetchContext,
    token::Scopes,
};

/// Configures a grant: what all grants have in common is set here, what one has alone in `G`.
///
/// Nothing is checked before `build()`.
pub struct GrantBuilder<G> {
    common: Common,
    options: G,
}

struct Common {
    settings: Settings,
    revocation: Option<String>,
    scopes: Vec<String>,
    resources: Vec<String>,
    /// Resources that are no URIs.
    identifiers: Vec<String>,
    audiences: Vec<String>,
    details: Option<Value>,
    parameters: Vec<(String, String)>,
    rules: Rules,
    token_at: Option<String>,
    space: Space,
}

/// A configuration that was checked.
pub(super) struct Checked {
    pub(super) endpoint: TokenEndpoint,
    pub(super) scopes: Scopes,
    /// The parameters that are the same in every request.
    pub(super) form: Form,
    /// Revokes what the grant gave, if it is known where.
    pub(super) revoker: Option<Revoker>,
}

impl<G> GrantBuilder<G> {
    pub(super) fn new(token_endpoint: EndpointSource, auth: ClientAuth, options: G) -> Self {
        let rules = Rules {
            strict: false,
            assume_bearer: false,
            max_lifetime: MAX_LIFETIME,
            token_at: None,
            bearer_types: Vec::new(),
            accepted: Accepted::Bearer,
        };
        let common = Common {
            settings: Settings::new(token_endpoint, auth),
            revocation: None,
            scopes: Vec::new(),
            resources: Vec::new(),
            identifiers: Vec::new(),
            audiences: Vec::new(),
            details: None,
            parameters: Vec::new(),
            rules,
            token_at: None,
            space: Space::default(),
        };
        Self { common, options }
    }

    /// Asks for a scope; one token, not several with spaces between them. Default: none, and the
    /// authorization server decides.
    #[must_use]
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.common.scopes.push(scope.into());
        self
    }

    /// Asks for several scopes.
    #[must_use]
    pub fn scopes<I>(mut self, scopes: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.common.scopes.extend(scopes.into_iter().map(Into::into));
        self
    }

    /// Names an API that the token is for, by an absolute URI without fragment ([RFC 8707]). It may
    /// be repeated.
    ///
    /// [RFC 8707]: https://www.rfc-editor.org/rfc/rfc8707#section-2
    #[must_use]
    pub fn resource(mut self, uri: impl Into<String>) -> Self {
        self.common.resources.push(uri.into());
        self
    }

    /// As [`resource`](Self::resource), for an identifier that is no URI: Entra's v1 endpoint and AD FS
    /// know APIs by a GUID. Any other server refuses it with `invalid_target`.
    #[must_use]
    pub fn resource_identifier(mut self, identifier: impl Into<String>) -> Self {
        self.common.identifiers.push(identifier.into());
        self
    }

    /// Names who the token is for, in the words of the authorization server, as Auth0 has it. It
    /// may be repeated.
    #[must_use]
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.common.audiences.push(audience.into());
        self
    }

    /// Asks for access in detail ([RFC 9396 §6]): a JSON array of objects, each with a `type`. What was
    /// granted may differ; [`TokenSet::member`](crate::TokenSet::member) tells.
    ///
    /// [RFC 9396 §6]: https://www.rfc-editor.org/rfc/rfc9396#section-6
    #[must_use]
    pub fn authorization_details(mut self, details: Value) -> Self {
        self.common.details = Some(details);
        self
    }

    /// Adds a parameter that this authorization server wants besides.
    ///
    /// It is not for secrets: an error may repeat it, if the server does.
    #[must_use]
    pub fn param(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.common.parameters.push((name.into(), value.into()));
        self
    }

    /// Sets the URL of the revocation endpoint ([RFC 7009]), for
    /// [`shutdown().revoke()`](crate::TokenHandle::shutdown). Default: the one that is discovered;
    /// without [`Discovery`](crate::Discovery) none, and nothing is revoked.
    ///
    /// [RFC 7009]: https://www.rfc-editor.org/rfc/rfc7009
    #[must_use]
    pub fn revocation_endpoint(mut self, url: impl Into<String>) -> Self {
        self.common.revocation = Some(url.into());
        self
    }

    /// Sets how long one exchange with the token endpoint may take, connecting and reading
    /// included. Default: 15 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.common.settings.timeout = timeout;
        self
    }

    /// Sets how large an answer may be, after decompression. Default: 1 MiB. One with more than
    /// 10,000 JSON values, or whose values take more than twice the limit in memory, is refused
    /// whatever its size.
    #[must_use]
    pub fn body_limit(mut self, bytes: usize) -> Self {
        self.common.settings.body_limit = bytes;
        self
    }

    /// Refuses answers that break the standards even where their meaning is clear. Default: what
    /// real servers send is understood.
    #[must_use]
    pub fn strict(mut self) -> Self {
        self.common.rules.strict = true;
        self
    }

    /// Takes a token without `token_type` for a bearer token. Default: it is refused.
    #[must_use]
    pub fn assume_bearer(mut self) -> Self {
        self.common.rules.assume_bearer = true;
        self
    }

    /// Takes tokens of this type for bearer tokens too, for servers that have names of their own,
    /// such as Slack's `bot` and `user`. It may be repeated. Default: only `Bearer`, in any case.
    #[must_use]
    pub fn bearer_type(mut self, token_type: impl Into<String>) -> Self {
        self.common.rules.bearer_types.push(token_type.into());
        self
    }

    /// Says what an error code of this server means, where it is none that the crate knows: a refresh
    /// token that is dead is [`InvalidGrant`](ErrorKind::InvalidGrant), a client that is refused
    /// [`InvalidClient`](ErrorKind::InvalidClient). The case of the code does not count. It may be
    /// repeated. Default: the codes of the standards, and those that GitHub, Slack, Google, Entra and
    /// others send for the same; any other is [`Denied`](ErrorKind::Denied).
    #[must_use]
    pub fn error_code(mut self, code: impl Into<String>, kind: ErrorKind) -> Self {
        self.common.settings.codes.insert(code.into(), kind);
        self
    }

    /// Tells where in the answer the object stands that holds the token and what belongs to it, by
    /// a JSON pointer ([RFC 6901]). Default: the answer itself; no other is searched for.
    ///
    /// Nothing outside of that object counts, save an error:
    /// [`TokenSet::member`](crate::TokenSet::member) gives its members only.
    ///
    /// ```
    /// use tower_oauth::{ClientAuth, RefreshToken, SecretSource};
    ///
    /// // Slack: {"ok": true, "authed_user": {"access_token": "xoxp-…", "token_type": "user"}}
    /// let user = RefreshToken::builder(
    ///     "https://slack.com/api/oauth.v2.access",
    ///     ClientAuth::post("orders", SecretSource::env("SLACK_SECRET")),
    ///     SecretSource::file("/run/secrets/slack-refresh-token"),
    /// )
    /// .token_at("/authed_user")
    /// .bearer_type("user");
    /// # let _ = user;
    /// ```
    ///
    /// [RFC 6901]: https://www.rfc-editor.org/rfc/rfc6901
    #[must_use]
    pub fn token_at(mut self, pointer: impl Into<String>) -> Self {
        self.common.token_at = Some(pointer.into());
        self
    }

    /// Writes a space in the body as `%20`, for servers that do not take the `+` of
    /// [RFC 6749 App. B] for one. Default: `+`.
    ///
    /// [RFC 6749 App. B]: https://www.rfc-editor.org/rfc/rfc6749#appendix-B
    #[must_use]
    pub fn percent_encode_spaces(mut self) -> Self {
        self.common.space = Space::Percent;
        self
    }

    /// Asks for tokens that are bound to a key, and accepts no others ([RFC 9449]).
    ///
    /// [RFC 9449]: https://www.rfc-editor.org/rfc/rfc9449#section-5
    #[cfg(feature = "dpop")]
    #[cfg_attr(docsrs, doc(cfg(feature = "dpop")))]
    #[must_use]
    pub fn dpop(mut self, key: DpopKey) -> Self {
        self.common.rules.accepted = Accepted::Dpop(key);
        self
    }

    /// As [`dpop`](Self::dpop), but takes a bearer token too if the server gives one: whoever steals
    /// that one can use it.
    #[cfg(feature = "dpop")]
    #[cfg_attr(docsrs, doc(cfg(feature = "dpop")))]
    #[must_use]
    pub fn danger_dpop_or_bearer(mut self, key: DpopKey) -> Self {
        self.common.rules.accepted = Accepted::Either(key);
        self
    }

    /// Sets the longest lifetime that is believed. Default: 365 days.
    #[must_use]
    pub fn max_lifetime(mut self, lifetime: Duration) -> Self {
        self.common.rules.max_lifetime = lifetime;
        self
    }

    /// Sets the HTTP client for the token endpoint. Default: with the feature `reqwest` a client of
    /// its own; without it, one has to be set.
    #[must_use]
    pub fn transport(mut self, transport: Transport) -> Self {
        self.common.settings.transport = Some(transport);
        self
    }

    /// Allows a token endpoint that is plain `http` on another machine: everybody on the way can
    /// read the client's secret and the tokens. Default: only on loopback.
    #[must_use]
    pub fn danger_allow_http(mut self) -> Self {
        self.common.settings.allow_http = true;
        self
    }

    /// Refuses a configuration that is weaker than the [FAPI 2.0 Security Profile], with
    /// [`ConfigError::Fapi`]: it takes a private key or a certificate to authenticate, tokens that
    /// are bound to a key or a certificate, endpoints from metadata, and no algorithms but `PS256`,
    /// `ES256` and `EdDSA`.
    ///
    /// [FAPI 2.0 Security Profile]: https://openid.net/specs/fapi-security-profile-2_0-final.html
    #[must_use]
    pub fn fapi2(mut self) -> Self {
        self.common.settings.fapi = true;
        self
    }

    pub(super) fn auth(&self) -> &ClientAuth {
        &self.common.settings.auth
    }

    pub(super) fn options_mut(&mut self) -> &mut G {
        &mut self.options
    }

    /// Checks everything that all grants have in common.
    pub(super) fn check(self, grant_type: &'static str) -> Result<(Checked, G), ConfigError> {
        let Self { common, options } = self;
        check_bounds(&common)?;
        common.check_fapi()?;
        let scopes = scope_set(&common.scopes)?;
        let form = common.form(grant_type, &scopes)?;
        check_bearer_types(&common.rules.bearer_types)?;
        let token_at = common.token_at.map(|text| pointer(&text)).transpose()?;
        let mut settings = common.settings.check()?;
        let caller = settings.caller(EndpointKind::Token)?;
        let revocation = common.revocation.as_deref();
        let revoker =
            settings.other_caller(EndpointKind::Revocation, revocation)?.map(Revoker::new);
        let endpoint = TokenEndpoint::new(caller, Rules { token_at, ..common.rules });
        Ok((Checked { endpoint, scopes, form, revoker }, options))
    }
}

impl Checked {
    /// Revokes the last token set.
    pub(super) async fn revoke(&self, cx: &FetchContext) -> Result<(), Error> {
        match (&cx.previous, &self.revoker) {
            (None, _) => Ok(()),
            (Some(token), Some(revoker)) => revoker.revoke_set(token, cx).await,
            (Some(_), None) => Err(nowhere_to_revoke()),
        }
    }
}

impl Common {
    fn check_fapi(&self) -> Result<(), ConfigError> {
        if self.settings.fapi && self.revocation.is_some() {
            return Err(ConfigError::Fapi {
                clause: "shall only use authorization server metadata [...] retrieved from the \
                         metadata document",
                reason: "leave revocation_endpoint() out: the metadata says where it is",
            });
        }
        let bound = self.rules.accepted.only_bound() || self.settings.auth.is_mtls();
        if !self.settings.fapi || bound {
            return Ok(());
        }
        Err(ConfigError::Fapi {
            clause: "shall support sender-constrained access tokens using [...] MTLS [or] DPoP",
            reason: "bind the tokens to a key with dpop(), or authenticate with a certificate",
        })
    }

    fn form(&self, grant_type: &'static str, scopes: &Scopes) -> Result<Form, ConfigError> {
        check_extra(&self.parameters)?;
        let mut form = Form::default();
        form.set("grant_type", grant_type);
        form.set("scope", scopes.to_string());
        for resource in &self.resources {
            check_resource(resource)?;
            form.add("resource", &**resource);
        }
        for identifier in &self.identifiers {
            check_identifier(identifier)?;
            form.add("resource", &**identifier);
        }
        for audience in &self.audiences {
            if audience.is_empty() {
                let (name, reason) = ("audience".to_owned(), "it is empty");
                return Err(ConfigError::Parameter { name, reason });
            }
            form.add("audience", &**audience);
        }
        if let Some(details) = &self.details {
            form.set(DETAILS, check_details(details)?);
        }
        for (name, value) in &self.parameters {
            form.set(name.clone(), &**value);
        }
        form.set_space(self.space);
        Ok(form)
    }
}

/// The scopes, each of them checked.
pub(super) fn scope_set(scopes: &[String]) -> Result<Scopes, ConfigError> {
    let mut set = Scopes::default();
    scopes.iter().try_for_each(|scope| set.insert(scope))?;
    Ok(set)
}

/// A token of one of these types is worth nothing without a proof, or is not an access token.
fn check_bearer_types(types: &[String]) -> Result<(), ConfigError> {
    let other = |name: &&String| {
        ["", "dpop", "pop", "mac", "n_a"].iter().any(|t| name.eq_ignore_ascii_case(t))
    };
    match types.iter().find(other) {
        Some(name) => {
            let (name, value) = ("bearer_type", format!("{name:?}"));
            Err(ConfigError::Setting { name, value, reason: "such a token is no bearer token" })
        }
        None => Ok(()),
    }
}

fn pointer(text: &str) -> Result<Pointer, ConfigError> {
    Pointer::parse(text).ok_or_else(|| ConfigError::Setting {
        name: "token_at",
        value: format!("{text:?}"),
        reason: "it is a JSON pointer, such as /authed_user",
    })
}

fn check_bounds(common: &Common) -> Result<(), ConfigError> {
    if common.rules.max_lifetime.is_zero() {
        let (name, value) = ("max_lifetime", "0".to_owned());
        let reason = "nothing could ever succeed";
        return Err(ConfigError::Setting { name, value, reason });
    }
    Ok(())
}

impl<G> fmt::Debug for GrantBuilder<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the rest: nothing of it has been checked.
        f.debug_struct("GrantBuilder")
            .field("auth", &self.common.settings.auth)
            .finish_non_exhaustive()
    }
}

/// The longest lifetime that is believed unless told otherwise.
pub(super) const MAX_LIFETIME: Duration = Duration::from_secs(365 * 24 * 60 * 60);
