//! gRPC's `UNAUTHENTICATED` in the trailers of a stream.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, header::CONTENT_TYPE};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::time::sleep;
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_oauth::{TokenHandle, middleware::GrpcTrailersLayer};

use super::{API, HOUR, get, layer, secs};
use crate::common::script::Script;

fn answer(
    content_type: &'static str,
    status: &'static str,
) -> Response<impl http_body::Body<Data = Bytes, Error = std::io::Error>> {
    let trailers =
        HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static(status))]);
    let frames = [Ok(Frame::data(Bytes::from_static(b"message"))), Ok(Frame::trailers(trailers))];
    let mut response = Response::new(StreamBody::new(tokio_stream::iter(frames)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[tokio::test(start_paused = true)]
async fn f79_a_stream_that_ends_unauthenticated_has_its_token_renewed() {
    for (content_type, status, age, fetches) in [
        ("application/grpc", "16", 60, 2),
        ("application/grpc+proto", "16", 60, 2),
        // As with a bare 401, a young token stays.
        ("application/grpc", "16", 5, 1),
        ("application/grpc", "0", 60, 1),
        ("application/octet-stream", "16", 60, 1),
    ] {
        let source = Script::tokens(HOUR);
        let tokens = TokenHandle::spawn(source.clone());
        tokens.ready().await.unwrap();
        sleep(secs(age)).await;
        let below = service_fn(move |_: Request<String>| async move {
            Ok::<_, std::io::Error>(answer(content_type, status))
        });
        let client = ServiceBuilder::new()
            .layer(GrpcTrailersLayer)
            .layer(layer(&tokens).expose_token())
            .service(below);
        let response = client.oneshot(get(API)).await.unwrap();
        assert_eq!(source.count(), 1, "nothing is known before the trailers");
        let body = response.into_body().collect().await.unwrap();
        assert_eq!(body.trailers().unwrap()["grpc-status"], status);
        assert_eq!(body.to_bytes(), "message");
        sleep(secs(1)).await;
        assert_eq!(source.count(), fetches, "{content_type} {status} at {age} s");
    }
}
