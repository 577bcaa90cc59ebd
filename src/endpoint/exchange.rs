use std::borrow::Cow;
#[cfg(feature = "mtls")]
use std::sync::Arc;

use super::{
    answer::{Reading, read},
    caller::{Caller, Exchanged},
    form::Form,
    response::Rules,
};
#[cfg(feature = "mtls")]
use crate::http::{Answer, Identity};
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
    pub(crate) fn new(caller: Caller, rules: Rules) -> Self {
        let accepted = rules.accepted.clone();
        Self { caller: Caller { accepted, ..caller }, rules }
    }

    /// Asks for a token.
    pub(crate) async fn request(
        &self,
        cx: &FetchContext,
        form: &Form,
        requested: &Scopes,
    ) -> Result<TokenSet, Error> {
        let (mut form, mut requested) = (Cow::Borrowed(form), Cow::Borrowed(requested));
        if !cx.step_up.scopes.is_empty() {
            // The old scopes as well: others may still need them.
            let requested = requested.to_mut();
            requested.extend(&cx.step_up.scopes);
            if let Some(held) = cx.previous.as_ref().and_then(|previous| previous.scopes()) {
                requested.extend(held);
            }
            form.to_mut().set("scope", requested.to_string());
        }
        if let Some(claims) = &cx.step_up.claims {
            form.to_mut().set("claims", &**claims);
        }
        let read_token = |exchanged: &Exchanged<'_>| {
            let reading = Reading {
                rules: &self.rules,
                requested: &requested,
                method: exchanged.method,
                sent: exchanged.sent,
                received: exchanged.received,
            };
            let token = read(exchanged.answer, &reading, || exchanged.redactor());
            #[cfg(feature = "mtls")]
            let token = token.map(|token| bound(token, exchanged.answer));
            token
        };
        self.caller.post(cx, &form, read_token).await
    }
}

/// A token that came over a connection with a certificate may be bound to it. Whether it is, only
/// the server knows for sure, and there is no harm in using every such token as if.
#[cfg(feature = "mtls")]
fn bound(token: TokenSet, answer: &Answer) -> TokenSet {
    match answer.extensions().get::<Arc<Identity>>() {
        Some(certificate) => token.with_certificate(certificate.clone()),
        None => token,
    }
}
