//! Callers: they send a request, read the answer to its end, and report both.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use http::{HeaderValue, Request, Uri, Version, header};
use http_body_util::BodyExt;
use tokio::time::timeout;
use tower::ServiceExt;

use crate::{
    ledger::{Invariant, Ledger, Outcome, REQUEST, TENANT},
    story::{Story, TRAILER, digest},
    tap::{ended, shown},
    terms::Terms,
    wire::Svc,
};

/// What callers have in common.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manners {
    pub(crate) grpc: bool,
    /// Whether a layer may answer in the server's place.
    pub(crate) layers_answer: bool,
    /// After how long a request hangs.
    pub(crate) within: Duration,
}

/// Sends a request; returns whether it was served.
pub(crate) async fn send(
    client: Svc<Story>,
    ledger: &Ledger,
    terms: &Terms,
    manners: Manners,
) -> bool {
    let request = request(ledger, terms, manners.grpc);
    ledger.begin(terms);
    let exchange = async {
        let response = client.oneshot(request).await;
        let outcome = ended(&response);
        let body = match response {
            Err(error) => Err(shown(&error)),
            Ok(response) => match response.into_body().collect().await {
                Err(error) => Err(shown(&error)),
                Ok(whole) => {
                    let end = whole.trailers().and_then(|trailers| trailers.get(TRAILER));
                    let end = end.and_then(|end| Some(end.to_str().ok()?.to_owned()));
                    Ok((digest(whole.to_bytes().into_iter()), end))
                }
            },
        };
        (outcome, body)
    };
    let exchanged = within(manners.within, polled(exchange, terms.polls)).await;
    match exchanged {
        None => {
            let what = format!("request {} hangs for {:?}: {terms:?}", terms.id, manners.within);
            ledger.violation(Invariant::I1, what);
            false
        }
        Some(None) => {
            ledger.say(&format_args!("request {}: dropped", terms.id));
            false
        }
        Some(Some((Err(error), _))) => {
            ledger.failed(terms.id, &error);
            false
        }
        Some(Some((Ok(outcome), body))) => {
            ledger.answered(terms.id, outcome, manners.layers_answer, &body);
            matches!(outcome, Outcome { status: 200, refused: false, .. }) && body.is_ok()
        }
    }
}

fn request(ledger: &Ledger, terms: &Terms, grpc: bool) -> Request<Story> {
    let origin = if terms.path_only { "" } else { ledger.origin(terms.target) };
    let uri: Uri = format!("{origin}/a").parse().unwrap();
    let mut request = Request::new(Story::new(terms.body.clone()));
    *request.method_mut() = terms.method.clone();
    *request.uri_mut() = uri;
    let headers = request.headers_mut();
    headers.insert(REQUEST, terms.id.into());
    headers.insert(TENANT, terms.tenant.into());
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    if terms.body.trailers {
        headers.insert(header::TRAILER, HeaderValue::from_static(TRAILER));
    }
    if let Some(own) = &terms.own {
        headers.insert(header::AUTHORIZATION, HeaderValue::from_str(own).unwrap());
    }
    if grpc {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        *request.version_mut() = Version::HTTP_2;
    }
    request
}

/// Waits for a future in small steps, which take longer on a machine that is busy, as everything
/// else does.
pub(crate) async fn within<F: Future>(time: Duration, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let step = Duration::from_millis(20);
    for _ in 0..time.as_millis() / step.as_millis() {
        if let Ok(output) = timeout(step, &mut future).await {
            return Some(output);
        }
    }
    None
}

/// Polls a future to its end, or so often, and then drops it.
async fn polled<F: Future>(future: F, polls: Option<u32>) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|cx| {
        match &mut left {
            Some(0) => return Poll::Ready(None),
            Some(left) => *left -= 1,
            None => {}
        }
        future.as_mut().poll(cx).map(Some)
    })
    .await
}
