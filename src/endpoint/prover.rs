use std::{sync::Arc, time::SystemTime};

use http::{HeaderMap, HeaderValue, Method, Uri};

use super::Accepted;
use crate::{
    discovery::Metadata,
    dpop::{DpopKey, Proof, ProofUrl, Role, Server},
    error::{Error, ErrorKind, printable},
};

/// Makes the proofs for one endpoint of an authorization server, and learns from its answers.
pub(super) struct Prover<'a> {
    key: &'a DpopKey,
    url: ProofUrl<'a>,
    server: Arc<Server>,
    /// The nonce that was known when the proof was made.
    known: Option<Box<str>>,
}

impl<'a> Prover<'a> {
    /// `url` is the endpoint's, as the transport sends it. `None` if tokens are not to be bound to a
    /// key.
    pub(super) fn new(accepted: &'a Accepted, url: &'a Uri) -> Option<Self> {
        let key = accepted.key()?;
        let url = ProofUrl::of_uri(url)?;
        let server = key.server(Role::Authorization, url);
        let known = server.known_nonce();
        Some(Self { key, url, server, known })
    }

    /// Whether the server takes proofs that are signed like these, if its metadata says.
    pub(super) fn check(&self, metadata: Option<&Metadata>) -> Result<(), Error> {
        let Some(metadata) = metadata else { return Ok(()) };
        match metadata.proof_algorithms()? {
            Some(names) if !names.contains(&self.key.algorithm()) => {
                let names: Vec<_> = names.iter().take(10).map(|name| printable(name, 20)).collect();
                Err(Error::new(
                    ErrorKind::Configuration,
                    format!(
                        "the authorization server takes proofs signed with {}, and the DPoP key is \
                         for {}",
                        if names.is_empty() { "nothing".to_owned() } else { names.join(", ") },
                        self.key.algorithm(),
                    ),
                ))
            }
            _ => Ok(()),
        }
    }

    /// RFC 9449 §5: "the client MUST provide a valid DPoP proof JWT in a DPoP header when making an
    /// access token request to the authorization server's token endpoint."
    pub(super) fn prove(&self, now: SystemTime) -> Result<HeaderValue, Error> {
        let proof = Proof { method: &Method::POST, url: self.url, now, token_hash: None };
        self.key.prove(&proof, &self.server)
    }

    /// Whether another proof may do after this answer: one with the nonce that the server asks for
    /// (RFC 9449 §8), or one that is dated by the server's clock.
    pub(super) fn learn(
        &self,
        headers: &HeaderMap,
        error: Option<&Error>,
        now: SystemTime,
    ) -> bool {
        // The same one again teaches nothing: it was in the proof that was refused.
        let learned = self.server.learn(headers) && self.server.known_nonce() != self.known;
        match error.and_then(Error::oauth).and_then(|oauth| oauth.code.as_deref()) {
            Some(code) if code.eq_ignore_ascii_case("use_dpop_nonce") => learned,
            Some(code) if code.eq_ignore_ascii_case("invalid_dpop_proof") => {
                self.server.correct_clock(headers, now)
            }
            _ => false,
        }
    }
}
