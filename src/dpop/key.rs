use std::{fmt, sync::Arc};

use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use http::HeaderValue;

use super::{ProofUrl, Role, Server, proof::Proof, server::Servers};
use crate::{
    error::{Error, ErrorKind},
    jose::{ProofSigner, sha256_base64url},
    secret::Secret,
};

/// How proofs are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DpopAlgorithm {
    /// ECDSA on P-256 with SHA-256: what nearly every server supports.
    Es256,
    /// Ed25519: a third faster.
    EdDsa,
}

/// The key that tokens are bound to, and what servers have said about proofs of it: nonces, and what
/// time they have.
///
/// Clones share one key. Use one for each authorization server: a token that was stolen from one
/// cannot be passed off on another then.
///
/// A public client's refresh tokens are bound to the key as well, so it has to be kept with them:
/// [`to_pem`](Self::to_pem) and [`from_pem`](Self::from_pem). Clients that authenticate may start
/// with a new key each time ([RFC 9449 §5]).
///
/// [RFC 9449 §5]: https://www.rfc-editor.org/rfc/rfc9449#section-5
#[derive(Clone)]
pub struct DpopKey(Arc<Inner>);

struct Inner {
    signer: ProofSigner,
    /// The proofs' JOSE header, encoded, with the dot that follows it.
    header: String,
    thumbprint: String,
    servers: Servers,
}

impl DpopKey {
    /// A new key.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Credential`] when the machine has no randomness.
    pub fn generate(algorithm: DpopAlgorithm) -> Result<Self, Error> {
        let signer = match algorithm {
            DpopAlgorithm::Es256 => ProofSigner::generate_es256(),
            DpopAlgorithm::EdDsa => ProofSigner::generate_ed25519(),
        };
        signer.map(Self::new).ok_or_else(|| failure("cannot be made: there is no randomness"))
    }

    /// A private key in PEM, on P-256 or Ed25519: PKCS #8, or SEC 1.
    ///
    /// ```no_run
    /// use tower_oauth::{DpopKey, SecretSource};
    ///
    /// # async fn read() -> Result<(), tower_oauth::Error> {
    /// let pem = SecretSource::file("/var/lib/orders/dpop.pem").read().await?;
    /// let key = DpopKey::from_pem(&pem)?;
    /// # let _ = key;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Credential`] for anything else.
    pub fn from_pem(pem: &Secret) -> Result<Self, Error> {
        ProofSigner::from_pem(pem.expose()).map(Self::new).map_err(failure)
    }

    /// A private key as a JWK, on P-256 or Ed25519.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Credential`] for anything else.
    pub fn from_jwk(jwk: &Secret) -> Result<Self, Error> {
        ProofSigner::from_jwk(jwk.expose()).map(Self::new).map_err(failure)
    }

    fn new(signer: ProofSigner) -> Self {
        let (algorithm, jwk) = (signer.algorithm(), signer.public_jwk());
        let header = format!(r#"{{"typ":"dpop+jwt","alg":"{algorithm}","jwk":{jwk}}}"#);
        let mut header = BASE64_URL_SAFE_NO_PAD.encode(header);
        header.push('.');
        let thumbprint = sha256_base64url(&jwk);
        Self(Arc::new(Inner { signer, header, thumbprint, servers: Servers::default() }))
    }

    /// The private key in PEM (PKCS #8), to be kept in a safe place.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Credential`] when the cryptographic library fails.
    pub fn to_pem(&self) -> Result<Secret, Error> {
        let der = self.0.signer.to_pkcs8().ok_or_else(|| failure("cannot be written"))?;
        let body = Secret::from(BASE64_STANDARD.encode(&*der));
        let mut pem = String::with_capacity(body.expose().len() + 80);
        pem.push_str("-----BEGIN PRIVATE KEY-----\n");
        for (at, letter) in body.expose().chars().enumerate() {
            if at > 0 && at % 64 == 0 {
                pem.push('\n');
            }
            pem.push(letter);
        }
        pem.push_str("\n-----END PRIVATE KEY-----\n");
        Ok(pem.into())
    }

    /// The key's thumbprint, as `jkt` and `dpop_jkt` have it ([RFC 7638]).
    ///
    /// [RFC 7638]: https://www.rfc-editor.org/rfc/rfc7638
    pub fn thumbprint(&self) -> &str {
        &self.0.thumbprint
    }

    /// The registered name of the algorithm, such as `ES256`.
    pub fn algorithm(&self) -> &'static str {
        self.0.signer.algorithm()
    }

    /// The server at a URL, as this key knows it.
    pub(crate) fn server(&self, role: Role, url: ProofUrl<'_>) -> Arc<Server> {
        self.0.servers.at(role, url)
    }

    /// Signs a proof for a server.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Credential`] when the cryptographic library fails.
    pub(crate) fn prove(&self, proof: &Proof<'_>, server: &Server) -> Result<HeaderValue, Error> {
        let Inner { signer, header, .. } = &*self.0;
        proof.sign(signer, header, server).ok_or_else(|| failure("does not sign"))
    }
}

/// `ath`: what a proof says of the access token that it goes with.
pub(crate) fn token_hash(access_token: &Secret) -> String {
    sha256_base64url(access_token.expose())
}

/// An error about a key; it says nothing of the key itself.
fn failure(problem: &str) -> Error {
    Error::new(ErrorKind::Credential, format!("the DPoP key {problem}"))
}

impl fmt::Debug for DpopKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DpopKey")
            .field("algorithm", &self.algorithm())
            .field("thumbprint", &self.thumbprint())
            .finish()
    }
}

#[cfg(test)]
mod tests;
