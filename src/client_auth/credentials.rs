use http::HeaderValue;

use crate::secret::Secret;

/// What one request carries to authenticate the client.
#[derive(PartialEq, Eq)]
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

    /// The `Authorization` header, marked sensitive.
    pub(crate) fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref()
    }

    /// The parameters of the body.
    pub(crate) fn parameters(&self) -> &[(&'static str, Secret)] {
        &self.parameters
    }

    /// The secret itself, to find it in what comes back.
    pub(crate) fn secret(&self) -> Option<&Secret> {
        self.secret.as_ref()
    }
}
