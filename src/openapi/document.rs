use std::fmt;

use serde_json::{Map, Value};

use super::{OpenApiError, Operation, SecurityScheme, operation, scheme, server};
use crate::error::printable;

/// An OpenAPI document: what it says about protection, and about servers.
///
/// No crate reads versions 3.0 and 3.1 with one set of types, and of the hundreds of members that
/// there are, a dozen matter here. So these are read by themselves; a document with mistakes
/// elsewhere is good enough.
#[derive(Clone)]
pub struct OpenApi {
    pub(super) schemes: Vec<SecurityScheme>,
    pub(super) operations: Vec<Operation>,
    pub(super) origins: Vec<String>,
}

impl OpenApi {
    /// Reads a document in JSON or YAML.
    ///
    /// # Errors
    ///
    /// [`OpenApiError`] when it is not one, when it says something about protection or servers that
    /// cannot be understood, or when a server's URL is relative: for that, see
    /// [`parse_at`](Self::parse_at).
    pub fn parse(text: &str) -> Result<Self, OpenApiError> {
        Self::read(&value(text)?, None)
    }

    /// As [`parse`](Self::parse), for a document that was found at this URL: relative URLs of servers
    /// start there.
    ///
    /// # Errors
    ///
    /// As [`parse`](Self::parse), and when the URL is not absolute.
    pub fn parse_at(text: &str, url: &str) -> Result<Self, OpenApiError> {
        Self::read(&value(text)?, Some(url))
    }

    /// Reads a document that is a value already.
    ///
    /// # Errors
    ///
    /// As [`parse_at`](Self::parse_at).
    pub fn read(document: &Value, url: Option<&str>) -> Result<Self, OpenApiError> {
        check_version(document)?;
        let document = Document(document);
        let servers = server::all(&document, url)?;
        Ok(Self {
            schemes: scheme::all(&document, servers.first())?,
            operations: operation::all(&document)?,
            origins: server::origins(&servers),
        })
    }

    /// The schemes of OAuth 2.0 and OpenID Connect, by their names.
    pub fn schemes(&self) -> &[SecurityScheme] {
        &self.schemes
    }

    /// The operations, and what each of them needs.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// The origins of all servers, each once, plain `http` ones too. Variables have their defaults.
    pub fn origins(&self) -> &[String] {
        &self.origins
    }
}

impl fmt::Debug for OpenApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenApi")
            .field("schemes", &self.schemes)
            .field("operations", &self.operations.len())
            .field("origins", &self.origins)
            .finish()
    }
}

fn value(text: &str) -> Result<Value, OpenApiError> {
    if text.len() > SIZE_CAP {
        return Err(OpenApiError::TooLarge);
    }
    let text = text.trim_start_matches('\u{feff}');
    let outcome = if text.trim_start().starts_with('{') {
        // YAML would take most of it too, but its errors are about YAML.
        serde_json::from_str(text).map_err(|error| error.to_string())
    } else if deepest(text) > DEPTH_CAP {
        // The parser bounds the depth too, but takes minutes to find out.
        Err("it is nested too deeply".to_owned())
    } else {
        // It bounds the depth, and what aliases repeat.
        yaml_serde::from_str(text).map_err(|error| error.to_string())
    };
    outcome.map_err(|problem| OpenApiError::Syntax(printable(&problem, 200)))
}

/// How many brackets and braces are open at once, at most; those in texts count too.
fn deepest(text: &str) -> u32 {
    let (mut open, mut most) = (0_u32, 0);
    for byte in text.bytes() {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            _ => continue,
        }
        most = most.max(open);
    }
    most
}

fn check_version(document: &Value) -> Result<(), OpenApiError> {
    let version = document.get("openapi").or_else(|| document.get("swagger"));
    match version {
        Some(Value::String(version)) if version.starts_with("3.") => Ok(()),
        Some(version) => {
            let text = version.as_str().map_or_else(|| version.to_string(), str::to_owned);
            Err(OpenApiError::Version(Some(printable(&text, 20))))
        }
        None => Err(OpenApiError::Version(None)),
    }
}

/// The whole of a document, in which references are followed.
pub(super) struct Document<'a>(pub(super) &'a Value);

impl<'a> Document<'a> {
    /// A member that is an object; `None` if it is not there.
    pub(super) fn object(
        &self,
        parent: &'a Value,
        name: &str,
        path: &str,
    ) -> Result<Option<&'a Map<String, Value>>, OpenApiError> {
        let Some(value) = parent.get(name).filter(|value| !value.is_null()) else {
            return Ok(None);
        };
        match self.follow(value, path)?.as_object() {
            Some(object) => Ok(Some(object)),
            None => Err(OpenApiError::member(path, "it is not an object")),
        }
    }

    /// What a value is, or what it refers to.
    pub(super) fn follow(
        &self,
        mut value: &'a Value,
        path: &str,
    ) -> Result<&'a Value, OpenApiError> {
        for _ in 0..REFERENCE_CAP {
            let Some(reference) = value.get("$ref") else { return Ok(value) };
            let bad = |reason: &str| {
                let shown = printable(&reference.to_string(), 100);
                OpenApiError::member(path, format!("the reference {shown} {reason}"))
            };
            let target = reference.as_str().and_then(|text| text.strip_prefix('#'));
            let target =
                target.ok_or_else(|| bad("leads out of the document: bundle it into one first"))?;
            value = self.0.pointer(target).ok_or_else(|| bad("leads nowhere"))?;
        }
        Err(OpenApiError::member(path, "its references have no end"))
    }
}

/// The largest public descriptions have a third of it.
const SIZE_CAP: usize = 32 * 1024 * 1024;
const REFERENCE_CAP: usize = 16;
const DEPTH_CAP: u32 = 1000;
