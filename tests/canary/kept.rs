//! Stores, configurations, keys of proofs and certificates.

use std::path::PathBuf;

use tower_oauth::{ClientAuth, RefreshToken, testing::Rotation};

use crate::{
    record::Record,
    run::{CLIENT, fetch, server},
    scan::Canary,
};

const STORE_KEY: &str = "c7d19e3b5a8f2046d1b7e94c3f6a8052b9d4e7f1063c5a8e2d9b4f7016c3e5a8";
const OLD_KEY: &str = "4b8e1d7f5c2a9036e8d4b1f7092c5a6e3d8b4f1c7e9a2056d3b8f4e1c7a90253";
const DAMAGED: &str = "dG5Hj2Kl8Mn4Pq7Rs1Tv6Wx9Yz3Ab5Cd0";
const REDIS_PASSWORD: &str = "rP2Lk7Jh4Gf9Ds1Aq6Wm3Ne8Rb5Tv0Yc";
const CONFIGURED: &str = "fG8Uy3Iz6Op1Lk9Jh4Gf7Ds2Am5Nb0Vc";

/// Does everything, and returns all that must not be found in the record.
pub(crate) async fn everything(record: &Record) -> Vec<Canary> {
    let mut canaries = Vec::new();
    #[cfg(feature = "store")]
    canaries.extend(stores(record).await);
    #[cfg(feature = "config")]
    canaries.extend(configurations(record).await);
    #[cfg(feature = "dpop")]
    canaries.extend(proofs(record).await);
    #[cfg(feature = "mtls")]
    canaries.extend(certificates(record).await);
    canaries
}

#[cfg(feature = "store")]
async fn stores(record: &Record) -> Vec<Canary> {
    use tower_oauth::store::{MemoryStore, Persisted};

    let server = server().await;
    server.rotation(Rotation::Always { grace: std::time::Duration::ZERO });
    let initial = server.issue_refresh_token(CLIENT);
    let source = || {
        RefreshToken::builder(server.token_endpoint(), ClientAuth::none(CLIENT), &*initial)
            .build()
            .unwrap()
    };
    let store = MemoryStore::new();
    record.debug(&store);
    let persisted = Persisted::new(source(), store.clone());
    record.debug(&persisted);
    let tokens = crate::run::tokens(record, persisted);
    record.debug(tokens.token().await.unwrap());
    record.debug(tokens.refresh().await.unwrap());
    // Somebody else has spent it: the session ends, and the store says so.
    server.revoke_all();
    record.error(tokens.refresh().await.unwrap_err());
    record.error(tokens.refresh().await.unwrap_err());
    record.debug((&store, tokens.status()));
    #[cfg(all(unix, feature = "store-file"))]
    files(record).await;
    #[cfg(feature = "store-redis")]
    redis(record).await;

    let sent = server.token_requests().into_iter().filter_map(|r| r.param("refresh_token"));
    let mut canaries: Vec<_> =
        sent.map(|token| Canary::new("stored refresh token", token)).collect();
    assert!(!canaries.is_empty());
    canaries.extend([
        Canary::new("key of a store", STORE_KEY),
        Canary::new("old key of a store", OLD_KEY),
        Canary::new("what a damaged file holds", DAMAGED),
        Canary::new("password of Redis", REDIS_PASSWORD),
    ]);
    canaries
}

#[cfg(all(unix, feature = "store-file"))]
async fn files(record: &Record) {
    use std::fs;

    use tower_oauth::{
        ClientCredentials,
        store::{FileStore, KeyRing, Persisted},
    };

    let server = server().await;
    let folder = temporary("canary-store");
    drop(fs::remove_dir_all(&folder));
    let old = || KeyRing::new("old", OLD_KEY).unwrap();
    let both = || KeyRing::new("new", STORE_KEY).unwrap().or("old", OLD_KEY).unwrap();
    let source = |keys: KeyRing| {
        let auth = ClientAuth::basic(CLIENT, DAMAGED);
        let source = ClientCredentials::builder(server.token_endpoint(), auth).build().unwrap();
        let store = FileStore::new(&folder, keys);
        record.debug(&store);
        Persisted::new(source, store)
    };
    record.debug((old(), both()));
    for text in [DAMAGED, &STORE_KEY[1..], &format!("{STORE_KEY}!")] {
        // A key is read when it is needed.
        match KeyRing::new("bad", text) {
            Ok(keys) => drop(fetch(record, &source(keys)).await),
            Err(error) => record.error(error),
        }
    }
    fetch(record, &source(old())).await;
    fetch(record, &source(both())).await;
    fetch(record, &source(KeyRing::new("another", STORE_KEY).unwrap())).await;
    let contents =
        [DAMAGED.to_owned(), format!("{{\"access_token\":\"{DAMAGED}\"}}"), String::new()];
    for contents in contents {
        for file in fs::read_dir(&folder).unwrap() {
            let file = file.unwrap().path();
            if file.is_file() {
                fs::write(file, &contents).unwrap();
            }
        }
        let tokens = crate::run::tokens(record, source(both()));
        if let Err(error) = tokens.token().await {
            record.error(error);
        }
    }
    fs::remove_dir_all(&folder).unwrap();
}

