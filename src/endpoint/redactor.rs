//! Removes secrets from text that a server sent, before an error shows it.

use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use serde_json::Value;

use super::disguise::{BETWEEN, Undisguised};
use crate::{
    error::LONGEST_TEXT,
    http::form_encoded,
    secret::{Members, Secret},
};

/// Replaces secrets by `[redacted]` in text that a server sent: the server may repeat what it got,
/// or the tokens that it issued.
pub(crate) struct Redactor {
    secrets: Vec<Secret>,
    /// How many of them were found in the answer, and not sent.
    of_answer: usize,
}

impl Redactor {
    /// Looks for these values, as they are and in any usual encoding.
    pub(crate) fn new<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Self {
        let mut forms = Vec::new();
        for secret in secrets {
            let encoded = form_encoded(secret.expose());
            forms.push(Secret::from(encoded.replace('+', "%20")));
            forms.push(Secret::from(encoded.as_str()));
            forms.push(secret.clone());
        }
        forms.retain(|form| !form.expose().is_empty());
        Self { secrets: forms, of_answer: 0 }
    }

    /// Looks for this value too.
    pub(crate) fn and(mut self, secret: &Secret) -> Self {
        self.add(secret.expose());
        self
    }

    /// Looks for the tokens among these members too, however deep: an answer may repeat its own.
    pub(crate) fn and_tokens_of(mut self, members: &Members) -> Self {
        members.iter().for_each(|(name, value)| self.add_tokens(name, value));
        self
    }

    /// The nesting is bounded by the parser, so this does not recurse without end.
    fn add_tokens(&mut self, name: &str, value: &Value) {
        match value {
            Value::String(token) if TOKENS.contains(&name) => self.add(token),
            Value::Array(values) => values.iter().for_each(|value| self.add_tokens(name, value)),
            Value::Object(members) => {
                members.iter().for_each(|(name, value)| self.add_tokens(name, value));
            }
            _ => {}
        }
    }

    fn add(&mut self, token: &str) {
        if token.is_empty() {
            return;
        }
        self.of_answer = self.of_answer.saturating_add(1);
        if self.of_answer <= MOST_TOKENS {
            self.secrets.push(token.into());
        }
    }

    /// Returns the text without the secrets, cut to what an error can show.
    ///
    /// The matcher knows the first bytes of each secret only, so that its size does not depend on the
    /// answer. A match reaches as far as the text agrees with the secret. The text that is looked at
    /// is longer than what is shown, by as much as the matcher needs to see.
    ///
    /// A secret that is there in another encoding hides the whole text: where it stands cannot be
    /// said.
    pub(crate) fn clean(&self, text: &str) -> String {
        if self.of_answer > MOST_TOKENS {
            // No server sends so many: this answer was made to hurt, and nothing of it is shown.
            return if text.is_empty() { String::new() } else { REDACTED.to_owned() };
        }
        let shown = floor(text, LONGEST_TEXT);
        let Some(hidden) = self.find(text, shown) else { return REDACTED.to_owned() };
        if self.is_disguised_in(text, &hidden) {
            return REDACTED.to_owned();
        }
        let mut out = String::with_capacity(shown);
        let mut at = 0;
        for range in hidden.into_iter().filter(|range| range.start < shown) {
            out.push_str(text.get(at..range.start).unwrap_or_default());
            out.push_str(REDACTED);
            at = range.end;
        }
        out.push_str(text.get(at..shown).unwrap_or_default());
        if shown < text.len() {
            out.push_str("...");
        }
        out
    }

    /// Whether a secret is in what is left of the text, in another encoding.
    fn is_disguised_in(&self, text: &str, hidden: &[Range<usize>]) -> bool {
        let seen = floor(text, LONGEST_TEXT + PREFIX);
        let (mut left, mut at) = (Vec::with_capacity(seen), 0);
        for range in hidden {
            left.extend(text.get(at..range.start).unwrap_or_default().as_bytes());
            left.push(BETWEEN);
            at = range.end;
        }
        left.extend(text.get(at..seen).unwrap_or_default().as_bytes());
        if left.is_empty() || self.secrets.is_empty() {
            return false;
        }
        let undisguised = Undisguised::of(&left);
        self.secrets.iter().any(|secret| undisguised.repeats(secret.expose()))
    }

    /// Finds where secrets stand in the text that is looked at: in order, and apart. `None` if that
    /// cannot be said.
    fn find(&self, text: &str, shown: usize) -> Option<Vec<Range<usize>>> {
        if self.secrets.is_empty() || shown == 0 {
            return Some(Vec::new());
        }
        let seen = floor(text, LONGEST_TEXT + PREFIX);
        let seen = text.get(..seen)?.as_bytes();
        let matcher = AhoCorasick::builder()
            .kind(Some(AhoCorasickKind::NoncontiguousNFA))
            .build(self.secrets.iter().map(prefix))
            .ok()?;
        let mut hidden: Vec<Range<usize>> = Vec::new();
        for found in matcher.find_overlapping_iter(seen) {
            let covered = hidden.last().map_or(0, |last| last.end);
            let end = if covered >= shown {
                found.end()
            } else {
                let secret = self.secrets.get(found.pattern().as_usize())?.expose().as_bytes();
                let rest = seen.get(found.start()..)?;
                let agree = secret.iter().zip(rest).take_while(|(a, b)| a == b).count();
                found.start() + agree
            };
            hide(&mut hidden, found.start()..end);
        }
        // Whole characters: a secret may end within one, where it was cut.
        for range in &mut hidden {
            range.start = floor(text, range.start);
            range.end = ceil(text, range.end);
        }
        Some(hidden)
    }
}

