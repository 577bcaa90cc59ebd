//! Every way in which a client authenticates.

use tower_oauth::{BoxError, ClientAuth, ClientCredentials, ErrorKind, TokenHandle};

use crate::{
    common::node::OidcServer,
    harness::{Caller, HOUR, RESERVED_SECRET},
};

#[tokio::test]
async fn every_way_of_authenticating_gets_a_token_that_the_api_takes() -> Result<(), BoxError> {
    let server = OidcServer::start(HOUR).await;
    let clients = [
        ClientAuth::basic("basic", "secret of basic"),
        ClientAuth::basic_unencoded("basic", "secret of basic"),
        ClientAuth::post("post", "secret of post"),
        ClientAuth::basic("basic special:id/%+", RESERVED_SECRET),
        ClientAuth::post("post special:id/%+", RESERVED_SECRET),
    ];
    for auth in clients {
        let client_id = auth.client_id().to_owned();
        let tokens = TokenHandle::spawn(
            ClientCredentials::builder(server.token_endpoint(), auth).scope("read").build()?,
        );
        tokens.ready().await.map_err(|error| format!("{client_id}: {error}"))?;
        let answer = Caller::new(&server, &tokens)?.call("/").await?;
        assert_eq!((answer.status, answer.client()), (200, &*client_id));
        assert_eq!(answer.token(), tokens.token().await?.access_token().expose());
    }
    assert_eq!(server.token_requests().await.len(), 5);
    Ok(())
}

/// Each algorithm, from PEM and from a JWK, and with a shared secret: the issuer is the audience.
#[cfg(feature = "private-key-jwt")]
#[tokio::test]
async fn jwt_01_jwt_02_jwt_06_every_kind_of_assertion_is_accepted() -> Result<(), BoxError> {
    use tower_oauth::{ClientAssertion, SecretSource, SigningAlgorithm, SigningKey};

    let server = OidcServer::start_with_signing_clients(HOUR).await;
    let mut assertions = vec![ClientAssertion::client_secret(
        "client_secret_jwt",
        "a secret of more than 32 bytes in all",
        server.issuer(),
    )];
    for (name, algorithm) in [
        ("RS256", SigningAlgorithm::Rs256),
        ("PS256", SigningAlgorithm::Ps256),
        ("ES256", SigningAlgorithm::Es256),
        ("ES384", SigningAlgorithm::Es384),
        ("EdDSA", SigningAlgorithm::EdDsa),
    ] {
        let file = |format| SecretSource::file(server.client_key(name, format));
        let keys = [SigningKey::pem(file("pem"), algorithm), SigningKey::jwk(file("jwk"))];
        assertions.extend(keys.map(|key| {
            let client = format!("private_key_jwt {name}");
            ClientAssertion::private_key(client, key, server.issuer())
        }));
    }
    for assertion in assertions {
        let shown = format!("{assertion:?}");
        let source = ClientCredentials::builder(server.token_endpoint(), assertion).build()?;
        let tokens = TokenHandle::spawn(source);
        tokens.ready().await.map_err(|error| format!("{shown}: {error}"))?;
        assert_eq!(Caller::new(&server, &tokens)?.call("/").await?.status, 200);
        // The server refuses an identifier that it has seen.
        tokens.refresh().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_wrong_secret_is_an_invalid_client() -> Result<(), BoxError> {
    let server = OidcServer::start(HOUR).await;
    let auth = ClientAuth::basic("basic", "another secret");
    let source = ClientCredentials::builder(server.token_endpoint(), auth).build()?;
    let error = TokenHandle::spawn(source).ready().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidClient);
    assert!(!format!("{error:?}").contains("another secret"));
    Ok(())
}
