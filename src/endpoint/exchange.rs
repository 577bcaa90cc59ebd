#[cfg(feature = "mtls")]
use std::sync::Arc;
use std::{
    borrow::Cow,
    sync::{Mutex, PoisonError},
};

use super::{
    answer::{Reading, UnusableAnswer, members, read},
    caller::{Caller, Exchanged},
    form::Form,
    issued::{IssuedToken, issued_token},
    redactor::Redactor,
    response::Rules,
};
#[cfg(feature = "mtls")]
use crate::http::Identity;
use crate::{
    error::Error,
    http::{Answer, server_time},
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
    ) -> Result<TokenSet, UnusableAnswer> {
        let kept = Mutex::default();
        let outcome = self
            .ask(cx, form, requested, |answer, reading, redactor| {
                let token = read(answer, reading, redactor).map_err(
                    |UnusableAnswer { error, refresh_token }| {
                        *kept.lock().unwrap_or_else(PoisonError::into_inner) = refresh_token;
                        error
                    },
                );
                #[cfg(feature = "mtls")]
                let token = token.map(|token| bound(token, answer));
                token
            })
            .await;
        let refresh_token = kept.into_inner().unwrap_or_else(PoisonError::into_inner);
        outcome.map_err(|error| UnusableAnswer { error, refresh_token })
    }

    /// Asks for a token of any type, which is not for an API.
    pub(crate) async fn issue(
        &self,
        cx: &FetchContext,
        form: &Form,
        requested: &Scopes,
    ) -> Result<IssuedToken, Error> {
        self.ask(cx, form, requested, |answer, reading, redactor| {
            let object = members(answer, reading, redactor)?;
            issued_token(object, reading, server_time(answer.headers(), reading.sent.1))
        })
        .await
    }

    /// Sends a form, with what APIs have asked for besides.
    async fn ask<T>(
        &self,
        cx: &FetchContext,
        form: &Form,
        requested: &Scopes,
        read: impl Fn(&Answer, &Reading<'_>, &dyn Fn() -> Redactor) -> Result<T, Error>,
    ) -> Result<T, Error> {
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
        let read = |exchanged: &Exchanged<'_>| {
            let reading = Reading {
                rules: &self.rules,
                requested: &requested,
                method: exchanged.method,
                codes: exchanged.codes,
                sent: exchanged.sent,
                received: exchanged.received,
            };
            read(exchanged.answer, &reading, &|| exchanged.redactor())
        };
        self.caller.post(cx, &form, read).await
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
