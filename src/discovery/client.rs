use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, header::ACCEPT};
use tokio::time::Instant;

use super::answer::has_document;
use crate::{
    error::Error,
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
    /// Asks for the document at a URL; `None` if there is nothing.
    pub(super) async fn get(&self, url: &Endpoint) -> Result<Option<Answer>, Error> {
        let mut request = http::Request::new(Bytes::new());
        *request.uri_mut() = url.uri().clone();
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
        let limits = Limits { deadline: self.deadline, body: BODY_LIMIT };
        let answer = self.transport.exchange(request, limits).await?;
        let received = (Instant::now(), self.clock.now().wall);
        Ok(has_document(&answer, received)?.map(|()| answer))
    }
}

const BODY_LIMIT: usize = 1024 * 1024;
