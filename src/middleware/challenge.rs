//! The challenges of a response. The layer reads them from each 400, 401 and 403.

mod parser;

use std::{fmt, time::Duration};

use http::HeaderMap;

/// The challenges of a response: how the server wants to be asked ([RFC 9110 §11.6.1]).
///
/// The layer leaves them in the extensions of responses with status 400, 401 or 403, if it had put a
/// token on the request.
///
/// ```
/// use tower_oauth::middleware::Challenges;
///
/// let mut response = http::Response::new(());
/// # response.extensions_mut().insert(Challenges::read(&http::HeaderMap::new()));
/// if let Some(challenges) = response.extensions().get::<Challenges>() {
///     if let Some(wanted) = challenges.authentication_requirements() {
///         println!("log in again with {:?}", wanted.acr_values);
///     }
/// }
/// ```
///
/// [RFC 9110 §11.6.1]: https://www.rfc-editor.org/rfc/rfc9110#section-11.6.1
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Challenges(Vec<Challenge>);

/// One challenge: an authentication scheme and its parameters.
///
/// `Debug` shows the names of the parameters, and no value but that of `error`: a server may repeat the
/// token that it was sent.
#[derive(Clone, PartialEq, Eq)]
pub struct Challenge {
    /// In lower case.
    scheme: String,
    /// Their names in lower case; none for a token68 challenge.
    params: Vec<(String, String)>,
    malformed: bool,
}

/// What an API wants of the user's login ([RFC 9470 §3]). A service cannot do it by itself.
///
/// [RFC 9470 §3]: https://www.rfc-editor.org/rfc/rfc9470#section-3
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuthenticationRequirements {
    /// The authentication context classes of which one is wanted, in order of preference.
    pub acr_values: Vec<String>,
    /// How long ago the user may have logged in at most.
    pub max_age: Option<Duration>,
}

impl Challenges {
    /// Reads every challenge of every `WWW-Authenticate` field line.
    ///
    /// Many servers break the grammar. A challenge that does is kept as a malformed one
    /// ([`Challenge::is_malformed`]), and the other challenges are read as usual. After a fault, the
    /// parser continues with the next challenge of the line, unless it would have to skip a double
    /// quote: text inside quotes never becomes a challenge.
    ///
    /// At most 64 challenges are read, in lines of at most 16 KiB together. If that leaves some out,
    /// a malformed challenge without a scheme stands at the end for all of them.
    pub fn read(headers: &HeaderMap) -> Self {
        Self(parser::read(headers))
    }

    /// Returns the challenges in their order, malformed ones included.
    pub fn iter(&self) -> impl Iterator<Item = &Challenge> {
        self.0.iter()
    }

    /// Returns whether the response has no challenge.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the challenges about OAuth tokens: those of the schemes `Bearer` and `DPoP`.
    pub(super) fn about_tokens(&self) -> impl Iterator<Item = &Challenge> {
        self.iter().filter(|challenge| matches!(challenge.scheme(), "bearer" | "dpop"))
    }

    /// Returns what the API wants of the user's login, if it refused the request for that reason
    /// (`insufficient_user_authentication`). A malformed challenge gives no reason.
    pub fn authentication_requirements(&self) -> Option<AuthenticationRequirements> {
        let is_ours =
            |challenge: &&Challenge| challenge.error() == Some("insufficient_user_authentication");
        let challenge = self.about_tokens().find(is_ours)?;
        let acr_values = challenge.param("acr_values").unwrap_or_default().split_ascii_whitespace();
        // RFC 9470 §3: max_age is a "non-negative integer value".
        let max_age = challenge.param("max_age").and_then(|seconds| seconds.parse().ok());
        Some(AuthenticationRequirements {
            acr_values: acr_values.map(str::to_owned).collect(),
            max_age: max_age.map(Duration::from_secs),
        })
    }

    /// Returns the URL of the API's metadata ([RFC 9728 §5.1]). Only the API vouches for it.
    ///
    /// Malformed challenges are ignored: requests go to this URL, so a value that may have been cut
    /// or mixed up is not used.
    ///
    /// [RFC 9728 §5.1]: https://www.rfc-editor.org/rfc/rfc9728#section-5.1
    pub fn resource_metadata(&self) -> Option<&str> {
        let mut well_formed = self.about_tokens().filter(|challenge| !challenge.is_malformed());
        well_formed.find_map(|challenge| challenge.param("resource_metadata"))
    }
}

impl Challenge {
    fn new(scheme: String) -> Self {
        Self { scheme, params: Vec::new(), malformed: false }
    }

    /// A malformed challenge of which not even the scheme is known.
    fn unreadable() -> Self {
        Self { scheme: String::new(), params: Vec::new(), malformed: true }
    }

    /// Returns the authentication scheme in lower case, such as `bearer`. It is empty if the
    /// challenge is malformed from its start.
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// Returns the value of a parameter, whose name is given in lower case.
    ///
    /// A malformed challenge has the parameters that stand before its first fault.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }

    /// Returns whether the challenge breaks the grammar ([RFC 9110 §11.6.1]): a comma is missing, a
    /// value needs quotes or lacks its closing quote, or a parameter is repeated.
    ///
    /// The layer believes only `error="invalid_token"` of such a challenge. With any other code, and
    /// without one, it gives no reason for the refusal.
    ///
    /// [RFC 9110 §11.6.1]: https://www.rfc-editor.org/rfc/rfc9110#section-11.6.1
    pub fn is_malformed(&self) -> bool {
        self.malformed
    }

    /// Returns the error code, if it is to be believed.
    pub(super) fn error(&self) -> Option<&str> {
        self.param("error").filter(|code| !self.malformed || *code == "invalid_token")
    }
}

impl fmt::Debug for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.params.iter().map(|(name, _)| name).collect();
        f.debug_struct("Challenge")
            .field("scheme", &self.scheme)
            .field("error", &self.error().filter(|error| is_code(error)))
            .field("params", &names)
            .finish_non_exhaustive()
    }
}

/// Whether a text looks like an error code, and not like a token.
fn is_code(text: &str) -> bool {
    text.len() <= 64 && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
}

#[cfg(test)]
mod tests;
