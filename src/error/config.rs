/// A configuration that cannot work, found when it is built.
///
/// Each variant carries the value that is wrong, never a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// A URL that cannot be used for what it was given for.
    Url {
        /// What the URL is for, such as `token endpoint`.
        what: &'static str,
        /// The URL as given, without its user information, query and fragment.
        value: String,
        /// What is wrong with it and what is expected.
        reason: &'static str,
    },
    /// A scope token with characters that RFC 6749 §3.3 does not allow.
    Scope(String),
    /// An extra parameter that is empty, repeated, or set by the grant itself.
    Parameter {
        /// The parameter's name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A setting outside its range.
    Setting {
        /// The setting's name.
        name: &'static str,
        /// The value as given.
        value: String,
        /// What is expected.
        reason: &'static str,
    },
    /// A client authentication that the grant cannot work with.
    ClientAuth {
        /// The method's name, such as `none`.
        method: &'static str,
        /// Why it cannot be used.
        reason: &'static str,
    },
    /// A configuration that is weaker than the profile it was meant to follow, the FAPI 2.0 Security
    /// Profile.
    Fapi {
        /// What the profile says.
        clause: &'static str,
        /// What to do about it.
        reason: &'static str,
    },
    /// The HTTP client for the authorization server could not be built.
    Transport(String),
    /// Something in a configuration file.
    Document {
        /// Where it stands, such as `client.secret`; empty for the whole.
        path: String,
        /// What is wrong there and what is expected.
        reason: String,
    },
    /// What is wrong with one of several clients.
    Client {
        /// The client's name.
        name: String,
        /// What is wrong with it.
        error: Box<Self>,
    },
}

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Url { what, value, reason } => {
                write!(f, "{what} {value:?} cannot be used: {reason}")
            }
            Self::Scope(scope) => write!(
                f,
                "scope token {scope:?} cannot be used: a scope token is printable ASCII without \
                 space, quote or backslash; give each token on its own"
            ),
            Self::Parameter { name, reason } => {
                write!(f, "parameter {name:?} cannot be used: {reason}")
            }
            Self::Setting { name, value, reason } => {
                write!(f, "setting {name} cannot be {value}: {reason}")
            }
            Self::ClientAuth { method, reason } => {
                write!(f, "client authentication {method:?} cannot be used: {reason}")
            }
            Self::Fapi { clause, reason } => {
                write!(f, "not as FAPI 2.0 has it: clients \"{clause}\"; {reason}")
            }
            Self::Transport(reason) => write!(f, "the HTTP client cannot be built: {reason}"),
            Self::Document { path, reason } if path.is_empty() => f.write_str(reason),
            Self::Document { path, reason } => write!(f, "{path}: {reason}"),
            Self::Client { name, error } => write!(f, "client {name:?}: {error}"),
        }
    }
}

impl std::error::Error for ConfigError {}
