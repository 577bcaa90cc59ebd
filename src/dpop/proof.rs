use std::{
    io::{self, Write},
    time::SystemTime,
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD, write::EncoderStringWriter};
use bytes::Bytes;
use http::{HeaderValue, Method};

use super::{ProofUrl, Server};
use crate::jose::ProofSigner;

/// What one proof says ([RFC 9449 §4.2](https://www.rfc-editor.org/rfc/rfc9449#section-4.2)).
#[derive(Clone, Copy)]
pub(crate) struct Proof<'a> {
    pub(crate) method: &'a Method,
    pub(crate) url: ProofUrl<'a>,
    pub(crate) now: SystemTime,
    /// `ath`, for a request with an access token.
    pub(crate) token_hash: Option<&'a str>,
}

impl Proof<'_> {
    /// Signs the proof, under a header that is encoded already and ends with its dot; `None` if the
    /// cryptographic library fails.
    ///
    /// It is assembled by hand, in one buffer of exactly its size: this is on a request's way.
    pub(super) fn sign(
        &self,
        signer: &ProofSigner,
        header: &str,
        server: &Server,
    ) -> Option<HeaderValue> {
        // RFC 9449 §4.2: jti has "at least 96 bits of pseudorandom data". This thread's generator
        // gives them in a twentieth of the time that the cryptographic library takes.
        let mut id = [0; 22];
        BASE64_URL_SAFE_NO_PAD.encode_slice(rand::random::<[u8; 16]>(), &mut id).ok()?;
        // Held to the end, so that what was counted is what is written.
        let nonce = server.nonce();
        let nonce = nonce.as_deref();
        // A second back: a server whose clock is milliseconds behind ours would take the proof for
        // one from the future as each second begins, and some refuse that. None minds a second.
        let time = server.time(self.now).saturating_sub(1);

        let mut size = Count(0);
        self.write_claims(&mut size, &id, time, nonce).ok()?;
        let encoded = |bytes: usize| base64::encoded_len(bytes, false);
        let size = header.len() + encoded(size.0)? + 1 + encoded(SIGNATURE)?;

        let mut proof = String::with_capacity(size);
        proof.push_str(header);
        let mut claims = EncoderStringWriter::from_consumer(&mut proof, &BASE64_URL_SAFE_NO_PAD);
        self.write_claims(&mut claims, &id, time, nonce).ok()?;
        claims.into_inner();
        let signature = signer.sign(proof.as_bytes())?;
        proof.push('.');
        BASE64_URL_SAFE_NO_PAD.encode_string(signature, &mut proof);
        let mut value = HeaderValue::from_maybe_shared(Bytes::from(proof)).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    fn write_claims(
        &self,
        out: &mut impl Write,
        id: &[u8],
        time: u64,
        nonce: Option<&str>,
    ) -> io::Result<()> {
        out.write_all(br#"{"jti":""#)?;
        out.write_all(id)?;
        // A method is a token (RFC 9110 §9.1): it has nothing to escape.
        out.write_all(br#"","htm":""#)?;
        out.write_all(self.method.as_str().as_bytes())?;
        out.write_all(br#"","htu":""#)?;
        self.url.write_json(out)?;
        write!(out, r#"","iat":{time}"#)?;
        if let Some(hash) = self.token_hash {
            out.write_all(br#","ath":""#)?;
            out.write_all(hash.as_bytes())?;
            out.write_all(b"\"")?;
        }
        if let Some(nonce) = nonce {
            out.write_all(br#","nonce":""#)?;
            out.write_all(nonce.as_bytes())?;
            out.write_all(b"\"")?;
        }
        out.write_all(b"}")
    }
}

/// Counts what is written.
struct Count(usize);

impl Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const SIGNATURE: usize = 64;
