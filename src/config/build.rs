use super::{ClientConfig, ClientMethod, GrantConfig, OAuthConfig};
#[cfg(feature = "dpop")]
use crate::dpop::DpopKey;
#[cfg(feature = "mtls")]
use crate::http::ClientCertificate;
use crate::{
    client_auth::ClientAuth,
    discovery::{Discovery, EndpointSource},
    error::{ConfigError, Error, ErrorKind},
    grant::{
        ClientCredentials, FileToken, GrantBuilder, JwtBearer, RefreshToken, Saml2Bearer,
        TokenExchange,
    },
    http::Transport,
    secret::Secret,
    source::{FetchContext, TokenSource},
    token::TokenSet,
};

/// Any grant.
#[derive(Debug, Clone)]
pub(super) enum Grant {
    ClientCredentials(ClientCredentials),
    /// With the initial refresh token, as it was when this was built.
    RefreshToken(RefreshToken, Secret),
    JwtBearer(JwtBearer),
    Saml2Bearer(Saml2Bearer),
    TokenExchange(TokenExchange),
    FileToken(FileToken),
}

/// What a configuration says about obtaining tokens, built.
#[derive(Debug, Clone)]
pub(super) struct Built {
    pub(super) grant: Grant,
    #[cfg(feature = "dpop")]
    pub(super) dpop: Option<DpopKey>,
    #[cfg(feature = "mtls")]
    pub(super) certificate: Option<ClientCertificate>,
}

/// Builds the grant. A key that was generated is `before`'s, if there is one.
pub(super) fn build(
    config: &OAuthConfig,
    transport: Option<&Transport>,
    before: Option<&Built>,
) -> Result<Built, ConfigError> {
    if let GrantConfig::FileToken(file) = &config.grant {
        config.check_no_server()?;
        let mut grant = FileToken::new(&file.path);
        if let Some(lifetime) = file.lifetime {
            grant = grant.lifetime(lifetime);
        }
        return Ok(Built {
            grant: Grant::FileToken(grant),
            #[cfg(feature = "dpop")]
            dpop: None,
            #[cfg(feature = "mtls")]
            certificate: None,
        });
    }
    let parts = Parts::new(config, transport, before)?;
    let (endpoint, auth) = (parts.endpoint.clone(), parts.auth.clone());
    let grant = match &config.grant {
        GrantConfig::ClientCredentials => Grant::ClientCredentials(
            parts.set(ClientCredentials::builder(endpoint, auth), config)?.build()?,
        ),
        GrantConfig::RefreshToken(options) => {
            let initial = options.token.read_now("grant.refresh_token.token")?;
            let builder = RefreshToken::builder(endpoint, auth, options.token.source())
                .granted_scopes(&options.granted_scope);
            Grant::RefreshToken(parts.set(builder, config)?.build()?, initial)
        }
        GrantConfig::JwtBearer(options) => {
            let assertion = options.assertion.checked("grant.jwt_bearer.assertion")?;
            let builder = JwtBearer::builder(endpoint, auth, assertion);
            Grant::JwtBearer(parts.set(builder, config)?.build()?)
        }
        GrantConfig::Saml2Bearer(options) => {
            let assertion = options.assertion.checked("grant.saml2_bearer.assertion")?;
            let builder = Saml2Bearer::builder(endpoint, auth, assertion);
            Grant::Saml2Bearer(parts.set(builder, config)?.build()?)
        }
        GrantConfig::TokenExchange(options) => {
            let subject = options.subject_token.checked("grant.token_exchange.subject_token")?;
            let subject_type = token_type(&options.subject_token_type);
            let mut builder = TokenExchange::builder(endpoint, auth, subject, subject_type);
            builder = match (&options.actor_token, &options.actor_token_type) {
                (Some(actor), Some(actor_type)) => {
                    let actor = actor.checked("grant.token_exchange.actor_token")?;
                    builder.actor_token(actor, token_type(actor_type))
                }
                (None, None) => builder,
                _ => {
                    let reason = "actor_token and actor_token_type belong together";
                    return Err(bad("grant.token_exchange", reason));
                }
            };
            if let Some(requested) = &options.requested_token_type {
                builder = builder.requested_token_type(token_type(requested));
            }
            if options.assume_access_token {
                builder = builder.assume_access_token();
            }
            Grant::TokenExchange(parts.set(builder, config)?.build()?)
        }
        GrantConfig::FileToken(_) => return Err(bad("grant", "it has no token endpoint")),
    };
    Ok(Built {
        grant,
        #[cfg(feature = "dpop")]
        dpop: parts.dpop,
        #[cfg(feature = "mtls")]
        certificate: parts.certificate,
    })
}