#[cfg(feature = "store-redis")]
async fn redis(record: &Record) {
    use tower_oauth::{
        ClientCredentials, TokenHandle,
        store::{KeyRing, Persisted, RedisStore},
    };

    let server = server().await;
    for url in [
        format!("redis://user:{REDIS_PASSWORD}@127.0.0.1:1/"),
        format!("rediss://:{REDIS_PASSWORD}@127.0.0.1:1/"),
        format!("redis://:{REDIS_PASSWORD}@redis.example/"),
        format!("http://:{REDIS_PASSWORD}@127.0.0.1/"),
        format!("redis://:{REDIS_PASSWORD}/x@127.0.0.1:1/0"),
        format!("{REDIS_PASSWORD}@127.0.0.1"),
    ] {
        let builder = RedisStore::builder(url, KeyRing::new("k", STORE_KEY).unwrap());
        record.debug(&builder);
        match builder.build() {
            Err(error) => record.error(error),
            Ok(store) => {
                record.debug(&store);
                let auth = ClientAuth::basic(CLIENT, DAMAGED);
                let source = ClientCredentials::builder(server.token_endpoint(), auth);
                let persisted = Persisted::new(source.build().unwrap(), store);
                record.debug(&persisted);
                let tokens = TokenHandle::spawn(persisted);
                match tokens.token().await {
                    Ok(token) => record.debug(token),
                    Err(error) => record.error(error),
                }
            }
        }
    }
}

#[cfg(feature = "config")]
async fn configurations(record: &Record) -> Vec<Canary> {
    use tower_oauth::config::OAuthConfig;

    let server = server().await;
    server.client(CLIENT, CONFIGURED);
    let endpoint = server.token_endpoint();
    let good = format!(
        "token_endpoint = {endpoint:?}\norigins = \"http://127.0.0.1:1\"\n\
         client = {{ id = {CLIENT:?}, secret = {{ danger_literal = {CONFIGURED:?} }} }}\n"
    );
    let read = |text: &str| {
        let deserializer = toml::Deserializer::parse(text).map_err(|_| ())?;
        Ok::<_, ()>(OAuthConfig::from_deserializer(deserializer))
    };
    let literal = format!("{{ danger_literal = {CONFIGURED:?} }}");
    for wrong in [
        good.replace(&literal, &format!("{CONFIGURED:?}")),
        good.replace(&literal, &format!("[{CONFIGURED:?}]")),
        good.replace("danger_literal", "literal"),
        good.replace(&format!("id = {CLIENT:?}"), &format!("method = {CONFIGURED:?}")),
        good.replace(&endpoint, &format!("https://user:{CONFIGURED}@idp.example/")),
        good.replace(
            "http://127.0.0.1:1",
            &format!("https://{CONFIGURED}@api.example/?key={CONFIGURED}"),
        ),
        format!("{good}timeout = {CONFIGURED:?}\n"),
        format!("{good}grant = {CONFIGURED:?}\n"),
        format!("{good}strict = {CONFIGURED:?}\n"),
        format!("{good}params = {{ client_secret = {CONFIGURED:?} }}\n"),
    ] {
        let Ok(read) = read(&wrong) else { continue };
        match read {
            Err(error) => record.error(error),
            Ok(config) => {
                record.debug(&config);
                if let Err(error) = config.build() {
                    record.error(error);
                }
            }
        }
    }
    let config = read(&good).unwrap().unwrap();
    let client = config.builder().build().unwrap();
    record.debug((&config, &client, client.config()));
    record.debug(client.tokens().token().await.unwrap());
    server.client(CLIENT, "another");
    record.debug(client.reload(&config).await);
    if let Err(error) = client.tokens().refresh().await {
        record.error(error);
    }
    vec![Canary::new("configured secret", CONFIGURED)]
}

