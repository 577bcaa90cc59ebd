use bytes::Bytes;
use http::HeaderValue;
use zeroize::Zeroizing;

use super::sharded::shard_count;
use crate::{
    error::{Error, ErrorKind},
    token::TokenSet,
};

/// The bytes of one copy of the header. `Bytes::from_owner` puts its reference count beside the
/// owner, so the alignment gives each copy's count a cache line of its own.
#[repr(align(128))]
struct HeaderCopy(Zeroizing<Box<[u8]>>);

impl AsRef<[u8]> for HeaderCopy {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// The `Authorization` header of a token, once for each shard, marked sensitive.
pub(super) fn header_copies(token: &TokenSet) -> Result<Box<[HeaderValue]>, Error> {
    let credentials = credentials(token);
    let copy = |_| header(HeaderCopy(Zeroizing::new(credentials.as_slice().into())));
    (0..shard_count()).map(copy).collect()
}

/// The same once, for a token of which there are many.
#[cfg(feature = "pool")]
pub(super) fn single_header(token: &TokenSet) -> Result<Box<[HeaderValue]>, Error> {
    let owner: Zeroizing<Box<[u8]>> = Zeroizing::new(credentials(token).as_slice().into());
    Ok(Box::new([header(owner)?]))
}

fn credentials(token: &TokenSet) -> Zeroizing<Vec<u8>> {
    let (scheme, value) = (token.token_type().scheme(), token.access_token().expose());
    Zeroizing::new([scheme.as_bytes(), b" ", value.as_bytes()].concat())
}

fn header(owner: impl AsRef<[u8]> + Send + 'static) -> Result<HeaderValue, Error> {
    let mut header = HeaderValue::from_maybe_shared(Bytes::from_owner(owner)).map_err(|_| {
        Error::new(ErrorKind::UnusableToken, "the access token cannot stand in a header")
    })?;
    header.set_sensitive(true);
    Ok(header)
}
