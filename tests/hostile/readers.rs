//! Everything that reads something from the network.

use std::{convert::Infallible, future::Future};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_oauth::{
    ClientAuth, ClientCredentials, Discovery, ExternalAccount, FetchContext, FileToken, FixedToken,
    Introspection, OAuthLayer, RefreshToken, ResourceDiscovery, Revocation, TokenExchange,
    TokenHandle, TokenSet, TokenSource, Transport,
};

use crate::{
    cost::{check, check_up_to},
    shapes::SHAPES,
};

const URL: &str = "https://idp.example/token";

/// A server that always answers this.
fn server(status: u16, content_type: &'static str, body: &[u8]) -> Transport {
    // One copy, as the network makes it.
    let body = Bytes::copy_from_slice(body);
    Transport::new(service_fn(move |_: Request<Full<Bytes>>| {
        let answer = Response::builder().status(status).header("content-type", content_type);
        let answer = answer.body(Full::new(body.clone())).unwrap();
        async move { Ok::<_, Infallible>(answer) }
    }))
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

/// Has each shape read.
fn each(read: impl Fn(&[u8])) {
    for (name, shape) in SHAPES {
        check(name, shape, &read);
    }
}

fn client() -> ClientAuth {
    ClientAuth::basic("orders", "secret")
}

#[test]
fn f86_an_answer_of_the_token_endpoint() {
    for content_type in ["application/json", "application/x-www-form-urlencoded"] {
        each(|body| {
            let source = ClientCredentials::builder(URL, client())
                .scope("a")
                .transport(server(200, content_type, body))
                .build();
            drop(run(source.unwrap().fetch(FetchContext::first())));
        });
    }
}

#[test]
fn f86_an_answer_of_another_largest_size() {
    for cap in [64 * 1024, 256 * 1024, 2 * 1024 * 1024] {
        for status in [200, 400] {
            for (name, shape) in SHAPES {
                check_up_to(cap, name, shape, &|body| {
                    let source = ClientCredentials::builder(URL, client())
                        .body_limit(cap)
                        .transport(server(status, "application/json", body))
                        .build();
                    drop(run(source.unwrap().fetch(FetchContext::first())));
                });
            }
        }
    }
}

#[test]
fn f86_an_answer_that_is_read_strictly_or_at_a_pointer() {
    each(|body| {
        let source = RefreshToken::builder(URL, client(), "r1")
            .strict()
            .transport(server(200, "application/json", body))
            .build();
        drop(run(source.unwrap().fetch(FetchContext::first())));
    });
    each(|body| {
        let source = ClientCredentials::builder(URL, client())
            .token_at("/access_token/7")
            .transport(server(200, "application/json", body))
            .build();
        drop(run(source.unwrap().fetch(FetchContext::first())));
    });
}

#[test]
fn f86_an_error_of_the_token_endpoint() {
    for status in [400, 401] {
        each(|body| {
            let source = ClientCredentials::builder(URL, client())
                .transport(server(status, "application/json", body))
                .build();
            let error = run(source.unwrap().fetch(FetchContext::first())).unwrap_err();
            assert!(error.to_string().len() <= 1024);
        });
    }
}

#[test]
fn f86_an_issued_token() {
    each(|body| {
        let exchange = TokenExchange::builder(URL, client(), "s", TokenExchange::ACCESS_TOKEN)
            .requested_token_type(TokenExchange::ID_JAG)
            .transport(server(200, "application/json", body))
            .build();
        drop(run(exchange.unwrap().issue()));
    });
}

#[test]
fn f86_an_answer_of_the_revocation_endpoint() {
    for status in [200, 400] {
        each(|body| {
            let revocation = Revocation::builder(URL, client())
                .transport(server(status, "application/json", body))
                .build();
            drop(run(revocation.unwrap().revoke_access_token("t")));
        });
    }
}

#[test]
fn f86_an_answer_of_the_introspection_endpoint() {
    for status in [200, 400] {
        each(|body| {
            let introspection = Introspection::builder(URL, client())
                .transport(server(status, "application/json", body))
                .build();
            if let Ok(info) = run(introspection.unwrap().introspect("t")) {
                drop((info.scopes(), info.audience().len()));
            }
        });
    }
}

#[test]
fn f86_the_answer_to_an_impersonation() {
    let configuration = r#"{"type":"external_account","audience":"a",
        "subject_token_type":"urn:ietf:params:oauth:token-type:jwt",
        "token_url":"https://sts.googleapis.com/v1/token",
        "service_account_impersonation_url":"https://iamcredentials.googleapis.com/v1/x",
        "credential_source":{"file":"/nowhere"}}"#;
    for status in [200, 403] {
        each(|body| {
            let body = Bytes::copy_from_slice(body);
            let transport = Transport::new(service_fn(move |request: Request<Full<Bytes>>| {
                let federated = r#"{"access_token":"t","token_type":"Bearer","issued_token_type":
                    "urn:ietf:params:oauth:token-type:access_token","expires_in":3600}"#;
                let (status, body) = match request.uri().host() {
                    Some("sts.googleapis.com") => (200, federated.into()),
                    _ => (status, body.clone()),
                };
                let answer = Response::builder().status(status).body(Full::new(body)).unwrap();
                async move { Ok::<_, Infallible>(answer) }
            }));
            let source = ExternalAccount::builder(configuration)
                .unwrap()
                .subject_token("subject")
                .transport(transport)
                .build();
            drop(run(source.unwrap().fetch(FetchContext::first())));
        });
    }
}

