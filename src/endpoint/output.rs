use std::time::SystemTime;

use http::HeaderMap;

use super::{
    failure::is_failure,
    object::{object, without_mark},
    redactor::Redactor,
    response::{Rules, refresh_token, token_set},
};
use crate::{
    error::{Error, ErrorKind},
    token::{Scopes, TokenSet},
};

/// Reads a token that something other than a token endpoint wrote: a token response
/// ([RFC 6749 §5.1]), or a token alone.
///
/// `now` is what time it was when the token was asked for. Nothing of the text is repeated in an
/// error.
///
/// [RFC 6749 §5.1]: https://www.rfc-editor.org/rfc/rfc6749#section-5.1
pub(crate) fn written_token(
    text: &[u8],
    rules: &Rules,
    now: SystemTime,
) -> Result<TokenSet, Error> {
    let malformed = |problem: String| Error::new(ErrorKind::MalformedResponse, problem);
    if without_mark(text).first() != Some(&b'{') {
        let token = std::str::from_utf8(text.trim_ascii())
            .map_err(|_| malformed("it is not UTF-8".to_owned()))?;
        return TokenSet::bearer(token);
    }
    let mut object = object(&HeaderMap::new(), text, MOST_BYTES)
        .map_err(|problem| malformed(problem.to_string()))?;
    if is_failure(&object.members) {
        return Err(Error::new(ErrorKind::Denied, "it is an error, not a token"));
    }
    let refresh_token = refresh_token(&mut object.members);
    let token = token_set(object, rules, &Scopes::default(), now, || Redactor::new([]));
    let token = token.map_err(|error| {
        // That one quotes the type.
        if error.kind() == ErrorKind::UnusableToken {
            let message = "its token is not a bearer token, or does not fit a header";
            return Error::new(ErrorKind::UnusableToken, message);
        }
        error
    })?;
    Ok(match refresh_token {
        Some(refresh_token) => token.with_refresh_token(refresh_token),
        None => token,
    })
}

/// The most that is read of a token that is written somewhere.
const MOST_BYTES: usize = 64 * 1024;
