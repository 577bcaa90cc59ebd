use std::{
    env, fmt,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error as _, MapAccess, Visitor},
    ser::{Error as _, SerializeMap},
};
use zeroize::Zeroizing;

use crate::{
    error::ConfigError,
    secret::{Secret, SecretSource},
};

/// Where a secret is: `{ env = "NAME" }` or `{ file = "PATH" }`.
///
/// It is read again for every token request, so that it can be replaced while the program runs. The
/// secret itself does not belong in a configuration, which is copied, logged and kept in
/// repositories; `{ danger_literal = "…" }` takes it all the same, for a test.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SecretRef {
    /// An environment variable of this name.
    Env(String),
    /// A file, of at most 64 KiB; white space at its end does not count.
    File(PathBuf),
    /// The secret itself.
    DangerLiteral(Secret),
}

impl SecretRef {
    /// The source that reads it.
    pub fn source(&self) -> SecretSource {
        match self {
            Self::Env(name) => SecretSource::env(name),
            Self::File(path) => SecretSource::file(path),
            Self::DangerLiteral(secret) => SecretSource::literal(secret.clone()),
        }
    }

    /// The source, if there is something to read.
    pub(super) fn checked(&self, path: &str) -> Result<SecretSource, ConfigError> {
        self.read_now(path).map(|_| self.source())
    }

    /// Reads it at once, as [`SecretSource::read`] does.
    pub(super) fn read_now(&self, path: &str) -> Result<Secret, ConfigError> {
        let secret = match self {
            Self::Env(name) => env::var(name).map(Secret::from).map_err(|error| {
                let problem = match error {
                    env::VarError::NotPresent => "is not set",
                    env::VarError::NotUnicode(_) => "is not UTF-8",
                };
                bad(path, format!("the environment variable{} {problem}", shown_name(name)))
            })?,
            Self::File(file) => read(file)
                .map_err(|problem| bad(path, format!("the file{} {problem}", shown_path(file))))?,
            Self::DangerLiteral(secret) => secret.clone(),
        };
        if secret.expose().is_empty() {
            return Err(bad(path, format!("the secret from {self:?} is empty")));
        }
        Ok(secret)
    }
}

fn read(path: &Path) -> Result<Secret, String> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(4096));
    File::open(path)
        .and_then(|file| file.take(FILE_CAP + 1).read_to_end(&mut bytes))
        .map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() as u64 > FILE_CAP {
        return Err("is larger than 64 KiB".to_owned());
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| "is not UTF-8".to_owned())?;
    Ok(text.trim_end().into())
}

fn bad(path: &str, reason: String) -> ConfigError {
    ConfigError::Document { path: path.to_owned(), reason }
}

/// A variable's name, if it is written as one: somebody may have put the secret there.
fn shown_name(name: &str) -> String {
    let is_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    if name.contains('_') && name.chars().all(is_name) { format!(" {name}") } else { String::new() }
}

/// A path, if it is written as one, likewise.
fn shown_path(path: &Path) -> String {
    let is_path = path.is_absolute() || path.starts_with(".") || path.starts_with("..");
    if is_path { format!(" {:?}", path.to_string_lossy()) } else { String::new() }
}

impl fmt::Debug for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env{}", shown_name(name)),
            Self::File(path) => write!(f, "file{}", shown_path(path)),
            Self::DangerLiteral(_) => f.write_str("literal"),
        }
    }
}

impl<'de> Deserialize<'de> for SecretRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SecretVisitor)
    }
}

struct SecretVisitor;

impl<'de> Visitor<'de> for SecretVisitor {
    type Value = SecretRef;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(EXPECTED)
    }

    // Whatever stands here instead is not repeated, by any format: it is a secret.

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<SecretRef, E> {
        Err(E::custom(INLINE))
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<SecretRef, E> {
        Err(E::custom(INLINE))
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<SecretRef, E> {
        Err(E::custom(INLINE))
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<SecretRef, E> {
        Err(E::custom(INLINE))
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<SecretRef, E> {
        Err(E::custom(INLINE))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<SecretRef, A::Error> {
        let mut found = None;
        while let Some(name) = entries.next_key::<String>()? {
            let value = match &*name {
                "env" => SecretRef::Env(entries.next_value()?),
                "file" => SecretRef::File(entries.next_value::<String>()?.into()),
                "danger_literal" => {
                    SecretRef::DangerLiteral(entries.next_value::<String>()?.into())
                }
                other => return Err(A::Error::unknown_field(other, KEYS)),
            };
            if found.replace(value).is_some() {
                return Err(A::Error::custom("a secret comes from one place: env or file"));
            }
        }
        found.ok_or_else(|| A::Error::custom(EXPECTED))
    }
}

impl Serialize for SecretRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        match self {
            Self::Env(name) => map.serialize_entry("env", name)?,
            Self::File(path) => map.serialize_entry("file", path)?,
            Self::DangerLiteral(_) => {
                return Err(S::Error::custom("a literal secret is not written to a configuration"));
            }
        }
        map.end()
    }
}

const FILE_CAP: u64 = 64 * 1024;
const KEYS: &[&str] = &["env", "file"];
const EXPECTED: &str = "a reference to a secret, { env = \"NAME\" } or { file = \"PATH\" }";
const INLINE: &str = "a secret is not written here: put it into an environment variable or a file, \
                      and refer to it with { env = \"NAME\" } or { file = \"PATH\" }";