/// What all grants with a token endpoint have.
struct Parts {
    endpoint: EndpointSource,
    auth: ClientAuth,
    transport: Option<Transport>,
    #[cfg(feature = "dpop")]
    dpop: Option<DpopKey>,
    #[cfg(feature = "mtls")]
    certificate: Option<ClientCertificate>,
}

impl Parts {
    fn new(
        config: &OAuthConfig,
        transport: Option<&Transport>,
        before: Option<&Built>,
    ) -> Result<Self, ConfigError> {
        let endpoint = config.endpoint()?;
        let auth = config.client.as_ref().map_or_else(
            || Ok(ClientAuth::anonymous()),
            |client| client.auth(config.issuer.is_some()),
        )?;
        #[cfg(feature = "mtls")]
        let (certificate, transport) = {
            let certificate = config.client.as_ref().map(ClientConfig::certificate).transpose()?;
            let certificate = certificate.flatten();
            let own = || certificate.as_ref().map(Transport::mtls);
            let transport = transport.cloned().or_else(own);
            (certificate, transport)
        };
        #[cfg(not(feature = "mtls"))]
        let transport = match &config.client {
            Some(client) if client.certificate.is_some() => {
                return Err(feature("client.certificate", "mtls"));
            }
            _ => transport.cloned(),
        };
        #[cfg(not(feature = "dpop"))]
        if config.dpop.is_some() {
            return Err(feature("dpop", "dpop"));
        }
        #[cfg(feature = "dpop")]
        let dpop = match &config.dpop {
            Some(dpop) => Some(dpop.key(before.and_then(|before| before.dpop.as_ref()))?),
            None => None,
        };
        let _ = before;
        Ok(Self {
            endpoint,
            auth,
            transport,
            #[cfg(feature = "dpop")]
            dpop,
            #[cfg(feature = "mtls")]
            certificate,
        })
    }

    /// Sets all that grants have in common.
    fn set<G>(
        &self,
        mut builder: GrantBuilder<G>,
        config: &OAuthConfig,
    ) -> Result<GrantBuilder<G>, ConfigError> {
        builder = builder.scopes(&config.scope);
        builder = config.resource.iter().fold(builder, GrantBuilder::resource);
        builder = config.audience.iter().fold(builder, GrantBuilder::audience);
        for (name, value) in &config.parameters {
            builder = builder.param(name, value);
        }
        if let Some(details) = &config.authorization_details {
            builder = builder.authorization_details(details.clone());
        }
        if let Some(url) = &config.revocation_endpoint {
            builder = builder.revocation_endpoint(url);
        }
        if let Some(timeout) = config.timeout {
            builder = builder.timeout(timeout);
        }
        if let Some(bytes) = config.body_limit {
            let bytes = usize::try_from(bytes);
            builder = builder.body_limit(bytes.map_err(|_| bad("body_limit", "it is too large"))?);
        }
        if let Some(lifetime) = config.max_lifetime {
            builder = builder.max_lifetime(lifetime);
        }
        if config.strict {
            builder = builder.strict();
        }
        if config.assume_bearer {
            builder = builder.assume_bearer();
        }
        for identifier in &config.resource_identifier {
            builder = builder.resource_identifier(identifier);
        }
        for (code, meaning) in &config.error_codes {
            let kind = KINDS.into_iter().find(|kind| kind.as_str() == meaning);
            let kind = kind.ok_or_else(|| {
                bad(
                    "error_codes",
                    "a code means invalid_grant, invalid_client, invalid_request, denied, server or \
                     throttled",
                )
            })?;
            builder = builder.error_code(code, kind);
        }
        if config.fapi2 {
            builder = builder.fapi2();
        }
        if config.danger_allow_http {
            builder = builder.danger_allow_http();
        }
        if let Some(transport) = &self.transport {
            builder = builder.transport(transport.clone());
        }
        #[cfg(feature = "dpop")]
        if let Some(key) = &self.dpop {
            builder = match &config.dpop {
                Some(dpop) if dpop.danger_or_bearer => builder.danger_dpop_or_bearer(key.clone()),
                _ => builder.dpop(key.clone()),
            };
        }
        Ok(builder)
    }
}

