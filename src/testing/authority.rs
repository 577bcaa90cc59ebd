use std::{fmt, io, sync::Arc, time::Duration};

use super::{
    endpoints::{Endpoints, TOKEN_PATH},
    host::Host,
    recorded::Recorded,
    reply::Reply,
    service::TestService,
    tokens::Rotation,
};

/// An authorization server for tests: `/token` ([RFC 6749]: client credentials and refresh
/// tokens; [RFC 8693]: exchange of its own access tokens), `/revoke` ([RFC 7009]) and `/introspect` ([RFC 7662]). Its metadata names them
/// ([RFC 8414]); its [`url`](Self::url) is the issuer.
///
/// A clone is another handle to the same server, and what it sets acts at once. With the last
/// handle the listener and its connections end.
///
/// [RFC 6749]: https://www.rfc-editor.org/rfc/rfc6749
/// [RFC 7009]: https://www.rfc-editor.org/rfc/rfc7009
/// [RFC 7662]: https://www.rfc-editor.org/rfc/rfc7662
/// [RFC 8414]: https://www.rfc-editor.org/rfc/rfc8414
/// [RFC 8693]: https://www.rfc-editor.org/rfc/rfc8693
#[derive(Clone)]
pub struct AuthorizationServer {
    endpoints: Arc<Endpoints>,
    host: Arc<Host>,
}

impl AuthorizationServer {
    /// Starts a server on a free port of 127.0.0.1, in the current tokio runtime.
    ///
    /// # Errors
    ///
    /// When no port can be bound.
    pub async fn start() -> io::Result<Self> {
        let endpoints = Arc::new(Endpoints::default());
        let host = Arc::new(Host::start(endpoints.clone()).await?);
        Ok(Self::new(endpoints, host))
    }

    /// A server without a socket, reached through [`service`](Self::service) only. It calls itself
    /// `https://as.test`.
    pub fn in_process() -> Self {
        let endpoints = Arc::new(Endpoints::default());
        let host = Arc::new(Host::in_process(endpoints.clone(), "https://as.test"));
        Self::new(endpoints, host)
    }

    fn new(endpoints: Arc<Endpoints>, host: Arc<Host>) -> Self {
        host.url().clone_into(&mut endpoints.state().issuer);
        Self { endpoints, host }
    }

    /// The server's URL, without a slash at its end.
    pub fn url(&self) -> &str {
        self.host.url()
    }

    /// The URL of the token endpoint.
    pub fn token_endpoint(&self) -> String {
        format!("{}{TOKEN_PATH}", self.url())
    }

    /// The server as a tower service.
    pub fn service(&self) -> TestService {
        self.host.service()
    }

    /// Registers a client. From the first one on, only registered clients are accepted; before,
    /// any is.
    pub fn client(&self, id: &str, secret: &str) -> &Self {
        self.endpoints.state().clients.register(id, secret);
        self
    }

    /// Sets how long access tokens live that are issued from now on. The default is one hour.
    ///
    /// A token is valid for exactly this long, in tokio's time; `expires_in` says it in whole
    /// seconds.
    pub fn lifetime(&self, lifetime: Duration) -> &Self {
        self.endpoints.state().lifetime = lifetime;
        self
    }

    /// Leaves `expires_in` out of the answers.
    pub fn omit_expires_in(&self, omit: bool) -> &Self {
        self.endpoints.state().omit_expires_in = omit;
        self
    }

    /// Answers client credentials with a refresh token too. The default is not to.
    pub fn refresh_tokens(&self, issue: bool) -> &Self {
        self.endpoints.state().refresh_tokens = issue;
        self
    }

    /// Sets what happens to refresh tokens that are used. The default is [`Rotation::Never`].
    pub fn rotation(&self, rotation: Rotation) -> &Self {
        self.endpoints.state().rotation = rotation;
        self
    }

    /// Issues a refresh token to a client, as if its user had consented.
    pub fn issue_refresh_token(&self, client_id: &str) -> String {
        let tokens = &mut self.endpoints.state().tokens;
        let grant = tokens.grant(client_id, None);
        tokens.issue_refresh(grant)
    }

