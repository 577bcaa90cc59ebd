use std::{
    collections::HashSet,
    time::{Duration, SystemTime},
};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519, UnparsedPublicKey};
use http::{Method, Uri};
use serde_json::Value;

use super::*;

/// RFC 7515 App. A.3.
const P256: &str = r#"{"kty":"EC","crv":"P-256",
    "x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    "d":"jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"}"#;

/// RFC 8037 App. A.1.
const ED: &str = r#"{"kty":"OKP","crv":"Ed25519",
    "d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",
    "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

fn keys() -> [DpopKey; 2] {
    [P256, ED].map(|jwk| DpopKey::from_jwk(&jwk.into()).unwrap())
}

fn part(text: &str) -> Value {
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap()
}

/// The parts of a proof whose signature is good by the key in its own header.
fn verified(proof: &HeaderValue) -> (Value, Value) {
    let text = proof.to_str().unwrap();
    let (message, signature) = text.rsplit_once('.').unwrap();
    let (header, claims) = message.split_once('.').unwrap();
    let (header, claims) = (part(header), part(claims));
    let bytes =
        |name: &str| BASE64_URL_SAFE_NO_PAD.decode(header["jwk"][name].as_str().unwrap()).unwrap();
    let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
    assert_eq!(signature.len(), 64);
    let good = match header["alg"].as_str().unwrap() {
        "ES256" => {
            let point = [&[4][..], &bytes("x"), &bytes("y")].concat();
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
                .verify(message.as_bytes(), &signature)
        }
        _ => UnparsedPublicKey::new(&ED25519, bytes("x")).verify(message.as_bytes(), &signature),
    };
    good.expect("the proof's own key made its signature");
    (header, claims)
}

fn proof(key: &DpopKey, uri: &str, token_hash: Option<&str>) -> HeaderValue {
    let uri: Uri = uri.parse().unwrap();
    let url = ProofUrl::of_uri(&uri).unwrap();
    let server = key.server(Role::Resource, url);
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_562_262_618);
    key.prove(&Proof { method: &Method::GET, url, now, token_hash }, &server).unwrap()
}

#[test]
fn dpo_01_a_proof_has_its_type_an_asymmetric_algorithm_and_the_public_key() {
    for (key, alg) in keys().iter().zip(["ES256", "EdDSA"]) {
        let (header, _) = verified(&proof(key, "https://api.example/a", None));
        assert_eq!(header["typ"], "dpop+jwt");
        assert_eq!(header["alg"], alg);
        let members: HashSet<_> = header["jwk"].as_object().unwrap().keys().cloned().collect();
        let public =
            if alg == "ES256" { &["kty", "crv", "x", "y"][..] } else { &["kty", "crv", "x"] };
        assert_eq!(members, public.iter().map(|name| (*name).to_owned()).collect());
    }
}

#[test]
fn dpo_02_every_proof_is_new_and_says_method_time_and_url() {
    let [key, _] = keys();
    let mut seen = HashSet::new();
    for _ in 0..10_000 {
        let value = proof(&key, "https://resource.example.org/protectedresource?a=b", None);
        let claims = part(value.to_str().unwrap().split('.').nth(1).unwrap());
        assert_eq!(claims["htm"], "GET");
        assert_eq!(claims["htu"], "https://resource.example.org/protectedresource");
        assert_eq!(claims["iat"], 1_562_262_618 - 1, "dpo_13: never from the future");
        assert_eq!(claims.as_object().unwrap().len(), 4);
        let id = claims["jti"].as_str().unwrap().to_owned();
        assert!(BASE64_URL_SAFE_NO_PAD.decode(&id).unwrap().len() >= 12);
        assert!(seen.insert(id));
    }
}

#[test]
fn dpo_04_the_hash_of_the_access_token_is_the_published_one() {
    let hash = sha256_base64url("Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU");
    assert_eq!(hash, "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo");
    assert_eq!(sha256_base64url("mF_9.B5f-4.1JqM"), "uOFIVFsTx4vHTaLxpydd1x5W3ezhKdfS97PswG95lNo");
    let [key, _] = keys();
    let (_, claims) = verified(&proof(&key, "https://api.example/a", Some(&hash)));
    assert_eq!(claims["ath"], hash);
    let (_, claims) = verified(&proof(&key, "https://api.example/a", None));
    assert!(claims.get("ath").is_none());
}

#[test]
fn dpo_09_the_nonce_of_a_server_is_in_its_proofs_and_in_no_others() {
    let [key, _] = keys();
    let uri: Uri = "https://api.example/a".parse().unwrap();
    let server = key.server(Role::Resource, ProofUrl::of_uri(&uri).unwrap());
    let nonce = "eyJ7S_zG.eyJH0-Z.HX4w-7v";
    server.learn(&http::HeaderMap::from_iter([(
        "dpop-nonce".parse().unwrap(),
        HeaderValue::from_static(nonce),
    )]));
    let (_, claims) = verified(&proof(&key, "https://api.example/b", None));
    assert_eq!(claims["nonce"], nonce);
    let (_, claims) = verified(&proof(&key, "https://api.example:8443/b", None));
    assert!(claims.get("nonce").is_none());
}

#[test]
fn dpo_12_thumbprints_are_the_published_ones() {
    let [p256, ed] = keys();
    assert_eq!(p256.thumbprint(), "oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U");
    assert_eq!(ed.thumbprint(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    // RFC 9449's key, of which only the public half is known, and RFC 7638's.
    for (jwk, thumbprint) in [
        (
            r#"{"crv":"P-256","kty":"EC","x":"l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs","y":"9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA"}"#,
            "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I",
        ),
        (
            r#"{"e":"AQAB","kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"}"#,
            "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs",
        ),
    ] {
        assert_eq!(sha256_base64url(jwk), thumbprint);
    }
}

#[test]
fn dpo_12_a_key_that_was_kept_is_the_same_key() {
    for algorithm in [DpopAlgorithm::Es256, DpopAlgorithm::EdDsa] {
        let key = DpopKey::generate(algorithm).unwrap();
        let again = DpopKey::from_pem(&key.to_pem().unwrap()).unwrap();
        assert_eq!(again.thumbprint(), key.thumbprint());
        assert_ne!(DpopKey::generate(algorithm).unwrap().thumbprint(), key.thumbprint());
        verified(&proof(&again, "https://api.example/a", None));
    }
}

#[test]
fn what_is_no_key_is_refused_and_not_repeated() {
    let rsa = r#"{"kty":"RSA","n":"aHVudGVy","e":"AQAB","d":"aHVudGVy"}"#;
    for text in ["", "hunter2", rsa, "{}", "-----BEGIN PRIVATE KEY-----\nhunter2\n"] {
        for outcome in [DpopKey::from_pem(&text.into()), DpopKey::from_jwk(&text.into())] {
            let error = outcome.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Credential);
            assert!(!format!("{error} {error:?}").contains("hunter"), "{error:?}");
        }
    }
}

#[test]
fn f57_debug_shows_the_thumbprint_and_nothing_private() {
    let [key, _] = keys();
    let shown = format!("{key:?}");
    assert!(shown.contains(key.thumbprint()) && !shown.contains("jpsQ"), "{shown}");
}