impl OAuthConfig {
    fn endpoint(&self) -> Result<EndpointSource, ConfigError> {
        match (&self.token_endpoint, &self.issuer) {
            (Some(_), Some(_)) => Err(bad(
                "token_endpoint",
                "there is an issuer too: of the two, one says where tokens come from",
            )),
            (None, None) => {
                Err(bad("", "token_endpoint or issuer has to say where tokens come from"))
            }
            (Some(_), None) if !self.discovery.is_default() => {
                Err(bad("discovery", "it takes an issuer; here is a token_endpoint"))
            }
            (Some(url), None) => Ok(url.into()),
            (None, Some(issuer)) => Ok(self.discovered(issuer).into()),
        }
    }

    fn discovered(&self, issuer: &str) -> Discovery {
        let settings = &self.discovery;
        let mut discovery = Discovery::issuer(issuer);
        if let Some(url) = &settings.metadata_url {
            discovery = discovery.metadata_url(url);
        }
        if !settings.hosts.is_empty() {
            discovery = discovery.hosts(&settings.hosts);
        }
        if let Some(timeout) = settings.timeout {
            discovery = discovery.timeout(timeout);
        }
        if let Some(issuer) = &settings.danger_expect_issuer {
            discovery = discovery.danger_expect_issuer(issuer);
        }
        if self.danger_allow_http {
            discovery = discovery.danger_allow_http();
        }
        discovery
    }

    /// A token that is read from a file comes from no server: what is for one is a mistake.
    fn check_no_server(&self) -> Result<(), ConfigError> {
        let only = Self {
            origins: self.origins.clone(),
            grant: self.grant.clone(),
            handle: self.handle.clone(),
            layer: self.layer.clone(),
            ..Self::default()
        };
        if *self == only {
            return Ok(());
        }
        Err(bad(
            "grant.file_token",
            "such a token is read from a file: besides it, only origins, handle and layer have a \
             meaning",
        ))
    }

    /// Whether this is the same session at the same server as another configuration's, so that the
    /// refresh token of one is the other's.
    pub(super) fn is_same_session(&self, other: &Self) -> bool {
        let client = |config: &Self| config.client.as_ref().map(|client| client.id.clone());
        let token = |config: &Self| match &config.grant {
            GrantConfig::RefreshToken(options) => Some(options.token.clone()),
            _ => None,
        };
        token(self).is_some()
            && token(self) == token(other)
            && client(self) == client(other)
            && self.token_endpoint == other.token_endpoint
            && self.issuer == other.issuer
            && self.discovery == other.discovery
    }
}

impl ClientConfig {
    fn auth(&self, discovered: bool) -> Result<ClientAuth, ConfigError> {
        let inferred = match (&self.key, &self.certificate, &self.secret) {
            (Some(_), ..) => ClientMethod::PrivateKeyJwt,
            (None, _, Some(_)) => ClientMethod::ClientSecret,
            (None, Some(_), None) => ClientMethod::TlsClientAuth,
            (None, None, None) => ClientMethod::None,
        };
        let inferred = [inferred];
        let methods = if self.method.0.is_empty() { &inferred[..] } else { &self.method.0 };
        self.check_used(methods)?;
        let mut held = Vec::new();
        for method in methods {
            held.push(self.by(*method, discovered)?);
        }
        match held.pop() {
            Some(only) if held.is_empty() => Ok(only),
            Some(last) => {
                held.push(last);
                Ok(ClientAuth::any_of(held))
            }
            None => Ok(ClientAuth::none(&self.id)),
        }
    }

    /// A credential that no method uses is a mistake.
    fn check_used(&self, methods: &[ClientMethod]) -> Result<(), ConfigError> {
        use ClientMethod as Is;
        let secret = methods.iter().any(|method| {
            !matches!(
                method,
                Is::PrivateKeyJwt | Is::TlsClientAuth | Is::SelfSignedTlsClientAuth | Is::None
            )
        });
        if self.secret.is_some() && !secret {
            return Err(bad("client.secret", "client.method has no method that uses it"));
        }
        if self.key.is_some() && !methods.contains(&Is::PrivateKeyJwt) {
            return Err(bad("client.key", "client.method has no method that uses it"));
        }
        Ok(())
    }

