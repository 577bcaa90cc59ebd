//! Private keys, after a signature.

use std::{fs::File, io::Read};

use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use tower_oauth::{
    ClientAssertion, ClientCredentials, FetchContext, SecretSource, SigningAlgorithm, SigningKey,
    TokenSource,
};
use zeroize::Zeroizing;

use crate::{
    life::{assert_absent, live, tokens, transport},
    scan::Canary,
};

/// RFC 8410: a `PrivateKeyInfo` of Ed25519, up to the key.
const ED25519: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

/// A key as JWK or as PEM, and what must not stay of it.
fn key(pem: bool) -> (SecretSource, [Canary; 2]) {
    let mut der = Zeroizing::new(ED25519.to_vec());
    der.resize(48, 0);
    File::open("/dev/urandom").unwrap().read_exact(&mut der[16..]).unwrap();
    let raw = Canary::of("key", &der[16..]);
    let mut text = Zeroizing::new(String::with_capacity(512));
    let start;
    if pem {
        text.push_str("-----BEGIN PRIVATE KEY-----\n");
        start = text.len() + 22;
        BASE64_STANDARD.encode_string(&der, &mut text);
        let encoded = Canary::of("encoded key", &text.as_bytes()[start..]);
        text.push_str("\n-----END PRIVATE KEY-----\n");
        (SecretSource::literal(text.as_str()), [raw, encoded])
    } else {
        text.push_str(r#"{"kty":"OKP","crv":"Ed25519","kid":"0123456789012345678901234","d":""#);
        start = text.len();
        BASE64_URL_SAFE_NO_PAD.encode_string(&der[16..], &mut text);
        let encoded = Canary::of("encoded key", &text.as_bytes()[start..]);
        text.push_str(r#""}"#);
        (SecretSource::literal(text.as_str()), [raw, encoded])
    }
}

#[tokio::test]
async fn log_02_f58_a_private_key_is_wiped() {
    for pem in [false, true] {
        let (text, canaries) = key(pem);
        let key = if pem {
            SigningKey::pem(text, SigningAlgorithm::EdDsa)
        } else {
            SigningKey::jwk(text)
        };
        let auth = ClientAssertion::private_key("orders", key, "https://as.example");
        let source = ClientCredentials::builder("https://as.example/token", auth)
            .transport(transport(tokens()))
            .build()
            .unwrap();
        let [raw, encoded] = &canaries;
        live(source, &[encoded]).await;
        assert_absent(&[raw, encoded]);
    }
}

/// Larger than what an allocator soon gives away again.
#[tokio::test]
async fn log_02_f58_a_large_key_in_pem_is_wiped() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/keys/pem_rsa");
    let mut text = Zeroizing::new(String::with_capacity(8192));
    File::open(path).unwrap().read_to_string(&mut text).unwrap();
    let pem = &text[1..]; // without what chooses the format
    let canaries = {
        let lines = pem.lines().filter(|line| !line.starts_with('-'));
        let mut body = Zeroizing::new(String::with_capacity(8192));
        lines.for_each(|line| body.push_str(line));
        let mut der = Zeroizing::new(vec![0; 8192]);
        let size = BASE64_STANDARD.decode_slice(body.as_str(), &mut der).unwrap();
        let last_line = pem.lines().rev().nth(2).unwrap();
        [
            Canary::of("end of the key", &der[..size]),
            Canary::of("middle of the key", &der[size / 2..size / 2 + 48]),
            Canary::of("encoded key", last_line.as_bytes()),
        ]
    };
    let key = SigningKey::pem(SecretSource::literal(pem), SigningAlgorithm::Rs256);
    drop(text);
    let auth = ClientAssertion::private_key("orders", key, "https://as.example");
    let source = ClientCredentials::builder("https://as.example/token", auth)
        .transport(transport(tokens()))
        .build()
        .unwrap();
    let [end, middle, encoded] = &canaries;
    drop(source.fetch(FetchContext::first()).await.unwrap());
    assert!(encoded.count() > 0);
    drop(source);
    assert_absent(&[end, middle, encoded]);
}

#[tokio::test]
async fn log_02_f58_a_secret_that_signs_is_wiped() {
    let secret = Canary::new("signing secret");
    let auth = ClientAssertion::client_secret("orders", secret.reveal(), "https://as.example");
    let source = ClientCredentials::builder("https://as.example/token", auth)
        .transport(transport(tokens()))
        .build()
        .unwrap();
    live(source, &[&secret]).await;
    assert_absent(&[&secret]);
}
