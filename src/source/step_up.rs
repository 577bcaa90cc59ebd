use crate::token::Scopes;

/// What an API asks for beyond what a token has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StepUp {
    /// Scopes, besides those that the source asks for by itself ([RFC 6750 §3.1],
    /// `insufficient_scope`).
    ///
    /// [RFC 6750 §3.1]: https://www.rfc-editor.org/rfc/rfc6750#section-3.1
    pub scopes: Scopes,
    /// A `claims` parameter, a JSON object, for the next token request: how Microsoft's APIs have a
    /// token replaced whose user or client has changed (continuous access evaluation).
    pub claims: Option<String>,
}

impl StepUp {
    /// Asks for scopes.
    pub fn scopes(scopes: Scopes) -> Self {
        Self { scopes, claims: None }
    }

    /// Asks for claims: a JSON object.
    pub fn claims(claims: impl Into<String>) -> Self {
        Self { scopes: Scopes::default(), claims: Some(claims.into()) }
    }

    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.scopes.is_empty() && self.claims.is_none()
    }
}