#[cfg(feature = "dpop")]
async fn proofs(record: &Record) -> Vec<Canary> {
    use std::sync::{Arc, Mutex};

    use http::{Request, Response};
    use http_body_util::Full;
    use serde_json::json;
    use tower::{Layer, ServiceExt, service_fn};
    use tower_oauth::{
        ClientCredentials, DpopAlgorithm, DpopKey, OAuthLayer, Secret, TokenHandle, Transport,
    };

    type Body = Full<bytes::Bytes>;

    let key = DpopKey::generate(DpopAlgorithm::Es256).unwrap();
    let pem = key.to_pem().unwrap();
    record.debug((&key, &pem));
    let lines: Vec<_> = pem.expose().lines().filter(|line| !line.starts_with("--")).collect();
    let mut canaries: Vec<_> =
        lines.iter().filter(|line| line.len() > 16).map(|l| Canary::new("DPoP key", *l)).collect();
    assert!(!canaries.is_empty());
    for broken in [
        pem.expose().replace("BEGIN", "BEGUN"),
        pem.expose().replace("PRIVATE", "PUBLIC"),
        pem.expose().replace('\n', ""),
        format!("{{\"kty\":\"EC\",\"crv\":\"P-256\",\"d\":{:?}}}", lines[0]),
    ] {
        let broken = Secret::from(broken);
        record.error(DpopKey::from_pem(&broken).unwrap_err());
        record.error(DpopKey::from_jwk(&broken).unwrap_err());
    }

    // The server, and then the API, repeat each proof and token wherever they can.
    let seen = Arc::new(Mutex::new(Vec::new()));
    let proofs = seen.clone();
    let echo = service_fn(move |request: Request<Body>| {
        let proofs = proofs.clone();
        async move {
            let header = |name| request.headers().get(name).and_then(|v| v.to_str().ok());
            let proof = header("dpop").unwrap_or_default().to_owned();
            let is_first = {
                let mut proofs = proofs.lock().unwrap();
                proofs.push(proof.clone());
                proofs.len() == 1
            };
            let body = if is_first {
                json!({ "error": "invalid_dpop_proof", "error_description": proof, "error_uri": proof })
            } else {
                json!({ "access_token": DAMAGED, "token_type": "DPoP", "expires_in": 3600 })
            };
            let challenge = format!("DPoP error=\"invalid_token\", error_description=\"{proof}\"");
            let answer = Response::builder()
                .status(if is_first {
                    400
                } else if header("authorization").is_some_and(|v| v.starts_with("DPoP")) {
                    401
                } else {
                    200
                })
                .header("dpop-nonce", "a-nonce-that-is-no-secret")
                .header("www-authenticate", challenge);
            Ok::<_, std::convert::Infallible>(answer.body(Body::from(body.to_string())).unwrap())
        }
    });
    let auth = ClientAuth::basic(CLIENT, DAMAGED);
    let source = ClientCredentials::builder("https://as.example/token", auth)
        .dpop(key)
        .transport(Transport::new::<_, Body, _>(echo.clone()))
        .build()
        .unwrap();
    record.debug(&source);
    fetch(record, &source).await;
    let tokens = TokenHandle::spawn(source);
    record.debug(tokens.token().await.unwrap());
    let layer = OAuthLayer::new(tokens.clone(), "https://api.example".parse().unwrap());
    let request = Request::get("https://api.example/").body(Body::default()).unwrap();
    let answer = layer.layer(echo).oneshot(request).await.unwrap();
    // Its head is the API's own words; what we made of them is ours.
    record.debug(answer.extensions());
    record.debug(tokens.status());
    let signatures = seen.lock().unwrap().clone();
    assert!(signatures.len() >= 3);
    let signatures =
        signatures.iter().filter_map(|proof| Some(proof.rsplit_once('.')?.1.to_owned()));
    canaries.extend(signatures.map(|text| Canary::new("proof's signature", text)));
    canaries
}

#[cfg(feature = "mtls")]
async fn certificates(record: &Record) -> Vec<Canary> {
    use tower_oauth::{
        ClientCertificate, ClientCredentials, MutualTlsClient, SecretSource, Transport,
    };

    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    let certificate = params.self_signed(&key).unwrap().pem();
    let pem = key.serialize_pem();
    let lines = pem.lines().filter(|line| !line.starts_with("--") && line.len() > 16);
    let canaries: Vec<_> = lines.map(|line| Canary::new("key of a certificate", line)).collect();
    assert!(!canaries.is_empty());
    let server = server().await;
    let path = temporary("canary-certificate");
    std::fs::write(&path, &pem).unwrap();
    for (certificate, key) in [
        (certificate.clone(), SecretSource::literal(&*pem)),
        (certificate.clone(), SecretSource::file(&path)),
        // The wrong way round, broken, and of somebody else.
        (pem.clone(), SecretSource::literal(&*certificate)),
        (certificate.clone(), SecretSource::literal(pem.replace("PRIVATE", "PUBLIC"))),
        (certificate.clone(), SecretSource::literal(pem.replace("-----", "---"))),
        (certificate, SecretSource::literal(rcgen::KeyPair::generate().unwrap().serialize_pem())),
    ] {
        let certificate = ClientCertificate::pem(certificate, key);
        record.debug((&certificate, MutualTlsClient::new(&certificate)));
        record.debug(certificate.thumbprint().await);
        let source = ClientCredentials::builder(server.token_endpoint(), ClientAuth::none(CLIENT))
            .transport(Transport::mtls(&certificate))
            .build();
        match source {
            Ok(source) => drop(fetch(record, &source).await),
            Err(error) => record.error(error),
        }
    }
    std::fs::remove_file(&path).unwrap();
    canaries
}

fn temporary(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
}
