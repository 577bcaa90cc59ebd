//! Mutual TLS at the token endpoint.

use std::fs;

use tower_oauth::{
    ClientAuth, ClientCertificate, ClientCredentials, ConfigError, Error, ErrorKind, FetchContext,
    RefreshToken, TokenSet, TokenSource, Transport,
};

use crate::{
    common::certificates::{Authority, Files, Pair},
    server::{Seen, Server},
};

#[tokio::test]
async fn mtl_01_the_certificate_authenticates_and_only_the_id_is_sent_beside_it() {
    let authority = Authority::new();
    let server = Server::start_authorization_server(&authority).await;
    let (signed, own) = (authority.client("orders"), Pair::self_signed("orders"));
    for (auth, pair) in [
        (ClientAuth::tls("orders"), signed.clone()),
        (ClientAuth::self_signed_tls("orders"), own.clone()),
    ] {
        let certificate = ClientCertificate::pem(pair.pem, pair.key_pem);
        let url = server.url("/token");
        let source = ClientCredentials::builder(&url, auth.clone())
            .transport(server.transport(&certificate))
            .build();
        fetch(&source.unwrap()).await.unwrap();
        let source = RefreshToken::builder(&url, auth, "from before")
            .transport(server.transport(&certificate))
            .build();
        fetch(&source.unwrap()).await.unwrap();
    }
    let seen = server.seen();
    let presented: Vec<_> = seen.iter().map(|seen| seen.certificate.clone().unwrap()).collect();
    assert!(presented == [signed.der.clone(), signed.der, own.der.clone(), own.der]);
    for (seen, expected) in seen.iter().zip(["grant_type", "refresh_token"].iter().cycle()) {
        assert_eq!(seen.header("authorization"), None);
        let params = seen.params();
        let id = params.iter().filter(|(name, _)| name.starts_with("client_"));
        assert!(id.eq([&("client_id".to_owned(), "orders".to_owned())]), "{params:?}");
        assert!(params.iter().any(|(name, _)| name == expected));
    }
}

#[tokio::test]
async fn mtl_03_another_certificate_gets_a_connection_of_its_own_and_the_same_one_keeps_it() {
    let authority = Authority::new();
    let server = Server::start_authorization_server(&authority).await;
    let (first, second) = (authority.client("first"), authority.client("second"));
    let files = Files::new(&first);
    let certificate = files.certificate();
    let source = source(&server, &certificate);

    fetch(&source).await.unwrap();
    files.write(&first); // written anew, and the same
    fetch(&source).await.unwrap();
    files.write(&second);
    fetch(&source).await.unwrap();
    fetch(&source).await.unwrap();
    files.write(&first); // and back: the connections of before are gone
    fetch(&source).await.unwrap();

    let seen = server.seen();
    let connections: Vec<_> = seen.iter().map(|seen| seen.connection).collect();
    assert_eq!(connections, [0, 0, 1, 1, 2]);
    let expected = [&first, &first, &second, &second, &first].map(|pair| &pair.der);
    assert!(seen.iter().map(presented).eq(expected));
}

