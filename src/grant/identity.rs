//! What each grant's tokens are for, so that they can be stored.

use super::{
    ClientCredentials, JwtBearer, RefreshToken, Saml2Bearer, TokenExchange, builder::Checked,
};
use crate::source::{Identified, Identity};

impl Checked {
    /// What all grants have in common: the endpoint (or the issuer), the client, the key that tokens
    /// are bound to, and every parameter that is no secret.
    fn identity(&self) -> Identity {
        let Self { endpoint, scopes, form, .. } = self;
        let caller = &endpoint.caller;
        let identity = Identity::new(caller.location.name(), caller.auth.client_id());
        let identity = identity.scopes(scopes.clone());
        #[cfg(feature = "dpop")]
        let identity = match caller.accepted.key() {
            Some(key) => identity.dpop_key(key.clone()),
            None => identity,
        };
        form.public()
            .filter(|(name, _)| *name != "scope")
            .fold(identity, |identity, (name, value)| identity.parameter(name, value))
    }
}

impl Identified for ClientCredentials {
    fn identity(&self) -> Identity {
        self.0.identity()
    }
}

/// The subject is whoever the initial refresh token was given by.
impl Identified for RefreshToken {
    fn identity(&self) -> Identity {
        self.0.checked.identity().credential(self.0.initial.clone()).rotating()
    }
}

/// The subject is whom the assertion names.
impl Identified for JwtBearer {
    fn identity(&self) -> Identity {
        self.0.checked.identity().credential(self.0.assertion.clone())
    }
}

/// The subject is whom the assertion names.
impl Identified for Saml2Bearer {
    fn identity(&self) -> Identity {
        self.0.checked.identity().credential(self.0.assertion.clone())
    }
}

/// The subject is whom the subject token names; who acts for it counts too.
impl Identified for TokenExchange {
    fn identity(&self) -> Identity {
        let options = &self.0.options;
        let identity = self.0.checked.identity().credential(options.subject.0.clone());
        match &options.actor {
            Some((actor, _)) => identity.credential(actor.clone()),
            None => identity,
        }
    }
}
