use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, header::ACCEPT};
use tokio::time::Instant;

use super::answer::has_document;
use crate::{
    error::{Error, ErrorKind},
    http::{Answer, Endpoint, Limits, Transport},
    time::Clock,
};

/// Asks for documents.
pub(super) struct Client<'a> {
    pub(super) transport: &'a Transport,
    pub(super) clock: &'a Arc<dyn Clock>,
    pub(super) deadline: Instant,
}

impl Client<'_> {
    /// Asks for the document at a URL; says what the answer was if it is none.
    pub(super) async fn get(&self, url: &Endpoint) -> Result<Result<Answer, String>, Error> {
        let mut request = http::Request::new(Bytes::new());
        *request.uri_mut() = url.uri().clone();
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
        let limits = Limits { deadline: self.deadline, body: BODY_LIMIT };
        let answer = match self.transport.exchange(request, limits).await {
            Ok(answer) => answer,
            // It is too large, or compressed: a document would not be.
            Err(error) if error.kind() == ErrorKind::MalformedResponse => {
                return Ok(Err(error.to_string()));
            }
            Err(error) => return Err(error),
        };
        let received = (Instant::now(), self.clock.now().wall);
        Ok(has_document(&answer, received)?.map(|()| answer))
    }
}

/// The largest document.
pub(super) const BODY_LIMIT: usize = 1024 * 1024;