    fn by(&self, method: ClientMethod, discovered: bool) -> Result<ClientAuth, ConfigError> {
        let id = &*self.id;
        let secret = || match &self.secret {
            Some(secret) => secret.checked("client.secret"),
            None => Err(bad("client.secret", "it is missing, and client.method needs it")),
        };
        let _ = discovered;
        Ok(match method {
            ClientMethod::ClientSecret => ClientAuth::secret(id, secret()?),
            ClientMethod::ClientSecretBasic => ClientAuth::basic(id, secret()?),
            ClientMethod::ClientSecretBasicUnencoded => ClientAuth::basic_unencoded(id, secret()?),
            ClientMethod::ClientSecretPost => ClientAuth::post(id, secret()?),
            ClientMethod::None => ClientAuth::none(id),
            #[cfg(feature = "private-key-jwt")]
            ClientMethod::ClientSecretJwt => self.assertion_by_secret(secret()?, discovered)?,
            #[cfg(feature = "private-key-jwt")]
            ClientMethod::PrivateKeyJwt => self.assertion_by_key(discovered)?,
            #[cfg(not(feature = "private-key-jwt"))]
            ClientMethod::ClientSecretJwt | ClientMethod::PrivateKeyJwt => {
                return Err(feature("client.method", "private-key-jwt"));
            }
            #[cfg(feature = "mtls")]
            ClientMethod::TlsClientAuth => ClientAuth::tls(id),
            #[cfg(feature = "mtls")]
            ClientMethod::SelfSignedTlsClientAuth => ClientAuth::self_signed_tls(id),
            #[cfg(not(feature = "mtls"))]
            ClientMethod::TlsClientAuth | ClientMethod::SelfSignedTlsClientAuth => {
                return Err(feature("client.method", "mtls"));
            }
        })
    }

    #[cfg(feature = "mtls")]
    fn certificate(&self) -> Result<Option<ClientCertificate>, ConfigError> {
        let Some(certificate) = &self.certificate else { return Ok(None) };
        let chain = certificate.chain.checked("client.certificate.chain")?;
        Ok(Some(match &certificate.key {
            Some(key) => ClientCertificate::pem(chain, key.checked("client.certificate.key")?),
            None => ClientCertificate::pem_bundle(chain),
        }))
    }
}

/// A token type's URI.
fn token_type(name: &str) -> String {
    match name {
        "access_token" => TokenExchange::ACCESS_TOKEN,
        "id_token" => TokenExchange::ID_TOKEN,
        "jwt" => TokenExchange::JWT,
        "saml2" => TokenExchange::SAML2,
        uri => uri,
    }
    .to_owned()
}

pub(super) fn bad(path: &str, reason: &str) -> ConfigError {
    ConfigError::Document { path: path.to_owned(), reason: reason.to_owned() }
}

#[cfg(not(all(feature = "dpop", feature = "mtls", feature = "private-key-jwt")))]
fn feature(path: &str, name: &str) -> ConfigError {
    let reason = format!("it needs tower-oauth's feature {name}, which is off");
    ConfigError::Document { path: path.to_owned(), reason }
}

impl TokenSource for Grant {
    async fn fetch(&self, cx: FetchContext) -> Result<TokenSet, Error> {
        match self {
            Self::ClientCredentials(grant) => grant.fetch(cx).await,
            Self::RefreshToken(grant, _) => grant.fetch(cx).await,
            Self::JwtBearer(grant) => grant.fetch(cx).await,
            Self::Saml2Bearer(grant) => grant.fetch(cx).await,
            Self::TokenExchange(grant) => grant.fetch(cx).await,
            Self::FileToken(grant) => grant.fetch(cx).await,
        }
    }

    async fn revoke(&self, cx: FetchContext) -> Result<(), Error> {
        match self {
            Self::ClientCredentials(grant) => grant.revoke(cx).await,
            Self::RefreshToken(grant, _) => grant.revoke(cx).await,
            Self::JwtBearer(grant) => grant.revoke(cx).await,
            Self::Saml2Bearer(grant) => grant.revoke(cx).await,
            Self::TokenExchange(grant) => grant.revoke(cx).await,
            Self::FileToken(grant) => grant.revoke(cx).await,
        }
    }
}

/// What an error code may mean.
const KINDS: [ErrorKind; 6] = [
    ErrorKind::InvalidGrant,
    ErrorKind::InvalidClient,
    ErrorKind::InvalidRequest,
    ErrorKind::Denied,
    ErrorKind::Server,
    ErrorKind::Throttled,
];
