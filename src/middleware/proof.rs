//! Proofs of the key that a token is bound to ([RFC 9449 §7](https://www.rfc-editor.org/rfc/rfc9449#section-7)).

use std::{sync::Arc, time::SystemTime};

use super::Origins;
use crate::{
    dpop::{DPOP, Proof, ProofUrl, Role, Server},
    error::{Error, ErrorKind},
    http::{HttpRequest, HttpResponse},
    refresh::Token,
};

/// Who made the proof of a request: what is learned from the answer is for its server alone.
#[derive(Debug)]
pub(super) struct Prover {
    server: Arc<Server>,
}

impl Prover {
    /// Puts a proof on a request whose token needs one; `None` if it needs none.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Origin`] when it is not known what URL the request is for.
    pub(super) fn prove(
        origins: &Origins,
        request: &mut impl HttpRequest,
        token: &Token,
        now: SystemTime,
    ) -> Result<Option<Self>, Error> {
        let Some((key, hash)) = token.binding() else { return Ok(None) };
        let url = match ProofUrl::of_request(request) {
            Some(url) => url,
            None => origins.only(request.path()).ok_or_else(|| {
                Error::new(
                    ErrorKind::Origin,
                    "the request names no host, and a proof needs the whole URL: give the layer \
                     the one origin that the service below is bound to",
                )
            })?,
        };
        let server = key.server(Role::Resource, url);
        let proof = Proof { method: request.method(), url, now, token_hash: Some(hash) };
        let proof = key.prove(&proof, &server)?;
        request.headers_mut().insert(DPOP, proof);
        Ok(Some(Self { server }))
    }

    /// Takes the nonce of an answer, whatever its status.
    pub(super) fn learn(&self, response: &impl HttpResponse) {
        if self.is_of(response) {
            self.server.learn(response.headers());
        }
    }

    /// Whether an answer brings a nonce for the next proof.
    pub(super) fn has_nonce(&self, response: &impl HttpResponse) -> bool {
        self.is_of(response) && self.server.learn(response.headers())
    }

    /// Whether our idea of the server's time was wrong; it is right from here on.
    pub(super) fn correct_clock(&self, response: &impl HttpResponse, now: SystemTime) -> bool {
        self.is_of(response) && self.server.correct_clock(response.headers(), now)
    }

    /// Whether an answer is of the server that the proof was made for, as far as can be told: a
    /// client below may have followed a redirect.
    fn is_of(&self, response: &impl HttpResponse) -> bool {
        response.origin().is_none_or(|origin| self.server.is_at(origin))
    }
}