    /// Issues an access token to a client, without a request. [`issued`](Self::issued) does not
    /// count it.
    pub fn issue_access_token(&self, client_id: &str) -> String {
        let state = &mut *self.endpoints.state();
        let grant = state.tokens.grant(client_id, None);
        state.tokens.issue_access(grant, state.lifetime)
    }

    /// Revokes an access token; or a refresh token, with all tokens of its grant. Returns whether
    /// the token is one of this server's.
    pub fn revoke(&self, token: &str) -> bool {
        self.endpoints.state().tokens.revoke(token)
    }

    /// Revokes all access tokens. Refresh tokens still work.
    pub fn revoke_access_tokens(&self) {
        self.endpoints.state().tokens.revoke_access();
    }

    /// Revokes all access and refresh tokens.
    pub fn revoke_all(&self) {
        self.endpoints.state().tokens.revoke_all();
    }

    /// Whether this is an access token that is neither expired nor revoked.
    pub fn is_active(&self, token: &str) -> bool {
        self.endpoints.state().tokens.check(token).is_ok()
    }

    /// Takes the server down: connections and exchanges under way are reset, and new ones refused,
    /// until [`resume`](Self::resume). Its state stays. Returns when all connections are gone.
    pub async fn stop(&self) {
        self.host.stop().await;
    }

    /// Brings the server up again, on the same port.
    ///
    /// # Errors
    ///
    /// When the port cannot be had again.
    pub fn resume(&self) -> io::Result<()> {
        self.host.resume()
    }

    /// How many calls of the [`service`](Self::service) were refused because the server was down.
    /// Connections to a closed port cannot be seen.
    pub fn attempts(&self) -> usize {
        self.host.switch().refused()
    }

    /// Answers the next token request that no other reply waits for with this reply.
    pub fn script(&self, reply: Reply) -> &Self {
        self.script_many([reply])
    }

    /// Answers the token requests to come with these replies, in this order.
    pub fn script_many(&self, replies: impl IntoIterator<Item = Reply>) -> &Self {
        self.endpoints.state().script.push(replies);
        self
    }

    /// Answers all token requests with this reply, after the scripted ones.
    pub fn always(&self, reply: Reply) -> &Self {
        self.endpoints.state().script.always(reply);
        self
    }

    /// Forgets all scripted replies.
    pub fn honest(&self) -> &Self {
        self.endpoints.state().script.clear();
        self
    }

    /// All requests so far, in their order. They are kept, without a bound, until
    /// [`reset_ledger`](Self::reset_ledger).
    pub fn requests(&self) -> Vec<Recorded> {
        self.endpoints.state().requests.clone()
    }

    /// The requests to the token endpoint so far.
    pub fn token_requests(&self) -> Vec<Recorded> {
        self.endpoints.state().requests.iter().filter(|r| is_token_request(r)).cloned().collect()
    }

    /// How many requests the token endpoint got.
    pub fn token_request_count(&self) -> usize {
        self.endpoints.state().requests.iter().filter(|r| is_token_request(r)).count()
    }

    /// How many access tokens the token endpoint has issued, also in answers that were lost.
    pub fn issued(&self) -> usize {
        self.endpoints.state().issued
    }

    /// Whether a refresh token was used that was spent, after its grace.
    pub fn reuse_detected(&self) -> bool {
        self.endpoints.state().reuse_detected
    }

    /// Forgets the requests and sets [`issued`](Self::issued), [`attempts`](Self::attempts) and
    /// [`reuse_detected`](Self::reuse_detected) back. Tokens, clients and settings stay.
    pub fn reset_ledger(&self) {
        let mut state = self.endpoints.state();
        state.requests.clear();
        state.issued = 0;
        state.reuse_detected = false;
        self.host.switch().forget_refused();
    }

    pub(super) fn endpoints(&self) -> Arc<Endpoints> {
        self.endpoints.clone()
    }
}

fn is_token_request(request: &Recorded) -> bool {
    request.path() == TOKEN_PATH
}

impl fmt::Debug for AuthorizationServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorizationServer").field("url", &self.url()).finish_non_exhaustive()
    }
}
