use tokio::time::sleep_until;

use super::{
    answer::{refusal, unexpected},
    caller::{Caller, Exchanged},
    form::Form,
};
use crate::{
    error::{Error, ErrorKind},
    secret::Secret,
    source::FetchContext,
    token::TokenSet,
};

/// A revocation endpoint ([RFC 7009](https://www.rfc-editor.org/rfc/rfc7009)).
#[derive(Debug, Clone)]
pub(crate) struct Revoker(Caller);

/// What kind of token is revoked (RFC 7009 §2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenHint {
    Access,
    Refresh,
}

impl Revoker {
    pub(crate) fn new(caller: Caller) -> Self {
        Self(caller)
    }

    /// The context of a call outside of any fetch.
    pub(crate) fn context(&self) -> FetchContext {
        self.0.context()
    }

    /// Revokes a token set: the refresh token first, since the access token ends by itself. One is
    /// revoked even if the other one cannot be.
    pub(crate) async fn revoke_set(
        &self,
        token: &TokenSet,
        cx: &FetchContext,
    ) -> Result<(), Error> {
        let refresh = match token.refresh_token() {
            Some(refresh_token) => self.revoke(refresh_token, TokenHint::Refresh, cx).await,
            None => Ok(()),
        };
        if !token.has_access() {
            return refresh;
        }
        let access = self.revoke(token.access_token(), TokenHint::Access, cx).await;
        refresh.and(access)
    }

    /// Revokes a token. A server that asks to come back is asked once more, if there is time.
    pub(crate) async fn revoke(
        &self,
        token: &Secret,
        hint: TokenHint,
        cx: &FetchContext,
    ) -> Result<(), Error> {
        let mut form = Form::default();
        form.set_secret("token", token.clone());
        form.set(
            "token_type_hint",
            match hint {
                TokenHint::Access => "access_token",
                TokenHint::Refresh => "refresh_token",
            },
        );
        let error = match self.0.post(cx, &form, read).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        // RFC 7009 §2.2.1: "If the server responds with HTTP status code 503, the client must assume
        // the token still exists and may retry after a reasonable delay."
        match error.retry_at().filter(|at| error.is_retryable() && *at < cx.deadline) {
            Some(at) => {
                sleep_until(at).await;
                self.0.post(cx, &form, read).await
            }
            None => Err(error),
        }
    }
}

/// RFC 7009 §2.2: "The content of the response body is ignored by the client as all necessary
/// information is conveyed in the response code."
fn read(exchanged: &Exchanged<'_>) -> Result<(), Error> {
    let status = exchanged.answer.status();
    if status.is_success() {
        return Ok(());
    }
    if !status.is_client_error() && !status.is_server_error() {
        return Err(unexpected("revocation endpoint", status));
    }
    Err(refusal(exchanged))
}

/// What a source says that does not know where to revoke.
pub(crate) fn nowhere_to_revoke() -> Error {
    Error::new(
        ErrorKind::Configuration,
        "the revocation endpoint is not known: set it with revocation_endpoint(), or use discovery",
    )
}
