mod configuration;

use std::{fmt, sync::Arc};

use http::uri::Authority;
use serde_json::json;

use super::{
    builder::{Checked, GrantBuilder, scope_set},
    token_exchange::TokenExchange,
};
use crate::{
    client_auth::ClientAuth,
    endpoint::Impersonation,
    error::{ConfigError, Error},
    http::{Endpoint, shown_url},
    secret::SecretSource,
    source::{FetchContext, StepUp, TokenSource},
    token::{Scopes, TokenSet},
};
use configuration::{Configuration, Impersonated, Subject};

/// A workload identity of Google Cloud, as its "external account" configuration describes it
/// ([AIP-4117]): the workload's own token is exchanged at Google's token service ([RFC 8693]), and
/// the result, if the configuration says so, for a service account's access token.
///
/// Such a configuration is often a file that others write, so little of it is believed:
///
/// - the workload's token is sent to Google's two hosts only, or those that
///   [`allow_host`](GrantBuilder::allow_host) adds;
/// - it is read from a file. A configuration that wants a URL asked or a program run is refused,
///   unless the code gives a [`subject_token`](GrantBuilder::subject_token) of its own.
///
/// ```no_run
/// use tower_oauth::ExternalAccount;
///
/// # fn main() -> Result<(), tower_oauth::BoxError> {
/// let configuration = std::fs::read_to_string("/etc/workload/google.json")?;
/// let source = ExternalAccount::builder(&configuration)?
///     .scope("https://www.googleapis.com/auth/devstorage.read_only")
///     .build()?;
/// # let _ = source;
/// # Ok(())
/// # }
/// ```
///
/// [AIP-4117]: https://google.aip.dev/auth/4117
/// [RFC 8693]: https://www.rfc-editor.org/rfc/rfc8693
#[derive(Clone)]
pub struct ExternalAccount(Arc<Inner>);

struct Inner {
    exchange: TokenExchange,
    impersonation: Option<Impersonation>,
}

/// What only [`ExternalAccount`] has to configure.
#[derive(Debug)]
pub struct ExternalAccountOptions {
    token_url: String,
    subject: Subject,
    subject_token_type: String,
    own_subject: Option<SecretSource>,
    impersonation: Option<Impersonated>,
    allowed_hosts: Vec<String>,
}

impl ExternalAccount {
    /// Starts with the text of the configuration, in JSON. Nothing is read, run or asked that it
    /// names.
    ///
    /// Without a scope, the token is for all of Google Cloud.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Parameter`], which names the member, when the configuration is not of this
    /// kind, or something is missing.
    pub fn builder(json: &str) -> Result<GrantBuilder<ExternalAccountOptions>, ConfigError> {
        let read = Configuration::parse(json)?;
        let auth = match read.client {
            Some((id, secret)) => ClientAuth::basic(id, secret),
            None => ClientAuth::anonymous(),
        };
        let options = ExternalAccountOptions {
            token_url: read.token_url.clone(),
            subject: read.subject,
            subject_token_type: read.subject_token_type,
            own_subject: None,
            impersonation: read.impersonation,
            allowed_hosts: [TOKEN_HOST, IMPERSONATION_HOST].map(str::to_owned).into(),
        };
        let builder =
            GrantBuilder::new(read.token_url.into(), auth, options).audience(read.audience);
        Ok(match read.user_project {
            Some(project) => {
                builder.param("options", json!({ "userProject": project }).to_string())
            }
            None => builder,
        })
    }
}

impl GrantBuilder<ExternalAccountOptions> {
    /// Allows another host for the token service or the impersonation, such as that of a region;
    /// with its port if that is not 443. Default: `sts.googleapis.com` and
    /// `iamcredentials.googleapis.com`.
    #[must_use]
    pub fn allow_host(mut self, host: impl Into<String>) -> Self {
        self.options_mut().allowed_hosts.push(host.into());
        self
    }

    /// Sets where the workload's token comes from, in place of what the configuration says. Default:
    /// the configuration's file.
    #[must_use]
    pub fn subject_token(mut self, token: impl Into<SecretSource>) -> Self {
        self.options_mut().own_subject = Some(token.into());
        self
    }

