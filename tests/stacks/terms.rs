//! What a seed draws for one request: its body, its caller and the answers of the servers.

use std::{sync::Arc, time::Duration};

use http::Method;

use crate::story::Plan;

/// A server, by what the layer thinks of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// An allowed origin, where most requests go.
    Home,
    /// Another allowed origin.
    Other,
    /// An origin that was not allowed.
    Foreign,
}

impl Role {
    pub(crate) const ALL: [Self; 3] = [Self::Home, Self::Other, Self::Foreign];

    pub(crate) fn is_allowed(self) -> bool {
        self != Self::Foreign
    }
}

/// The shape of an answer.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Shape {
    pub(crate) length: usize,
    pub(crate) chunks: usize,
    /// Whether its length is sent in advance; else it is chunked.
    pub(crate) exact: bool,
    pub(crate) trailers: bool,
}

/// How a token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// A 401 with this challenge, or none.
    Challenge(Option<&'static str>),
    /// gRPC's `UNAUTHENTICATED` in the headers of a 200.
    Grpc,
}

/// Challenges of real servers: good ones, some that break the grammar, and ones of other schemes.
pub(crate) const FORMS: [Form; 9] = [
    Form::Challenge(Some(r#"Bearer realm="api", error="invalid_token""#)),
    Form::Challenge(Some("Bearer error=invalid_token")),
    Form::Challenge(Some("Bearer")),
    Form::Challenge(None),
    Form::Challenge(Some(r#"Basic realm="x""#)),
    Form::Challenge(Some(r#"Bearer realm="api" error="invalid_token""#)),
    Form::Challenge(Some("Bearer error='invalid_token', error_description='it is expired'")),
    Form::Challenge(Some("Bearer realm=the api, error=invalid_token")),
    Form::Challenge(Some(r#"Bearer error="invalid_token", error="invalid_token""#)),
];

/// What a server does with a request.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Act {
    /// Stores the body and answers 200.
    Serve(Shape),
    /// Refuses the token, early: before it reads the body. A token that is revoked is refused from
    /// then on; else the server refuses this request, whatever token it has.
    Refuse { form: Form, early: bool, revokes: bool, shape: Shape },
    /// Answers with this status.
    Status(u16, Shape),
    /// Sends the client to another server.
    Redirect(u16, Role),
    /// Breaks the connection or the stream, before or after it reads the body.
    Reset { early: bool },
    /// Waits, then stores the body and answers 200.
    Hang(Duration),
    /// Breaks off in the middle of its answer.
    BreakOff(Shape),
}

impl Act {
    pub(crate) fn reads_body(self) -> bool {
        !matches!(self, Self::Refuse { early: true, .. } | Self::Reset { early: true })
    }
}

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    pub(crate) id: u64,
    pub(crate) tenant: u32,
    pub(crate) method: Method,
    pub(crate) target: Role,
    /// Whether the target is only a path, as tonic's code generator makes it.
    pub(crate) path_only: bool,
    /// The caller's own `Authorization` header.
    pub(crate) own: Option<String>,
    pub(crate) body: Arc<Plan>,
    /// The servers' answers, in the order of arrivals. Further arrivals are served.
    pub(crate) acts: Vec<Act>,
    /// After how many polls the caller drops the future.
    pub(crate) polls: Option<u32>,
    /// How long after the start the request is sent.
    pub(crate) starts: Duration,
}

impl Terms {
    /// A plain request that must succeed.
    pub(crate) fn plain(id: u64, tenant: u32) -> Self {
        Self {
            id,
            tenant,
            method: Method::POST,
            target: Role::Home,
            path_only: false,
            own: None,
            body: Arc::new(Plan::whole(id, 100)),
            acts: Vec::new(),
            polls: None,
            starts: Duration::ZERO,
        }
    }
}