/// Adds a range, and joins it with those that it touches. Matches come in the order of their ends,
/// so a long one may begin before the last few.
fn hide(hidden: &mut Vec<Range<usize>>, mut range: Range<usize>) {
    while let Some(last) = hidden.last().filter(|last| last.end >= range.start) {
        range = range.start.min(last.start)..range.end.max(last.end);
        hidden.pop();
    }
    hidden.push(range);
}

/// The last character boundary that is not after `at`.
fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// The first character boundary that is not before `at`.
fn ceil(text: &str, at: usize) -> usize {
    (at..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len())
}

/// The first bytes of a secret: they are enough to find it.
fn prefix(secret: &Secret) -> &[u8] {
    let bytes = secret.expose().as_bytes();
    bytes.get(..PREFIX).unwrap_or(bytes)
}

const REDACTED: &str = "[redacted]";

/// The members that hold tokens, in the standards' spelling and Google's.
const TOKENS: [&str; 4] = ["access_token", "refresh_token", "id_token", "accessToken"];

/// How many bytes of a secret the matcher knows.
const PREFIX: usize = 64;

/// How many tokens an answer may hold, so that its text is still shown.
const MOST_TOKENS: usize = 32;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn f57_a_secret_is_found_raw_and_encoded() {
        let redactor = Redactor::new([&Secret::from("p@ss w+rd"), &Secret::from("p@ss")]);
        for sent in ["p@ss w+rd", "p%40ss+w%2Brd", "p%40ss%20w%2Brd"] {
            assert_eq!(redactor.clean(&format!("bad {sent}!")), "bad [redacted]!");
        }
        assert_eq!(Redactor::new([&Secret::from("")]).clean("text"), "text");
    }

    #[test]
    fn f57_a_secret_in_another_encoding_hides_the_whole_text() {
        let redactor = Redactor::new([&Secret::from("Zx+9/tq8Lk3fA==")]);
        for sent in
            ["Zx%2b9%2ftq8Lk3fA%3d%3d", "Zx&#x2B;9/tq8Lk3fA==", "Y2xpOlp4KzkvdHE4TGszZkE9PQ=="]
        {
            assert_eq!(redactor.clean(&format!("bad {sent}!")), REDACTED);
        }
        assert_eq!(redactor.clean("100%25 of Zx+9/tq8Lk3fA=="), "100%25 of [redacted]");
    }

    #[test]
    fn f57_tokens_of_an_answer_are_found_however_deep() {
        let mut members = Members::default();
        let nested =
            serde_json::json!([{ "access_token": "a1", "team": "t", "x": { "id_token": "i1" } }]);
        members.insert("authed".to_owned(), nested);
        members.insert("refresh_token".to_owned(), "r1".into());
        let redactor = Redactor::new([]).and_tokens_of(&members);
        assert_eq!(redactor.clean("a1 i1 r1 t"), "[redacted] [redacted] [redacted] t");
    }

    /// Each replacement used to be searched for the next secret: the text grew with each.
    #[test]
    fn f86_a_replacement_is_not_searched_again() {
        let secrets = ["d", "e", "[redacted]"].map(Secret::from);
        let redactor = Redactor::new(&secrets);
        assert_eq!(redactor.clean("d.e.x"), "[redacted].[redacted].x");
        assert_eq!(redactor.clean("de"), "[redacted]");
    }

    #[test]
    fn f86_secrets_that_overlap_are_hidden_whole() {
        let redactor = Redactor::new(&["abcd", "cdef", "b"].map(Secret::from));
        assert_eq!(redactor.clean("xabcdefx"), "x[redacted]x");
    }

    #[test]
    fn f86_nothing_of_a_secret_is_shown_where_the_text_is_cut() {
        let long = "0123456789".repeat(100);
        let redactor = Redactor::new([&Secret::from(&*long)]);
        for before in 0..LONGEST_TEXT + 10 {
            let cleaned = redactor.clean(&format!("{}{long} end", "x".repeat(before)));
            assert!(!cleaned.contains("01"), "{before}: {cleaned}");
        }
        // One that comes late is hidden, and what follows it is shown.
        let text = format!("{}{}é and more", "x".repeat(10), long.get(..200).unwrap());
        assert_eq!(redactor.clean(&text), "xxxxxxxxxx[redacted]é and more");
    }

    #[test]
    fn f86_nothing_is_shown_of_an_answer_with_more_tokens_than_any_server_sends() {
        let mut members = Members::default();
        members.insert("access_token".to_owned(), vec!["d"; 40].into());
        let redactor = Redactor::new([]).and_tokens_of(&members);
        assert_eq!(redactor.clean("what it says"), "[redacted]");
        assert_eq!(redactor.clean(""), "");
    }

    proptest! {
        #[test]
        fn f86_no_secret_is_left_in_any_text(
            secrets in proptest::collection::vec("[abé]{1,4}", 1..4),
            text in "[abé.]{0,40}",
        ) {
            let redactor = Redactor::new(&secrets.iter().map(|s| Secret::from(&**s)).collect::<Vec<_>>());
            let cleaned = redactor.clean(&text).replace(REDACTED, "|");
            for secret in &secrets {
                prop_assert!(!cleaned.contains(&**secret), "{text:?} became {cleaned:?}");
            }
        }
    }
}
