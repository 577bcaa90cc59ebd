use std::path::PathBuf;

use serde_json::Value;

use crate::{
    error::{BoxError, ConfigError},
    secret::{Members, Secret, SecretSource},
};

/// An external account configuration as it was read, before anything of it is believed.
pub(super) struct Configuration {
    pub(super) token_url: String,
    pub(super) audience: String,
    pub(super) subject_token_type: String,
    pub(super) subject: Subject,
    pub(super) impersonation: Option<Impersonated>,
    pub(super) client: Option<(String, Secret)>,
    pub(super) user_project: Option<String>,
}

/// Where the configuration has the subject token from.
#[derive(Debug, Clone)]
pub(super) enum Subject {
    /// A file, or a member of the JSON object in it.
    File(PathBuf, Option<String>),
    /// A member of `credential_source` whose kind is not used.
    Refused(&'static str),
}

/// The service account that is impersonated.
#[derive(Debug)]
pub(super) struct Impersonated {
    pub(super) url: String,
    /// In seconds.
    pub(super) lifetime: u64,
}

impl Configuration {
    /// Reads the JSON. Its text is never repeated: it may hold a client's secret.
    pub(super) fn parse(json: &str) -> Result<Self, ConfigError> {
        let value = serde_json::from_str(json).map_err(|_| bad("", "it is not JSON"))?;
        let root = Reader::new("", value)?;
        if root.text("type")?.as_deref() != Some("external_account") {
            return Err(bad("type", "only external_account is read"));
        }
        let client = match (root.text("client_id")?, root.text("client_secret")?) {
            (Some(id), Some(secret)) => Some((id, Secret::from(secret))),
            (None, None) => None,
            _ => return Err(bad("client_id", "it goes with client_secret")),
        };
        let impersonation = match root.text("service_account_impersonation_url")? {
            Some(url) => Some(Impersonated { url, lifetime: lifetime(&root)? }),
            None => None,
        };
        Ok(Self {
            token_url: root.needed("token_url")?,
            audience: root.needed("audience")?,
            subject_token_type: root.needed("subject_token_type")?,
            subject: subject(&root)?,
            impersonation,
            client,
            user_project: root.text("workforce_pool_user_project")?,
        })
    }
}

impl Subject {
    /// Reads the file again each time.
    pub(super) fn source(self) -> Result<SecretSource, ConfigError> {
        match self {
            Self::Refused(name) => {
                let reason = "only a file is read on a configuration's word; give another source \
                              with subject_token()";
                Err(ConfigError::Parameter { name: format!("credential_source.{name}"), reason })
            }
            Self::File(path, None) => Ok(SecretSource::file(path)),
            Self::File(path, Some(member)) => {
                let file = SecretSource::file(path);
                Ok(SecretSource::provider(move || {
                    let (file, member) = (file.clone(), member.clone());
                    async move { member_of(&file.read().await?, &member) }
                }))
            }
        }
    }
}

fn member_of(file: &Secret, member: &str) -> Result<Secret, BoxError> {
    // The error's own text is left out: it may repeat the file's.
    let value = serde_json::from_str(file.expose()).map_err(|_| "the file is not JSON")?;
    let Value::Object(object) = value else { return Err("the file is not a JSON object".into()) };
    match members(object).get(member) {
        Some(Value::String(token)) => Ok(Secret::from(&**token)),
        _ => Err("the file has no such member that is a string".into()),
    }
}

fn subject(root: &Reader) -> Result<Subject, ConfigError> {
    let source = root.object("credential_source")?;
    let source = source.ok_or_else(|| bad("credential_source", "it is missing"))?;
    // Whatever else is there: what runs a program or asks a URL is not overlooked.
    let refused = ["executable", "url", "environment_id", "certificate"];
    if let Some(name) = refused.into_iter().find(|name| source.members.get(name).is_some()) {
        return Ok(Subject::Refused(name));
    }
    let file = PathBuf::from(source.needed("file")?);
    let Some(format) = source.object("format")? else { return Ok(Subject::File(file, None)) };
    match format.text("type")?.as_deref() {
        None | Some("text") => Ok(Subject::File(file, None)),
        Some("json") => Ok(Subject::File(file, Some(format.needed("subject_token_field_name")?))),
        Some(_) => Err(bad("credential_source.format.type", "it is text or json")),
    }
}

fn lifetime(root: &Reader) -> Result<u64, ConfigError> {
    let Some(options) = root.object("service_account_impersonation")? else { return Ok(HOUR) };
    let name = "token_lifetime_seconds";
    match options.members.get(name) {
        None | Some(Value::Null) => Ok(HOUR),
        // Google's own bounds: from 10 min to 12 h.
        Some(value) => {
            let seconds = value.as_u64().filter(|seconds| (600..=43200).contains(seconds));
            seconds.ok_or_else(|| bad(&options.path(name), "it is a number from 600 to 43200"))
        }
    }
}

/// A JSON object and where it stands.
struct Reader {
    place: String,
    members: Members,
}

impl Reader {
    fn new(place: &str, value: Value) -> Result<Self, ConfigError> {
        match value {
            Value::Object(object) => Ok(Self { place: place.to_owned(), members: members(object) }),
            _ => Err(bad(place, "it is not a JSON object")),
        }
    }

    fn path(&self, name: &str) -> String {
        if self.place.is_empty() { name.to_owned() } else { format!("{}.{name}", self.place) }
    }

    fn text(&self, name: &str) -> Result<Option<String>, ConfigError> {
        match self.members.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if !text.is_empty() => Ok(Some(text.clone())),
            Some(_) => Err(bad(&self.path(name), "it is not a string, or an empty one")),
        }
    }

    fn needed(&self, name: &str) -> Result<String, ConfigError> {
        self.text(name)?.ok_or_else(|| bad(&self.path(name), "it is missing"))
    }

    fn object(&self, name: &str) -> Result<Option<Self>, ConfigError> {
        match self.members.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => Self::new(&self.path(name), value.clone()).map(Some),
        }
    }
}

fn members(object: serde_json::Map<String, Value>) -> Members {
    let mut members = Members::default();
    for (name, value) in object {
        members.insert(name, value);
    }
    members
}

fn bad(name: &str, reason: &'static str) -> ConfigError {
    let name = if name.is_empty() { "external account configuration" } else { name };
    ConfigError::Parameter { name: name.to_owned(), reason }
}

const HOUR: u64 = 3600;
