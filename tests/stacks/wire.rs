//! The types between the layers: erased services and bodies.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{
    BodyExt,
    combinators::{BoxBody, UnsyncBoxBody},
};
use tower::{BoxError, util::BoxCloneService};
use tower_oauth::middleware::ReplayBody;

use crate::story::Story;

/// The body of an answer, as it travels up.
pub(crate) type Answer = UnsyncBoxBody<Bytes, BoxError>;

/// A service with its types erased. `B` is [`Story`] above the layer and [`Wire`] below it.
pub(crate) type Svc<B> = BoxCloneService<Request<B>, Response<Answer>, BoxError>;

/// Erases the body of an answer.
pub(crate) fn erase<B>(response: Response<B>) -> Response<Answer>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    response.map(|body| body.map_err(Into::into).boxed_unsync())
}

/// A body of a request between two layers.
pub(crate) trait Payload:
    Body<Data = Bytes, Error = BoxError> + Default + Send + Sync + Unpin + 'static
{
    /// Returns the body once more, if it can be sent again.
    fn again(&self) -> Option<Self>;
}

impl Payload for Story {
    fn again(&self) -> Option<Self> {
        Some(self.clone())
    }
}

/// The body of a request below the layer.
pub(crate) enum Wire {
    Story(Story),
    /// What a replay policy made of it.
    Erased(BoxBody<Bytes, BoxError>),
}

impl Default for Wire {
    fn default() -> Self {
        Self::Story(Story::default())
    }
}

impl From<Story> for Wire {
    fn from(story: Story) -> Self {
        Self::Story(story)
    }
}

impl From<ReplayBody<Story>> for Wire {
    fn from(body: ReplayBody<Story>) -> Self {
        Self::Erased(BoxBody::new(body))
    }
}

impl Payload for Wire {
    fn again(&self) -> Option<Self> {
        match self {
            Self::Story(story) => Some(Self::Story(story.clone())),
            Self::Erased(_) => None,
        }
    }
}

impl Body for Wire {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut *self {
            Self::Story(story) => Pin::new(story).poll_frame(cx),
            Self::Erased(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Story(story) => story.is_end_stream(),
            Self::Erased(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Story(story) => story.size_hint(),
            Self::Erased(body) => body.size_hint(),
        }
    }
}

/// Returns a request with a copy of its body, if that can be sent again.
pub(crate) fn again<B: Payload>(request: &Request<B>) -> Option<Request<B>> {
    let mut copy = Request::new(request.body().again()?);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    *copy.extensions_mut() = request.extensions().clone();
    Some(copy)
}
