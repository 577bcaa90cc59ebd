use std::{borrow::Cow, cmp::Reverse};

use bytes::Bytes;

use crate::{
    http::{encoded_bound, form_encoded, push_form_encoded, wiped_string},
    secret::{Members, Secret},
};

/// The parameters of a token request, in the order they were set.
///
/// RFC 6749 §3.2: "Parameters sent without a value MUST be treated as if they were omitted from
/// the request. [...] Request and response parameters MUST NOT be included more than once."
#[derive(Clone, Default)]
pub(crate) struct Form(Vec<Parameter>);

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

    /// The names and values of all parameters that are no secrets.
    #[cfg(feature = "store")]
    pub(crate) fn public(&self) -> impl Iterator<Item = (&str, &str)> {
        let public = self.0.iter().filter(|parameter| !parameter.secret);
        public.map(|parameter| (&*parameter.name, parameter.value.expose()))
    }

    /// The values that must not come back in an error.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &Secret> {
        self.0.iter().filter(|parameter| parameter.secret).map(|parameter| &parameter.value)
    }

    /// The encoded body, in memory that is wiped once the last copy of it is dropped.
    pub(crate) fn to_body(&self) -> Bytes {
        let room = self.0.iter().map(|parameter| {
            let Parameter { name, value, .. } = parameter;
            encoded_bound(name).saturating_add(encoded_bound(value.expose())).saturating_add(2)
        });
        let mut body = wiped_string(room.fold(0, usize::saturating_add));
        for Parameter { name, value, .. } in &self.0 {
            if !body.is_empty() {
                body.push('&');
            }
            push_form_encoded(&mut body, name);
            body.push('=');
            push_form_encoded(&mut body, value.expose());
        }
        Bytes::from_owner(body)
    }

    fn put(&mut self, name: Cow<'static, str>, value: Secret, secret: bool) {
        self.0.retain(|parameter| parameter.name != name);
        self.push(name, value, secret);
    }

    fn push(&mut self, name: Cow<'static, str>, value: Secret, secret: bool) {
        if !value.expose().is_empty() {
            self.0.push(Parameter { name, value, secret });
        }
    }
}

/// Replaces what was sent in secret by `[redacted]`: a server may repeat it in an error.
pub(crate) struct Redactor(Vec<Secret>);

impl Redactor {
    /// Looks for these values, as they are and as they stand in a form.
    pub(crate) fn new<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Self {
        let mut forms = Vec::new();
        for secret in secrets {
            let encoded = form_encoded(secret.expose());
            forms.push(Secret::from(encoded.replace('+', "%20")));
            forms.push(Secret::from(encoded.as_str()));
            forms.push(secret.clone());
        }
        forms.retain(|form| !form.expose().is_empty());
        // The longest first: a shorter one may be a part of it.
        forms.sort_by_key(|form| Reverse(form.expose().len()));
        forms.dedup();
        Self(forms)
    }

    /// Looks for the tokens among these members too: an answer may repeat its own.
    pub(crate) fn and_tokens_of(mut self, members: &Members) -> Self {
        let tokens = ["access_token", "refresh_token", "id_token"].iter();
        let tokens = tokens.filter_map(|name| members.get(name)?.as_str()).map(Secret::from);
        self.0.extend(tokens.filter(|token| !token.expose().is_empty()));
        self
    }

    /// The text without the secrets.
    pub(crate) fn clean(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| {
            if text.contains(secret.expose()) {
                text.replace(secret.expose(), "[redacted]")
            } else {
                text
            }
        })
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
    }

    #[test]
    fn f57_a_secret_is_found_raw_and_encoded() {
        let redactor = Redactor::new([&Secret::from("p@ss w+rd"), &Secret::from("p@ss")]);
        for sent in ["p@ss w+rd", "p%40ss+w%2Brd", "p%40ss%20w%2Brd"] {
            assert_eq!(redactor.clean(&format!("bad {sent}!")), "bad [redacted]!");
        }
        assert_eq!(Redactor::new([&Secret::from("")]).clean("text"), "text");
    }
}
