//! Uploads to a real server over HTTP/1.1 and HTTP/2 that refuses the first token, early or late.

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty, Full, StreamBody, combinators::BoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{
    net::TcpListener,
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tower::{ServiceBuilder, ServiceExt};
use tower_oauth::{BoxError, Buffered, OAuthLayer, TokenHandle, TokenSet, source_fn};

use crate::harness::until;

/// What the server got of a request's body.
#[derive(Debug, Default)]
struct Upload {
    authorization: String,
    /// `content-length` and `transfer-encoding`.
    framing: [Option<String>; 2],
    body: Vec<u8>,
    trailers: Option<HeaderMap>,
    /// Whether it came to a clean end, once there is one.
    complete: Option<bool>,
}

type Uploads = Arc<Mutex<Vec<Upload>>>;

/// Starts a server that takes `token-2` only. It refuses a request before its body, or after it.
async fn server(early: bool) -> (String, Uploads) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let uploads = Uploads::default();
    let shared = uploads.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let uploads = shared.clone();
            let service = service_fn(move |request| answer(uploads.clone(), request, early));
            tokio::spawn(async move {
                let server = auto::Builder::new(TokioExecutor::new());
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    (url, uploads)
}

async fn answer(
    uploads: Uploads,
    request: Request<Incoming>,
    early: bool,
) -> Result<Response<Empty<Bytes>>, Infallible> {
    let field = |name| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    let upload = Upload {
        authorization: field(header::AUTHORIZATION).unwrap(),
        framing: [field(header::CONTENT_LENGTH), field(header::TRANSFER_ENCODING)],
        ..Upload::default()
    };
    let accepted = upload.authorization == "Bearer token-2";
    let number = {
        let mut uploads = uploads.lock().unwrap();
        uploads.push(upload);
        uploads.len() - 1
    };
    let reading = tokio::spawn(read(uploads, number, request.into_body()));
    if accepted || !early {
        reading.await.unwrap();
    }
    let mut response = Response::new(Empty::new());
    if !accepted {
        *response.status_mut() = StatusCode::UNAUTHORIZED;
        let challenge = HeaderValue::from_static(r#"Bearer error="invalid_token""#);
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    Ok(response)
}

async fn read(uploads: Uploads, number: usize, mut body: Incoming) {
    let complete = loop {
        match body.frame().await {
            None => break true,
            Some(Err(_)) => break false,
            Some(Ok(frame)) => {
                let upload = &mut uploads.lock().unwrap()[number];
                match frame.into_data() {
                    Ok(data) => upload.body.extend(data),
                    Err(frame) => upload.trailers = frame.into_trailers().ok(),
                }
            }
        }
    };
    uploads.lock().unwrap()[number].complete = Some(complete);
}

type AnyBody = BoxBody<Bytes, BoxError>;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Below {
    Hyper1,
    Hyper2,
    Reqwest1,
    Reqwest2,
}

const ALL: [Below; 4] = [Below::Hyper1, Below::Hyper2, Below::Reqwest1, Below::Reqwest2];

impl Below {
    fn is_http1(self) -> bool {
        matches!(self, Self::Hyper1 | Self::Reqwest1)
    }

    /// Sends a body through the layer, with a limit of 1 MiB; returns the status. The second token
    /// takes this long to come.
    async fn send(self, url: &str, body: AnyBody, renewal: Duration) -> Result<u16, BoxError> {
        let issued = AtomicU32::new(0);
        let tokens = TokenHandle::spawn(source_fn(move |_| {
            let before = issued.fetch_add(1, Ordering::Relaxed);
            async move {
                sleep(renewal * before).await;
                TokenSet::bearer(format!("token-{}", before + 1))
            }
        }));
        tokens.ready().await?;
        let layer = OAuthLayer::new(tokens, url.parse()?).replay(Buffered::up_to(1024 * 1024));
        let request = Request::post(url).header(header::TRAILER, "x-end").body(body)?;
        let http2 = !self.is_http1();
        let status = match self {
            Self::Hyper1 | Self::Hyper2 => {
                let mut client = Client::builder(TokioExecutor::new());
                let client = client.http2_only(http2).build_http();
                ServiceBuilder::new().layer(layer).service(client).oneshot(request).await?.status()
            }
            Self::Reqwest1 | Self::Reqwest2 => {
                let client = reqwest::Client::builder().no_proxy();
                let client = if http2 { client.http2_prior_knowledge() } else { client };
                let client = ServiceBuilder::new().layer(layer).service(client.build()?);
                let request = request.map(reqwest::Body::wrap);
                client.oneshot(reqwest::Request::try_from(request)?).await?.status()
            }
        };
        Ok(status.as_u16())
    }
}

/// A stream of these pieces, with a pause before each, and this at its end.
fn stream(
    pieces: &[&'static str],
    pause: Duration,
    end: Option<Result<Frame<Bytes>, BoxError>>,
) -> AnyBody {
    let (sender, receiver) = mpsc::channel(1);
    let pieces: Vec<_> = pieces
        .iter()
        .map(|piece| Ok(Frame::data(Bytes::from_static(piece.as_bytes()))))
        .chain(end)
        .collect();
    tokio::spawn(async move {
        for piece in pieces {
            sleep(pause).await;
            if sender.send(piece).await.is_err() {
                return;
            }
        }
    });
    BodyExt::boxed(StreamBody::new(ReceiverStream::new(receiver)))
}

fn chain(error: &BoxError) -> String {
    let mut all = vec![error.to_string()];
    let mut source = error.source();
    while let Some(error) = source {
        all.push(error.to_string());
        source = error.source();
    }
    all.join(": ")
}

/// Each attempt waited until the first one had been sent in full, and was then not made: nobody gave
/// the body back while the connection held it.
#[tokio::test]
async fn f84_a_slow_upload_that_is_refused_early_is_sent_again_from_where_it_stood() {
    const PIECES: [&str; 10] = ["0;", "1;", "2;", "3;", "4;", "5;", "6;", "7;", "8;", "9;"];
    let upload = |below: Below| async move {
        let (url, uploads) = server(true).await;
        let body = stream(&PIECES, Duration::from_millis(200), None);
        let sent = timeout(Duration::from_secs(20), below.send(&url, body, Duration::ZERO)).await;
        assert_eq!(sent.expect("it hangs").unwrap(), 200, "{below:?}");
        // Never a clean end: it would be a shorter body that looks whole.
        let ended = || uploads.lock().unwrap()[0].complete.is_some();
        until("the first attempt ends", ended).await;
        let uploads = uploads.lock().unwrap();
        let [first, second] = &uploads[..] else { panic!("{uploads:?}") };
        assert_eq!((first.complete, second.complete), (Some(false), Some(true)), "{below:?}");
        assert!(first.body.len() < 10, "{below:?}: it took over late: {first:?}");
        assert_eq!(second.body, PIECES.concat().as_bytes(), "{below:?}");
    };
    tokio::join!(upload(ALL[0]), upload(ALL[1]), upload(ALL[2]), upload(ALL[3]));
}

/// The server stored what stood before the error, and answered 200.
#[tokio::test]
async fn f83_a_body_that_fails_half_way_is_not_sent_again_as_if_it_were_whole() {
    const MS: Duration = Duration::from_millis(1);
    // It fails before the second attempt could begin, or in the midst of that, or in the midst of the
    // first one.
    for (pause, renewal, early) in [(20, 300, true), (100, 0, true), (0, 0, true), (20, 0, false)] {
        let upload = |below: Below| async move {
            let (url, uploads) = server(early).await;
            let failure = Some(Err("the disk is gone".into()));
            let body = stream(&["first,", "second,"], MS * pause, failure);
            let sent = timeout(Duration::from_secs(20), below.send(&url, body, MS * renewal)).await;
            let error = chain(&sent.expect("it hangs").expect_err("the body has failed"));
            // While it sends, a client of HTTP/2 does not pass the body's error on.
            if below.is_http1() || renewal > 0 {
                assert!(error.contains("the disk is gone"), "{below:?}: {error}");
            }
            let ended = || uploads.lock().unwrap().iter().all(|upload| upload.complete.is_some());
            until("the attempts end", ended).await;
            let uploads = uploads.lock().unwrap();
            assert_eq!(uploads.len(), if renewal > 0 { 1 } else { uploads.len().min(2) });
            let complete = uploads.iter().any(|upload| upload.complete == Some(true));
            assert!(!complete, "{below:?}: {uploads:?}");
        };
        tokio::join!(upload(ALL[0]), upload(ALL[1]), upload(ALL[2]), upload(ALL[3]));
    }
}

/// The first attempt was sent in chunks, with trailers, and the second with a length and without.
#[tokio::test]
async fn f106_each_attempt_has_the_same_framing_and_trailers() {
    let end = || {
        HeaderMap::from_iter([(
            header::HeaderName::from_static("x-end"),
            HeaderValue::from_static("1"),
        )])
    };
    let with_trailers = || Some(Ok(Frame::trailers(end())));
    for below in ALL {
        let bodies: [(AnyBody, &str, Option<HeaderMap>, bool); 6] = [
            (stream(&["a", "b"], Duration::ZERO, with_trailers()), "ab", Some(end()), false),
            (stream(&["a", "b"], Duration::ZERO, None), "ab", None, false),
            (stream(&[], Duration::ZERO, with_trailers()), "", Some(end()), false),
            (stream(&[], Duration::ZERO, None), "", None, false),
            (boxed(Full::from("ab")), "ab", None, true),
            (boxed(Empty::new()), "", None, true),
        ];
        for (body, text, trailers, exact) in bodies {
            let (url, uploads) = server(false).await;
            assert_eq!(below.send(&url, body, Duration::ZERO).await.unwrap(), 200);
            let uploads = uploads.lock().unwrap();
            let [first, second] = &uploads[..] else { panic!("{uploads:?}") };
            let case = format!("{below:?} {text:?} {trailers:?} {uploads:?}");
            assert_eq!(first.framing, second.framing, "{case}");
            for upload in [first, second] {
                assert_eq!(
                    (&upload.body[..], upload.complete),
                    (text.as_bytes(), Some(true)),
                    "{case}"
                );
                assert_eq!(upload.trailers, trailers, "{case}");
                let [length, encoding] = &upload.framing;
                if below.is_http1() {
                    assert_eq!(encoding.as_deref(), (!exact).then_some("chunked"), "{case}");
                }
                if text == "ab" {
                    assert_eq!(length.as_deref(), exact.then_some("2"), "{case}");
                }
            }
        }
    }
}

fn boxed(body: impl Body<Data = Bytes, Error = Infallible> + Send + Sync + 'static) -> AnyBody {
    BodyExt::boxed(body.map_err(|never| match never {}))
}
