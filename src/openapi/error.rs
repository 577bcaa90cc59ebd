use std::fmt;

/// Why an OpenAPI document gives no configuration.
///
/// What it repeats of the document is cut and escaped.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenApiError {
    /// It is larger than 32 MiB.
    TooLarge,
    /// It is neither JSON nor YAML.
    Syntax(String),
    /// It is not OpenAPI 3: of this version, or of none.
    Version(Option<String>),
    /// A member is missing, or is not what the specification says.
    Member {
        /// Where it stands, such as `components.securitySchemes.orders`.
        path: String,
        /// What is wrong there and what is expected.
        reason: String,
    },
    /// A server that cannot be an allowed origin.
    Server {
        /// Its URL.
        url: String,
        /// Why.
        reason: &'static str,
    },
    /// It has no scheme of OAuth 2.0 or OpenID Connect, or none of the name that was asked for.
    NoScheme,
    /// It has several, of these names: one has to be asked for.
    SeveralSchemes(Vec<String>),
    /// A scheme with no flow for a program alone.
    NeedsUser {
        /// The scheme's name.
        scheme: String,
        /// The flows that it has.
        flows: Vec<String>,
    },
}

impl OpenApiError {
    pub(super) fn member(path: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Member { path: path.into(), reason: reason.into() }
    }
}

impl fmt::Display for OpenApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => f.write_str("the OpenAPI document is larger than 32 MiB"),
            Self::Syntax(problem) => {
                write!(f, "the OpenAPI document is neither JSON nor YAML: {problem}")
            }
            Self::Version(Some(version)) => write!(
                f,
                "the OpenAPI document has version \"{version}\", and only version 3 is read: \
                 convert it first"
            ),
            Self::Version(None) => f.write_str(
                "it is no OpenAPI document: the member openapi, its version, is missing",
            ),
            Self::Member { path, reason } => write!(f, "{path}: {reason}"),
            Self::Server { url, reason } => {
                write!(f, "server \"{url}\" cannot be an allowed origin: {reason}")
            }
            Self::NoScheme => f.write_str(
                "the OpenAPI document has no such security scheme of type oauth2 or openIdConnect",
            ),
            Self::SeveralSchemes(names) => write!(
                f,
                "the OpenAPI document has several security schemes, of which one has to be asked \
                 for: {}",
                names.join(", ")
            ),
            Self::NeedsUser { scheme, flows } => write!(
                f,
                "security scheme \"{scheme}\" has flows only that need a user ({}): let somebody \
                 give access with them once, and configure the grant refresh_token with what you \
                 get",
                flows.join(", ")
            ),
        }
    }
}

impl std::error::Error for OpenApiError {}
