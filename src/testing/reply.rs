use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header::CONTENT_TYPE};
use serde_json::{Map, Value, json};

/// One scripted answer of a test server.
///
/// It starts from the normal answer ([`honest`](Self::honest)), from a status, or from a fault, and
/// is changed by the methods below.
///
/// ```
/// use std::time::Duration;
/// use tower_oauth::testing::Reply;
///
/// // Throttled.
/// let busy = Reply::status(429).header("retry-after", "120");
/// // Normal, but slow, and with a lifetime as some servers write it.
/// let odd = Reply::honest()
///     .delay(Duration::from_secs(3))
///     .patch(serde_json::json!({ "expires_in": "3599" }));
/// // The server rotates the refresh token, and the answer is lost.
/// let lost = Reply::honest().then_reset_before_answer();
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Reply {
    pub(super) base: Base,
    pub(super) delay: Duration,
    pub(super) changes: Changes,
}

#[derive(Debug, Clone)]
pub(super) enum Base {
    Honest,
    Fixed(StatusCode, HeaderMap),
    Raw(Bytes),
    Reset,
    Hang,
}

/// What is changed in the answer that the base gives.
#[derive(Debug, Clone, Default)]
pub(super) struct Changes {
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: Option<Content>,
    pub(super) patch: Map<String, Value>,
    pub(super) declared_length: Option<usize>,
    pub(super) reset_after: Option<usize>,
    pub(super) lost: bool,
}

#[derive(Debug, Clone)]
pub(super) enum Content {
    Whole(Bytes),
    Timed(Vec<(Duration, Bytes)>),
}

impl Reply {
    /// The answer that the server gives without a script.
    ///
    /// The server does its work when the request has arrived: a delay, a reset or a change of the
    /// answer comes after that.
    pub fn honest() -> Self {
        Self::new(Base::Honest)
    }

    /// An answer with this status and an empty body.
    ///
    /// # Panics
    ///
    /// When the status is not between 100 and 999.
    pub fn status(status: u16) -> Self {
        let status = StatusCode::from_u16(status).expect("a status is between 100 and 999");
        Self::new(Base::Fixed(status, HeaderMap::new()))
    }

    /// An answer with this status and this JSON as its body.
    ///
    /// # Panics
    ///
    /// When the status is not between 100 and 999.
    pub fn json(status: u16, body: impl Into<Value>) -> Self {
        Self::status(status).default_header(CONTENT_TYPE, JSON).body(body.into().to_string())
    }

    /// An error answer of a token endpoint ([RFC 6749 §5.2]) with this status and code.
    ///
    /// # Panics
    ///
    /// When the status is not between 100 and 999.
    ///
    /// [RFC 6749 §5.2]: https://www.rfc-editor.org/rfc/rfc6749#section-5.2
    pub fn oauth_error(status: u16, code: &str) -> Self {
        Self::json(status, json!({ "error": code }))
    }

    /// Exactly these bytes, head and all, and the end of the connection.
    ///
    /// Only a server on loopback can send them; a service in process fails with an error that says
    /// so.
    pub fn raw(bytes: impl Into<Bytes>) -> Self {
        Self::new(Base::Raw(bytes.into()))
    }

    /// The connection is reset once the request has arrived; the server does nothing.
    pub fn reset() -> Self {
        Self::new(Base::Reset)
    }

    /// The request is taken and never answered.
    pub fn hang() -> Self {
        Self::new(Base::Hang)
    }

    /// Adds a header field. It takes the place of fields of that name that the answer has by
    /// itself; given twice, it is sent twice.
    ///
    /// `content-length` and `transfer-encoding` are the server's own; see
    /// [`content_length_lie`](Self::content_length_lie) and [`raw`](Self::raw).
    ///
    /// # Panics
    ///
    /// When the name or the value cannot stand in a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let name = name.parse().expect("the name can stand in a header");
        let value = value.parse().expect("the value can stand in a header");
        self.changes.headers.push((name, value));
        self
    }

    /// Sets the body.
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.changes.body = Some(Content::Whole(body.into()));
        self
    }

    /// Sets the body as a row of chunks, each sent after a pause.
    ///
    /// Its length is not declared: on the wire the body is sent in the chunked transfer coding.
    pub fn chunks<C: Into<Bytes>>(
        mut self,
        chunks: impl IntoIterator<Item = (Duration, C)>,
    ) -> Self {
        let chunks = chunks.into_iter().map(|(after, data)| (after, data.into())).collect();
        self.changes.body = Some(Content::Timed(chunks));
        self
    }

    /// Waits before the answer begins.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Changes members of the JSON body: members of `patch` are set, `null` removes.
    ///
    /// # Panics
    ///
    /// When `patch` is not a JSON object.
    pub fn patch(mut self, patch: impl Into<Value>) -> Self {
        let patch = patch.into();
        self.changes.patch.extend(patch.as_object().expect("a patch is a JSON object").clone());
        self
    }

    /// Declares this many bytes of body, whatever is sent, and ends the connection afterwards.
    pub fn content_length_lie(mut self, length: usize) -> Self {
        self.changes.declared_length = Some(length);
        self
    }

    /// Resets the connection after the head and this many bytes of the body.
    ///
    /// For [`raw`](Self::raw), all bytes count: that is how an answer breaks off in its head.
    pub fn reset_after(mut self, bytes: usize) -> Self {
        self.changes.reset_after = Some(bytes);
        self
    }

    /// Resets the connection in place of the answer. The server has done its work by then, such as
    /// rotating a refresh token: the answer is lost.
    pub fn then_reset_before_answer(mut self) -> Self {
        self.changes.lost = true;
        self
    }

    pub(super) fn is_honest(&self) -> bool {
        matches!(self.base, Base::Honest)
    }

    fn new(base: Base) -> Self {
        Self { base, delay: Duration::ZERO, changes: Changes::default() }
    }

    fn default_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        if let Base::Fixed(_, headers) = &mut self.base {
            headers.insert(name, value);
        }
        self
    }
}

pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");
