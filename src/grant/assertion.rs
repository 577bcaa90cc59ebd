use std::fmt;

use super::{builder::Checked, credential::exchange_newest};
use crate::{
    error::Error,
    secret::{Secret, SecretSource},
    source::FetchContext,
    token::TokenSet,
};

/// What the grants have in common that trade an assertion for a token ([RFC 7521 §4.1]).
///
/// [RFC 7521 §4.1]: https://www.rfc-editor.org/rfc/rfc7521#section-4.1
pub(super) struct AssertionGrant {
    pub(super) checked: Checked,
    pub(super) assertion: SecretSource,
    /// Makes the parameter's value of the assertion.
    pub(super) encode: fn(&Secret) -> Secret,
}

impl AssertionGrant {
    pub(super) async fn fetch(&self, cx: &FetchContext) -> Result<TokenSet, Error> {
        let Checked { endpoint, scopes, form, .. } = &self.checked;
        let token = exchange_newest(&self.assertion, "the assertion", cx, |assertion| {
            let mut form = form.clone();
            form.set_secret("assertion", (self.encode)(&assertion));
            async move { endpoint.request(cx, &form, scopes).await.map_err(Error::from) }
        })
        .await?;
        // RFC 7521 §4.1: refresh tokens "are not typically issued"; a new assertion takes their
        // place.
        Ok(token.without_refresh_token())
    }

    pub(super) fn debug(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Checked { endpoint, scopes, .. } = &self.checked;
        f.debug_struct(name)
            .field("token_endpoint", &endpoint.caller.location)
            .field("auth", &endpoint.caller.auth)
            .field("assertion", &self.assertion)
            .field("scopes", scopes)
            .finish_non_exhaustive()
    }
}
