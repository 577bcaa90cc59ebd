//! What the error codes of authorization servers mean.

use std::sync::Arc;

use crate::error::{ConfigError, ErrorKind};

/// A table of error codes: those of the standards, those that real servers send in their place, and
/// what the user adds.
#[derive(Debug, Clone, Default)]
pub(crate) struct ErrorCodes(Option<Arc<Vec<(String, ErrorKind)>>>);

impl ErrorCodes {
    /// Adds a code of the user's, which wins over the table.
    pub(crate) fn insert(&mut self, code: String, kind: ErrorKind) {
        Arc::make_mut(self.0.get_or_insert_default()).push((code, kind));
    }

    /// Checks what the user has added.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let bad = |value: &str, reason| {
            let value = format!("{value:?}");
            Err(ConfigError::Setting { name: "error_code", value, reason })
        };
        for (code, kind) in self.0.iter().flat_map(|added| added.iter()) {
            if code.is_empty() || !code.bytes().all(|b| b.is_ascii_graphic() || b == b' ') {
                return bad(code, "an error code is printable ASCII");
            }
            if !MEANINGS.contains(kind) {
                return bad(
                    kind.as_str(),
                    "an error code means invalid_client, invalid_grant, invalid_request, denied, \
                     server or throttled",
                );
            }
        }
        Ok(())
    }

    /// What a code means; `None` for one that is not known.
    pub(crate) fn kind(&self, code: &str) -> Option<ErrorKind> {
        let same = |known: &str| known.eq_ignore_ascii_case(code);
        let added = self.0.iter().flat_map(|added| added.iter().rev());
        let added = added.map(|(known, kind)| (&**known, *kind));
        added.chain(TABLE.iter().copied()).find(|(known, _)| same(known)).map(|(_, kind)| kind)
    }
}

/// What a code of the user's may mean.
const MEANINGS: [ErrorKind; 6] = [
    ErrorKind::InvalidClient,
    ErrorKind::InvalidGrant,
    ErrorKind::InvalidRequest,
    ErrorKind::Denied,
    ErrorKind::Server,
    ErrorKind::Throttled,
];

const TABLE: &[(&str, ErrorKind)] = &[
    // RFC 6749 §5.2 and §4.1.2.1, RFC 8707 §2, RFC 9396 §5
    ("invalid_client", ErrorKind::InvalidClient),
    ("unauthorized_client", ErrorKind::InvalidClient),
    ("invalid_grant", ErrorKind::InvalidGrant),
    ("invalid_request", ErrorKind::InvalidRequest),
    ("unsupported_grant_type", ErrorKind::InvalidRequest),
    ("invalid_scope", ErrorKind::InvalidRequest),
    ("invalid_target", ErrorKind::InvalidRequest),
    ("invalid_authorization_details", ErrorKind::InvalidRequest),
    ("server_error", ErrorKind::Server),
    ("temporarily_unavailable", ErrorKind::Server),
    // RFC 7009 §2.2.1
    ("unsupported_token_type", ErrorKind::UnsupportedTokenType),
    // RFC 8628 §3.5
    ("slow_down", ErrorKind::Throttled),
    // GitHub, HubSpot, Slack: a refresh token that is dead
    ("bad_refresh_token", ErrorKind::InvalidGrant),
    ("invalid_refresh_token", ErrorKind::InvalidGrant),
    ("expired_refresh_token", ErrorKind::InvalidGrant),
    ("refresh_token_expired", ErrorKind::InvalidGrant),
    ("token_expired", ErrorKind::InvalidGrant),
    ("token_revoked", ErrorKind::InvalidGrant),
    // Ory, and others
    ("token_inactive", ErrorKind::InvalidGrant),
    // RFC 8628 §3.5: a device code; elsewhere a refresh token
    ("expired_token", ErrorKind::InvalidGrant),
    // OpenID Connect Core §3.1.2.6, which Entra sends from its token endpoint too: only the user
    // can go on
    ("interaction_required", ErrorKind::InvalidGrant),
    ("login_required", ErrorKind::InvalidGrant),
    ("consent_required", ErrorKind::InvalidGrant),
    ("account_selection_required", ErrorKind::InvalidGrant),
    // GitHub, Slack, HubSpot, Google: a client that is refused
    ("incorrect_client_credentials", ErrorKind::InvalidClient),
    ("application_suspended", ErrorKind::InvalidClient),
    ("invalid_client_id", ErrorKind::InvalidClient),
    ("bad_client_id", ErrorKind::InvalidClient),
    ("invalid_client_secret", ErrorKind::InvalidClient),
    ("bad_client_secret", ErrorKind::InvalidClient),
    ("deleted_client", ErrorKind::InvalidClient),
    ("disabled_client", ErrorKind::InvalidClient),
    ("invalid_client_credentials", ErrorKind::InvalidClient),
    // Slack, Google
    ("service_unavailable", ErrorKind::Server),
    ("internal_error", ErrorKind::Server),
    ("fatal_error", ErrorKind::Server),
    ("internal_failure", ErrorKind::Server),
    ("ratelimited", ErrorKind::Throttled),
    ("rate_limit_exceeded", ErrorKind::Throttled),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f89_what_the_user_says_wins_and_the_last_word_counts() {
        let mut codes = ErrorCodes::default();
        assert_eq!(codes.kind("BAD_REFRESH_TOKEN"), Some(ErrorKind::InvalidGrant));
        assert_eq!(codes.kind("no_such_session"), None);
        codes.insert("no_such_session".to_owned(), ErrorKind::Denied);
        codes.insert("No_Such_Session".to_owned(), ErrorKind::InvalidGrant);
        codes.insert("token_expired".to_owned(), ErrorKind::Server);
        assert!(codes.check().is_ok());
        assert_eq!(codes.kind("no_such_session"), Some(ErrorKind::InvalidGrant));
        assert_eq!(codes.kind("token_expired"), Some(ErrorKind::Server));
    }

    #[test]
    fn f89_a_code_means_something_that_a_server_can_say() {
        for (code, kind) in
            [("", ErrorKind::Server), ("a\n", ErrorKind::Server), ("a", ErrorKind::Shutdown)]
        {
            let mut codes = ErrorCodes::default();
            codes.insert(code.to_owned(), kind);
            assert!(codes.check().is_err(), "{code} {kind}");
        }
    }
}
