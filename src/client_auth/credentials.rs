use http::HeaderValue;

use crate::secret::Secret;

/// What one request carries to authenticate the client.
pub(crate) struct Credentials {
    authorization: Option<HeaderValue>,
    parameters: Vec<(&'static str, Secret)>,
    secret: Option<Secret>,
}

impl Credentials {
    pub(super) fn in_header(authorization: HeaderValue, secret: Secret) -> Self {
        Self { authorization: Some(authorization), parameters: Vec::new(), secret: Some(secret) }
    }

    pub(super) fn in_body(client_id: &str, secret: Option<Secret>) -> Self {
        let mut parameters = vec![("client_id", Secret::from(client_id))];
        parameters.extend(secret.clone().map(|secret| ("client_secret", secret)));
        Self { authorization: None, parameters, secret }
    }

    /// RFC 7521 §4.2: the assertion says who the client is; the id beside it must be the same.
    pub(super) fn assertion(client_id: &str, assertion: Secret, secret: Secret) -> Self {
        let parameters = vec![
            ("client_id", Secret::from(client_id)),
            ("client_assertion_type", Secret::from(ASSERTION_TYPE)),
            ("client_assertion", assertion),
        ];
        Self { authorization: None, parameters, secret: Some(secret) }
    }

    /// Whether these come from the same secret as others; an assertion is signed anew each time.
    pub(crate) fn same_secret(&self, other: &Self) -> bool {
        self.secret == other.secret
    }

    /// The `Authorization` header, marked sensitive.
    pub(crate) fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref()
    }

    /// The parameters of the body.
    pub(crate) fn parameters(&self) -> &[(&'static str, Secret)] {
        &self.parameters
    }

    /// What must not come back: the secret itself, and an assertion signed with it.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &Secret> {
        let assertion = self.parameters.iter().filter(|(name, _)| *name == "client_assertion");
        self.secret.iter().chain(assertion.map(|(_, assertion)| assertion))
    }
}

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
