//! The key file of a service account, with a key made for this run.

use aws_lc_rs::{
    encoding::AsDer,
    rsa::{KeyPair, KeySize},
};
use base64::{Engine, prelude::BASE64_STANDARD};

use crate::endpoint::Endpoint;

pub fn service_account(endpoint: &Endpoint) -> String {
    let pair = KeyPair::generate(KeySize::Rsa2048).expect("a key");
    let der = pair.as_der().expect("the key as PKCS #8");
    let text = BASE64_STANDARD.encode(der.as_ref());
    let label = "PRIVATE KEY";
    serde_json::json!({
        "type": "service_account",
        "project_id": "project",
        "client_email": "bench@project.example",
        "token_uri": endpoint.url,
        "private_key": format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n"),
    })
    .to_string()
}
