use super::{
    answer::{Reading, read},
    caller::{Caller, Exchanged},
    form::Form,
    response::Rules,
};
use crate::{
    error::Error,
    source::FetchContext,
    token::{Scopes, TokenSet},
};

/// A token endpoint and how its answers are read.
#[derive(Debug, Clone)]
pub(crate) struct TokenEndpoint {
    pub(crate) caller: Caller,
    pub(crate) rules: Rules,
}

impl TokenEndpoint {
    /// Asks for a token.
    pub(crate) async fn request(
        &self,
        cx: &FetchContext,
        form: &Form,
        requested: &Scopes,
    ) -> Result<TokenSet, Error> {
        let read_token = |exchanged: &Exchanged<'_>| {
            let reading = Reading {
                rules: &self.rules,
                requested,
                method: exchanged.method,
                sent: exchanged.sent,
                received: exchanged.received,
            };
            read(exchanged.answer, &reading, || exchanged.redactor())
        };
        self.caller.post(cx, form, read_token).await
    }
}
