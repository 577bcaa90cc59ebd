use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, EncodingKey, Header, crypto::aws_lc::DEFAULT_PROVIDER, errors::Error as LibraryError,
};
use serde_json::Value;
use zeroize::Zeroizing;

use super::SigningKey;
use crate::{
    error::{Error, ErrorKind},
    secret::Secret,
};

/// What is signed: a type, and claims.
pub(crate) struct Jws<'a> {
    /// The `typ` header, if there is one.
    pub(crate) typ: Option<&'a str>,
    pub(crate) claims: &'a Value,
}

impl Jws<'_> {
    /// Signs with a private key that was read from `key`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Credential`] when the text is not such a key.
    pub(crate) fn sign(&self, key: &SigningKey, text: &Secret) -> Result<Secret, Error> {
        let loaded = key.load(text)?;
        let header = self.header(loaded.algorithm.of_library(), loaded.key_id);
        signed(&header, self.claims, &loaded.key)
            .map_err(|_| key.failure("does not sign: it is too short, or not for its algorithm"))
    }

    fn header(&self, algorithm: Algorithm, key_id: Option<String>) -> Header {
        let mut header = Header::new(algorithm);
        header.typ = self.typ.map(str::to_owned);
        header.kid = key_id;
        header
    }
}

/// Signs with a shared secret.
///
/// # Errors
///
/// [`ErrorKind::Credential`] when the secret is too short. RFC 7518 §3.2: "A key of the same size as
/// the hash output (for instance, 256 bits for "HS256") or larger MUST be used".
pub(crate) fn sign_hs256(jws: &Jws<'_>, secret: &Secret) -> Result<Secret, Error> {
    let bytes = secret.expose().as_bytes();
    let bad = |problem| Error::new(ErrorKind::Credential, problem);
    if bytes.len() < 32 {
        return Err(bad("the client's secret is too short to sign with: HS256 takes 32 bytes"));
    }
    let header = jws.header(Algorithm::HS256, None);
    signed(&header, jws.claims, &EncodingKey::from_secret(bytes))
        .map_err(|_| bad("the client's secret cannot sign"))
}

/// Signs with the library's provider for aws-lc, by name: to install it for the process would take that
/// choice from the application, whose own `install_default()` would fail afterwards.
fn signed(header: &Header, claims: &Value, key: &EncodingKey) -> Result<Secret, LibraryError> {
    let signer = (DEFAULT_PROVIDER.signer_factory)(&header.alg, key)?;
    let header = serde_json::to_vec(header)?;
    let claims = serde_json::to_vec(claims)?;
    let mut text = Zeroizing::new(BASE64_URL_SAFE_NO_PAD.encode(header));
    text.push('.');
    BASE64_URL_SAFE_NO_PAD.encode_string(claims, &mut text);
    let signature = signer.try_sign(text.as_bytes())?;
    text.push('.');
    BASE64_URL_SAFE_NO_PAD.encode_string(signature, &mut text);
    Ok(std::mem::take(&mut *text).into())
}

#[cfg(test)]
mod tests;