    /// Checks the configuration.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for anything that cannot work, a host that is not allowed and a source of the
    /// workload's token that is not a file among it.
    pub fn build(self) -> Result<ExternalAccount, ConfigError> {
        let (mut checked, options) = self.check(TokenExchange::GRANT_TYPE)?;
        options.allowed("token_url", &options.token_url)?;
        let subject = match options.own_subject.clone() {
            Some(subject) => subject,
            None => options.subject.clone().source()?,
        };
        if checked.scopes.is_empty() {
            checked.scopes = scope_set(&[ALL_OF_THE_CLOUD.to_owned()])?;
        }
        let impersonation = match &options.impersonation {
            Some(impersonated) => {
                let url = options.allowed(IMPERSONATION_URL, &impersonated.url)?;
                Some(impersonation(url, impersonated.lifetime, &mut checked)?)
            }
            None => None,
        };
        checked.form.set("scope", checked.scopes.to_string());
        let subject = (subject, options.subject_token_type);
        let exchange = TokenExchange::for_access_token(checked, subject)?;
        Ok(ExternalAccount(Arc::new(Inner { exchange, impersonation })))
    }
}

/// What is asked of the service account; the token service is then asked for all of the cloud, as a
/// narrower token could not impersonate.
fn impersonation(
    url: Endpoint,
    lifetime: u64,
    checked: &mut Checked,
) -> Result<Impersonation, ConfigError> {
    let Checked { endpoint, scopes, .. } = checked;
    let (caller, rules) = (&endpoint.caller, endpoint.rules.clone());
    let (transport, timeout) = (caller.transport.clone(), caller.timeout);
    let (body_limit, codes) = (caller.body_limit, caller.codes.clone());
    let scopes = std::mem::replace(scopes, scope_set(&[ALL_OF_THE_CLOUD.to_owned()])?);
    Ok(Impersonation { url, transport, timeout, body_limit, rules, codes, scopes, lifetime })
}

impl ExternalAccountOptions {
    /// A URL that the workload's token, or what it was traded for, may go to.
    fn allowed(&self, what: &'static str, value: &str) -> Result<Endpoint, ConfigError> {
        let url = Endpoint::parse(what, value, false)?;
        let authority = url.uri().authority().map(Authority::as_str).unwrap_or_default();
        let authority = authority.strip_suffix(":443").unwrap_or(authority);
        if self.allowed_hosts.iter().any(|host| host.eq_ignore_ascii_case(authority)) {
            return Ok(url);
        }
        let reason =
            "its host is not one that the workload's token may go to; allow_host() adds one";
        Err(ConfigError::Url { what, value: shown_url(value), reason })
    }
}

impl TokenSource for ExternalAccount {
    async fn fetch(&self, cx: FetchContext) -> Result<TokenSet, Error> {
        let Some(impersonation) = &self.0.impersonation else {
            return self.0.exchange.fetch(cx).await;
        };
        // The federated token is for all of the cloud: scopes that an API asks for besides are for the
        // service account's.
        let step_up = StepUp { scopes: Scopes::default(), ..cx.step_up.clone() };
        let federated = self.0.exchange.fetch(FetchContext { step_up, ..cx.clone() }).await?;
        impersonation.request(&cx, &federated).await
    }

    async fn revoke(&self, cx: FetchContext) -> Result<(), Error> {
        self.0.exchange.revoke(cx).await
    }
}

impl fmt::Debug for ExternalAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExternalAccount")
            .field("exchange", &self.0.exchange)
            .field("impersonation", &self.0.impersonation)
            .finish()
    }
}

const IMPERSONATION_URL: &str = "service_account_impersonation_url";
const TOKEN_HOST: &str = "sts.googleapis.com";
const IMPERSONATION_HOST: &str = "iamcredentials.googleapis.com";
const ALL_OF_THE_CLOUD: &str = "https://www.googleapis.com/auth/cloud-platform";
