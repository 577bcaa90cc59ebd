use std::{
    convert::Infallible,
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{StatusCode, header::CONTENT_LENGTH};
use http_body::Body;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::time::{Instant, sleep};
use tower_service::Service;

use super::{
    answer::{Action, Answer, End, Framing, truncate},
    body::ReplyBody,
    fault::{ConnectionError, Kind},
    host::Front,
    recorded::Recorded,
    switch::Outage,
    wire::BODY_CAP,
};
use crate::error::BoxError;

/// A test server as a tower service: no sockets, so that it works in paused time.
///
/// It takes requests of any body, for whatever host, and is always ready. While the server is
/// stopped, and where a connection would break, calls or their bodies fail with a
/// [`ConnectionError`].
#[derive(Clone)]
pub struct TestService {
    front: Front,
}

/// The future of [`TestService`].
pub struct TestFuture(Pin<Box<dyn Future<Output = Outcome> + Send>>);

type Outcome = Result<http::Response<ReplyBody>, ConnectionError>;

impl TestService {
    pub(super) fn new(front: Front) -> Self {
        Self { front }
    }
}

impl<B> Service<http::Request<B>> for TestService
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = http::Response<ReplyBody>;
    type Error = ConnectionError;
    type Future = TestFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> TestFuture {
        let front = self.front.clone();
        TestFuture(Box::pin(async move {
            let outage =
                front.switch.connect().ok_or_else(|| ConnectionError::new(Kind::Refused))?;
            tokio::select! {
                outcome = exchange(&front, request, outage.clone()) => outcome,
                () = outage.begins() => Err(ConnectionError::new(Kind::Reset)),
            }
        }))
    }
}

impl Future for TestFuture {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        self.0.as_mut().poll(cx)
    }
}

async fn exchange<B>(front: &Front, request: http::Request<B>, outage: Outage) -> Outcome
where
    B: Body + Send,
    B::Error: Into<BoxError>,
{
    let (parts, body) = request.into_parts();
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
    let recorded = Recorded {
        method: parts.method,
        target,
        headers: parts.headers,
        body: Bytes::new(),
        raw: None,
        at: Instant::now(),
    };
    let early = if body.is_end_stream() { None } else { front.site.refuse_early(&recorded) };
    let answer = match early {
        Some(answer) => answer,
        None => answer(front, recorded, body).await?,
    };
    if !answer.delay.is_zero() {
        sleep(answer.delay).await;
    }
    respond(answer.action, outage).await
}

async fn answer<B>(
    front: &Front,
    mut recorded: Recorded,
    body: B,
) -> Result<Answer, ConnectionError>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    match Limited::new(body, BODY_CAP).collect().await {
        Ok(body) => {
            recorded.body = body.to_bytes();
            recorded.at = Instant::now();
            Ok(front.site.answer(recorded))
        }
        Err(error) if error.is::<LengthLimitError>() => {
            Ok(Answer::status(StatusCode::PAYLOAD_TOO_LARGE))
        }
        Err(error) => Err(ConnectionError::aborted(error)),
    }
}

async fn respond(action: Action, outage: Outage) -> Outcome {
    let mut response = match action {
        Action::Send(response) => response,
        Action::Raw(..) => return Err(ConnectionError::new(Kind::Raw)),
        Action::Reset => return Err(ConnectionError::new(Kind::Reset)),
        Action::Hang => match std::future::pending::<Infallible>().await {},
    };
    let mut size = None;
    if let Framing::Length(length) = response.framing {
        response.headers.insert(CONTENT_LENGTH, length.into());
        let sent: usize = response.chunks.iter().map(|(_, data)| data.len()).sum();
        if sent >= length && response.end == End::Close {
            // A client reads no further than what was declared.
            truncate(&mut response.chunks, length);
            response.end = End::Complete;
        }
        size = (response.end == End::Complete).then(|| sent.min(length));
    }
    let body = ReplyBody::new(response.chunks, response.end, size, outage);
    let mut answer = http::Response::new(body);
    *answer.status_mut() = response.status;
    *answer.headers_mut() = response.headers;
    Ok(answer)
}

impl fmt::Debug for TestService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TestService")
    }
}

impl fmt::Debug for TestFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TestFuture")
    }
}
