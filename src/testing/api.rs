use std::{fmt, io, sync::Arc, time::Duration};

use super::{
    authority::AuthorizationServer,
    guard::{Challenge, Guard},
    host::Host,
    recorded::Recorded,
    reply::Reply,
    service::TestService,
};

/// An API for tests that serves any path, if the request carries an active access token of an
/// [`AuthorizationServer`].
///
/// It answers 200 with `{"ok":true,"method":…,"path":…,"body_len":…}`, or 401 with a challenge as
/// [RFC 6750 §3] says. A clone is another handle to the same server, and what it sets acts at once.
/// With the last handle the listener and its connections end.
///
/// [RFC 6750 §3]: https://www.rfc-editor.org/rfc/rfc6750#section-3
#[derive(Clone)]
pub struct ProtectedApi {
    guard: Arc<Guard>,
    host: Arc<Host>,
}

impl ProtectedApi {
    /// Starts an API on a free port of 127.0.0.1, in the current tokio runtime. It takes the tokens
    /// of this server, whether that one is up or not.
    ///
    /// # Errors
    ///
    /// When no port can be bound.
    pub async fn start(server: &AuthorizationServer) -> io::Result<Self> {
        let guard = Arc::new(Guard::new(server.endpoints()));
        let host = Arc::new(Host::start(guard.clone()).await?);
        Ok(Self { guard, host })
    }

    /// An API without a socket, reached through [`service`](Self::service) only. It calls itself
    /// `https://api.test`.
    pub fn in_process(server: &AuthorizationServer) -> Self {
        let guard = Arc::new(Guard::new(server.endpoints()));
        let host = Arc::new(Host::in_process(guard.clone(), "https://api.test"));
        Self { guard, host }
    }

    /// The API's URL, without a slash at its end.
    pub fn url(&self) -> &str {
        self.host.url()
    }

    /// The API as a tower service.
    pub fn service(&self) -> TestService {
        self.host.service()
    }

    /// Answers the next request that no other reply waits for with this reply.
    pub fn script(&self, reply: Reply) -> &Self {
        self.script_many([reply])
    }

    /// Answers the requests to come with these replies, in this order.
    pub fn script_many(&self, replies: impl IntoIterator<Item = Reply>) -> &Self {
        self.guard.state().script.push(replies);
        self
    }

    /// Answers all requests with this reply, after the scripted ones.
    pub fn always(&self, reply: Reply) -> &Self {
        self.guard.state().script.always(reply);
        self
    }

    /// Forgets all scripted replies.
    pub fn honest(&self) -> &Self {
        self.guard.state().script.clear();
        self
    }

    /// Waits this long before each answer, besides what its reply waits.
    pub fn delay(&self, delay: Duration) -> &Self {
        self.guard.state().delay = delay;
        self
    }

    /// Sets the `WWW-Authenticate` value of all refusals; `None` leaves the header out.
    ///
    /// # Panics
    ///
    /// When the value cannot stand in a header.
    pub fn challenge(&self, challenge: Option<String>) -> &Self {
        self.guard.state().challenge = match challenge {
            Some(value) => {
                Challenge::Always(value.parse().expect("the value can stand in a header"))
            }
            None => Challenge::Never,
        };
        self
    }

    /// Refuses as gRPC servers do: 200 with `grpc-status: 16` in the headers.
    pub fn grpc(&self, grpc: bool) -> &Self {
        self.guard.state().grpc = grpc;
        self
    }

    /// Refuses requests from their head alone, and leaves the body unread. The default is to read
    /// it first.
    pub fn refuse_early(&self, early: bool) -> &Self {
        self.guard.state().refuse_early = early;
        self
    }

    /// All requests so far, in their order. They are kept, without a bound, until
    /// [`reset_ledger`](Self::reset_ledger).
    pub fn requests(&self) -> Vec<Recorded> {
        self.guard.state().requests.clone()
    }

    /// How many requests there were.
    pub fn request_count(&self) -> usize {
        self.guard.state().requests.len()
    }

    /// How many requests were answered with 401, or `grpc-status: 16`, scripted answers included.
    pub fn refused(&self) -> usize {
        self.guard.state().refused
    }

    /// Forgets the requests and counts from zero.
    pub fn reset_ledger(&self) {
        let mut state = self.guard.state();
        state.requests.clear();
        state.refused = 0;
    }
}

impl fmt::Debug for ProtectedApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProtectedApi").field("url", &self.url()).finish_non_exhaustive()
    }
}
