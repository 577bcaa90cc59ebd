use std::collections::BTreeSet;

use serde_json::Value;

use super::{OpenApiError, document::Document, scheme::NAME_CAP};
use crate::error::printable;

/// An operation, and what it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Operation {
    /// Its `operationId`, if it has one.
    pub id: Option<String>,
    /// Its method in upper case.
    pub method: String,
    /// Its path, with variables in braces.
    pub path: String,
    /// What a request needs: one of these. Without any, it needs nothing.
    pub alternatives: Vec<Vec<Requirement>>,
}

/// A scheme that a request has to satisfy, and the scopes for it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Requirement {
    /// The scheme's name.
    pub scheme: String,
    /// The scopes that the token needs.
    pub scopes: Vec<String>,
}

impl Operation {
    /// The scopes that it needs of a scheme, in whichever of its alternatives.
    pub fn scopes(&self, scheme: &str) -> BTreeSet<&str> {
        let requirements = self.alternatives.iter().flatten();
        requirements
            .filter(|requirement| requirement.scheme == scheme)
            .flat_map(|requirement| requirement.scopes.iter().map(String::as_str))
            .collect()
    }
}

/// All operations of all paths.
pub(super) fn all(document: &Document<'_>) -> Result<Vec<Operation>, OpenApiError> {
    let common = document.0.get("security");
    let mut operations = Vec::new();
    for (path, place, item) in path_items(document)? {
        for method in METHODS {
            let Some(operation) = item.get(method) else { continue };
            let place = format!("{place}.{method}.security");
            // "This definition overrides any declared top-level security."
            let security = operation.get("security").or(common);
            operations.push(Operation {
                id: operation.get("operationId").and_then(Value::as_str).map(str::to_owned),
                method: method.to_ascii_uppercase(),
                path: path.to_owned(),
                alternatives: alternatives(security, &place)?,
            });
        }
    }
    Ok(operations)
}

/// The paths, where each of them stands (for errors), and what stands there.
pub(super) fn path_items<'a>(
    document: &Document<'a>,
) -> Result<Vec<(&'a str, String, &'a Value)>, OpenApiError> {
    let mut items = Vec::new();
    let paths = document.object(document.0, "paths", "paths")?;
    for (path, item) in paths.into_iter().flatten() {
        let place = format!("paths.{}", printable(path, PATH_CAP));
        // A reference to another file is another document's protection.
        let item = document.follow(item, &place)?;
        items.push((path.as_str(), place, item));
    }
    Ok(items)
}

fn alternatives(
    security: Option<&Value>,
    place: &str,
) -> Result<Vec<Vec<Requirement>>, OpenApiError> {
    let listed = match security {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(listed)) => listed,
        Some(_) => return Err(OpenApiError::member(place, "it is not a list")),
    };
    listed
        .iter()
        .map(|alternative| {
            let not_object = || OpenApiError::member(place, "an item is not an object");
            let schemes = alternative.as_object().ok_or_else(not_object)?;
            schemes
                .iter()
                .map(|(scheme, scopes)| {
                    let text = |scope: &Value| scope.as_str().map(str::to_owned);
                    let scopes: Option<Vec<_>> =
                        scopes.as_array().and_then(|scopes| scopes.iter().map(text).collect());
                    let scopes = scopes.ok_or_else(|| {
                        let scheme = printable(scheme, NAME_CAP);
                        OpenApiError::member(place, format!("{scheme} has no list of scopes"))
                    })?;
                    Ok(Requirement { scheme: scheme.clone(), scopes })
                })
                .collect()
        })
        .collect()
}

const METHODS: [&str; 9] =
    ["get", "put", "post", "delete", "options", "head", "patch", "trace", "query"];
const PATH_CAP: usize = 120;
