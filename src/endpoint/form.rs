use std::borrow::Cow;

use bytes::Bytes;

use crate::{
    http::{encoded_bound, push_form_encoded, push_percent_encoded, wiped_string},
    secret::Secret,
};

/// The parameters of a token request, in the order they were set.
///
/// RFC 6749 §3.2: "Parameters sent without a value MUST be treated as if they were omitted from
/// the request. [...] Request and response parameters MUST NOT be included more than once."
#[derive(Clone, Default)]
pub(crate) struct Form {
    parameters: Vec<Parameter>,
    space: Space,
}

/// How a space is written in the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Space {
    /// `+`, as RFC 6749 App. B has it.
    #[default]
    Plus,
    /// `%20`, for servers that decode as in a path.
    Percent,
}

#[derive(Clone)]
struct Parameter {
    name: Cow<'static, str>,
    value: Secret,
    secret: bool,
}

impl Form {
    /// Sets a parameter, in place of an earlier one of that name. An empty value is left out.
    pub(crate) fn set(&mut self, name: impl Into<Cow<'static, str>>, value: impl Into<Secret>) {
        self.put(name.into(), value.into(), false);
    }

    /// Sets a parameter that must not come back in an error.
    pub(crate) fn set_secret(&mut self, name: &'static str, value: Secret) {
        self.put(name.into(), value, true);
    }

    /// Adds one value of a parameter that may be repeated: `resource` (RFC 8707 §2) or `audience`
    /// (RFC 8693 §2.1).
    pub(crate) fn add(&mut self, name: &'static str, value: impl Into<Secret>) {
        self.push(name.into(), value.into(), false);
    }

    /// Sets how spaces are written.
    pub(crate) fn set_space(&mut self, space: Space) {
        self.space = space;
    }

    /// The names and values of all parameters that are no secrets.
    #[cfg(feature = "store")]
    pub(crate) fn public(&self) -> impl Iterator<Item = (&str, &str)> {
        let public = self.parameters.iter().filter(|parameter| !parameter.secret);
        public.map(|parameter| (&*parameter.name, parameter.value.expose()))
    }

    /// The values that must not come back in an error.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &Secret> {
        self.parameters
            .iter()
            .filter(|parameter| parameter.secret)
            .map(|parameter| &parameter.value)
    }

    /// The encoded body, in memory that is wiped once the last copy of it is dropped.
    pub(crate) fn to_body(&self) -> Bytes {
        let room = self.parameters.iter().map(|parameter| {
            let Parameter { name, value, .. } = parameter;
            encoded_bound(name).saturating_add(encoded_bound(value.expose())).saturating_add(2)
        });
        let mut body = wiped_string(room.fold(0, usize::saturating_add));
        let push = match self.space {
            Space::Plus => push_form_encoded,
            Space::Percent => push_percent_encoded,
        };
        for Parameter { name, value, .. } in &self.parameters {
            if !body.is_empty() {
                body.push('&');
            }
            push(&mut body, name);
            body.push('=');
            push(&mut body, value.expose());
        }
        Bytes::from_owner(body)
    }

    fn put(&mut self, name: Cow<'static, str>, value: Secret, secret: bool) {
        self.parameters.retain(|parameter| parameter.name != name);
        self.push(name, value, secret);
    }

    fn push(&mut self, name: Cow<'static, str>, value: Secret, secret: bool) {
        if !value.expose().is_empty() {
            self.parameters.push(Parameter { name, value, secret });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(form: &Form) -> String {
        String::from_utf8(form.to_body().to_vec()).unwrap()
    }

    #[test]
    fn trq_03_nothing_is_sent_twice_or_empty_but_resources_repeat() {
        let mut form = Form::default();
        form.set("scope", "a");
        form.set("scope", "b c");
        form.set("client_id", "");
        form.add("resource", "https://one.example");
        form.add("resource", "https://two.example");
        assert_eq!(
            body(&form),
            "scope=b+c&resource=https%3A%2F%2Fone.example&resource=https%3A%2F%2Ftwo.example"
        );
        form.set("scope", "");
        assert!(body(&form).starts_with("resource="));
    }

    #[test]
    fn trq_02_a_value_is_utf_8_first_and_then_form_encoded() {
        let mut form = Form::default();
        form.set("x", " %&+£€");
        assert_eq!(body(&form), "x=+%25%26%2B%C2%A3%E2%82%AC");
        form.set_space(Space::Percent);
        assert_eq!(body(&form), "x=%20%25%26%2B%C2%A3%E2%82%AC");
    }

    #[cfg(feature = "store")]
    #[test]
    fn f57_what_is_public_of_a_form_is_all_but_its_secrets() {
        let mut form = Form::default();
        form.set("grant_type", "refresh_token");
        form.set_secret("refresh_token", Secret::from("hunter2"));
        form.add("resource", "https://one.example");
        form.add("resource", "https://two.example");
        assert_eq!(
            form.public().collect::<Vec<_>>(),
            [
                ("grant_type", "refresh_token"),
                ("resource", "https://one.example"),
                ("resource", "https://two.example")
            ]
        );
        assert_eq!(form.secrets().map(Secret::expose).collect::<Vec<_>>(), ["hunter2"]);
    }
}