#[tokio::test]
async fn a_certificate_whose_key_has_not_come_yet_is_an_error_that_passes() {
    let authority = Authority::new();
    let server = Server::start_authorization_server(&authority).await;
    let (first, second) = (authority.client("first"), authority.client("second"));
    let files = Files::new(&first);
    let certificate = files.certificate();
    let source = source(&server, &certificate);
    fetch(&source).await.unwrap();

    files.write_certificate(&second.pem);
    let mismatch = fetch(&source).await.unwrap_err();
    fs::remove_file(files.key()).unwrap();
    let missing = fetch(&source).await.unwrap_err();
    fs::write(files.key(), "hunter2").unwrap();
    let unreadable = fetch(&source).await.unwrap_err();
    for (error, problem) in [
        (mismatch, "not the certificate's"),
        (missing, "tls.key"),
        (unreadable, "no private key in PEM"),
    ] {
        assert_eq!(error.kind(), ErrorKind::Credential);
        assert!(error.is_retryable() && error.to_string().contains(problem), "{error}");
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
    assert_eq!(server.seen().len(), 1, "nothing was sent meanwhile");

    files.write(&second);
    fetch(&source).await.unwrap();
    assert_eq!(presented(&server.seen()[1]), &second.der);
}

#[tokio::test]
async fn one_text_may_hold_the_certificate_and_its_key() {
    let authority = Authority::new();
    let server = Server::start_authorization_server(&authority).await;
    let pair = authority.client("orders");
    for bundle in [
        format!("{}{}{}", pair.pem, authority.root_pem, pair.key_pem),
        format!("{}{}", pair.key_pem, pair.pem),
    ] {
        let certificate = ClientCertificate::pem_bundle(bundle);
        fetch(&source(&server, &certificate)).await.unwrap();
        assert_eq!(presented(server.seen().last().unwrap()), &pair.der);
    }
}

#[tokio::test]
async fn mtl_03_f15_a_redirect_is_refused_whatever_the_settings_say() {
    let authority = Authority::new();
    let elsewhere = Server::start_authorization_server(&authority).await;
    let location = elsewhere.url("/token");
    let server = Server::start(&authority, move |_| {
        (format!("307 Temporary Redirect\r\nlocation: {location}"), String::new())
    })
    .await;
    let certificate = Pair::self_signed("orders");
    let certificate = ClientCertificate::pem(certificate.pem, certificate.key_pem);
    let trust = server.trust();
    let transport = Transport::mtls_with(&certificate, move |client| {
        trust(client).redirect(reqwest::redirect::Policy::limited(3))
    });
    let source = ClientCredentials::builder(server.url("/token"), ClientAuth::tls("orders"))
        .transport(transport)
        .build()
        .unwrap();
    assert_eq!(fetch(&source).await.unwrap_err().kind(), ErrorKind::MalformedResponse);
    assert!(elsewhere.seen().is_empty());
}

#[test]
fn a_client_that_could_not_present_a_certificate_is_refused() {
    let pair = Pair::self_signed("orders");
    let certificate = ClientCertificate::pem(pair.pem, pair.key_pem);
    for (url, transport, problem) in [
        ("https://as.example/token", None, "Transport::mtls"),
        ("http://127.0.0.1/token", Some(Transport::mtls(&certificate)), "plain http"),
    ] {
        let mut builder = ClientCredentials::builder(url, ClientAuth::tls("orders"));
        if let Some(transport) = transport {
            builder = builder.transport(transport);
        }
        let error = builder.build().unwrap_err();
        assert!(matches!(error, ConfigError::ClientAuth { method: "tls_client_auth", .. }));
        assert!(error.to_string().contains(problem), "{error}");
    }
}

#[tokio::test]
async fn f57_debug_shows_where_a_certificate_comes_from_and_nothing_of_its_key() {
    let pair = Pair::self_signed("orders");
    let secret = pair.key_pem.lines().nth(1).unwrap().to_owned();
    let certificate = ClientCertificate::pem(pair.pem.clone(), pair.key_pem);
    let thumbprint = certificate.thumbprint().await.unwrap();
    let shown = format!("{certificate:?} {:?}", Transport::mtls(&certificate));
    assert!(shown.contains(&thumbprint) && !shown.contains(&secret), "{shown}");
    let bundle = ClientCertificate::pem_bundle(pair.pem);
    let error = bundle.thumbprint().await.unwrap_err();
    assert!(error.to_string().contains("no private key"), "{error}");
}

fn source(server: &Server, certificate: &ClientCertificate) -> ClientCredentials {
    ClientCredentials::builder(server.url("/token"), ClientAuth::tls("orders"))
        .transport(server.transport(certificate))
        .build()
        .unwrap()
}

async fn fetch(source: &impl TokenSource) -> Result<TokenSet, Error> {
    source.fetch(FetchContext::first()).await
}

fn presented(seen: &Seen) -> &Vec<u8> {
    seen.certificate.as_ref().expect("a certificate was presented")
}
