use std::fmt;

use http::StatusCode;

use super::text::printable;

/// What the authorization server said in an error answer ([RFC 6749 §5.2]).
///
/// All text is untrusted and has been made printable: one line of ASCII, cut to a bounded length.
///
/// [RFC 6749 §5.2]: https://www.rfc-editor.org/rfc/rfc6749#section-5.2
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OAuthError {
    /// The HTTP status of the answer.
    pub status: StatusCode,
    /// The `error` code, such as `invalid_client`; unknown codes are kept as they came.
    pub code: Option<String>,
    /// The `error_description`, or what stood in its place (`title`, `detail`, `message`).
    pub description: Option<String>,
    /// The `error_uri`. It is never opened.
    pub uri: Option<String>,
}

impl OAuthError {
    pub(crate) fn new(
        status: StatusCode,
        code: Option<&str>,
        description: Option<&str>,
        uri: Option<&str>,
    ) -> Self {
        let clean = |text: &str, cap| Some(printable(text, cap)).filter(|t| !t.is_empty());
        Self {
            status,
            code: code.and_then(|t| clean(t, CODE_CAP)),
            description: description.and_then(|t| clean(t, DESCRIPTION_CAP)),
            uri: uri.and_then(|t| clean(t, URI_CAP)),
        }
    }
}

impl fmt::Display for OAuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "status {}", self.status.as_u16())?;
        if let Some(code) = &self.code {
            write!(f, ", {code}")?;
        }
        if let Some(description) = &self.description {
            write!(f, ": {description}")?;
        }
        Ok(())
    }
}

impl std::error::Error for OAuthError {}

/// How much of one text that a server sent an error shows at most, in bytes.
pub(crate) const LONGEST_TEXT: usize = 600;

// Together with our own words, an error stays below 1 KiB.
const CODE_CAP: usize = 100;
const DESCRIPTION_CAP: usize = LONGEST_TEXT;
const URI_CAP: usize = 200;