#[test]
fn f86_the_metadata_of_an_issuer() {
    each(|body| {
        let discovery = Discovery::issuer("https://idp.example").transport(server(
            200,
            "application/json",
            body,
        ));
        drop(run(discovery.metadata()));
    });
}

#[test]
fn f86_the_metadata_of_a_resource() {
    each(|body| {
        let transport = server(200, "application/json", body);
        let resources = ResourceDiscovery::new([Discovery::issuer("https://idp.example")]);
        drop(run(resources.transport(transport).of_resource("https://api.example")));
    });
}

/// The token of a file has the same reader as one of a program, or an assertion. It has 64 KiB at most.
#[test]
fn f86_the_claims_of_a_token() {
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("hostile-claims");
    for (name, shape) in SHAPES {
        let claims = shape(48_000);
        let claims = base64::Engine::encode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, claims);
        std::fs::write(&path, format!("a.{claims}.b")).unwrap();
        let read = || run(FileToken::new(&path).fetch(FetchContext::first())).unwrap();
        let memory = allocation_counter::measure(|| drop(read())).bytes_max;
        assert!(memory <= 4 * 64 * 1024, "{name}: {memory} bytes");
    }
}

/// Header fields are bounded by the HTTP client, and to far less than this.
#[test]
fn f86_header_fields_of_an_answer() {
    for name in ["retry-after", "date", "dpop-nonce", "content-type", "cache-control", "age"] {
        for (shape, piece) in
            [("digits", "9"), ("commas", ","), ("list", "max-age=1,"), ("text", "a")]
        {
            let make = |size: usize| piece.repeat(size / piece.len()).into_bytes();
            check(&format!("{name} of {shape}"), &make, &|value| {
                let value = http::HeaderValue::from_bytes(value).unwrap();
                let transport = Transport::new(service_fn(move |_: Request<Full<Bytes>>| {
                    let answer = Response::builder().status(429).header(name, value.clone());
                    let answer = answer.body(Full::new(Bytes::from_static(b"{}"))).unwrap();
                    async move { Ok::<_, Infallible>(answer) }
                }));
                let source = ClientCredentials::builder(URL, client()).transport(transport.clone());
                drop(run(source.build().unwrap().fetch(FetchContext::first())));
                drop(run(Discovery::issuer("https://idp.example").transport(transport).metadata()));
            });
        }
    }
}

#[test]
fn f86_challenges_of_an_api() {
    let pieces = [
        ("commas", ","),
        ("schemes", "a,"),
        ("parameters", "Bearer a=b,"),
        ("quotes", "Bearer a=\"\\\\\","),
        ("an open quote", "Bearer a=\"b"),
        ("scopes", "Bearer scope=\"a b c d e f\","),
        ("spaces", " "),
    ];
    for (shape, piece) in pieces {
        let make = |size: usize| piece.repeat(size / piece.len()).into_bytes();
        check(shape, &make, &|value| {
            let value = http::HeaderValue::from_bytes(value).unwrap();
            let api = service_fn(move |_: Request<String>| {
                let answer =
                    Response::builder().status(401).header("www-authenticate", value.clone());
                let answer = answer.body(String::new()).unwrap();
                async move { Ok::<_, Infallible>(answer) }
            });
            run(async {
                let tokens = TokenHandle::spawn(FixedToken::new(TokenSet::bearer("t").unwrap()));
                let layer = OAuthLayer::new(tokens, "https://api.example".parse().unwrap());
                let request = Request::get("https://api.example/").body(String::new()).unwrap();
                let service = ServiceBuilder::new().layer(layer).service(api);
                service.oneshot(request).await.unwrap();
            });
        });
    }
}
