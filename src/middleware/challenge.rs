use std::time::Duration;

use http::{HeaderMap, HeaderValue, header::WWW_AUTHENTICATE};

/// The challenges of a response: how the server wants to be asked ([RFC 9110 §11.6.1]).
///
/// The layer leaves them in the extensions of responses with status 400, 401 or 403 that come back
/// to the caller.
///
/// ```
/// use tower_oauth::middleware::Challenges;
///
/// let mut response = http::Response::new(());
/// # response.extensions_mut().insert(Challenges::read(&http::HeaderMap::new()).unwrap());
/// if let Some(challenges) = response.extensions().get::<Challenges>() {
///     if let Some(wanted) = challenges.authentication_requirements() {
///         println!("log in again with {:?}", wanted.acr_values);
///     }
/// }
/// ```
///
/// [RFC 9110 §11.6.1]: https://www.rfc-editor.org/rfc/rfc9110#section-11.6.1
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Challenges(Vec<Challenge>);

/// One challenge: an authentication scheme and its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// In lower case.
    scheme: String,
    /// Their names in lower case; none for a token68 challenge.
    params: Vec<(String, String)>,
}

/// A field that does not follow the grammar, repeats a parameter, or is too large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// What an API wants of the user's login ([RFC 9470 §3]). A service cannot do it by itself.
///
/// [RFC 9470 §3]: https://www.rfc-editor.org/rfc/rfc9470#section-3
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuthenticationRequirements {
    /// The authentication context classes of which one is wanted, in order of preference.
    pub acr_values: Vec<String>,
    /// How long ago the user may have logged in at most.
    pub max_age: Option<Duration>,
}

impl Challenges {
    /// Reads every challenge of every `WWW-Authenticate` field line.
    ///
    /// # Errors
    ///
    /// [`Malformed`] when any of it does not follow the grammar: then none of it is believed.
    pub fn read(headers: &HeaderMap) -> Result<Self, Malformed> {
        let lines = || headers.get_all(WWW_AUTHENTICATE).iter().map(HeaderValue::as_bytes);
        if lines().map(<[u8]>::len).fold(0, usize::saturating_add) > FIELD_CAP {
            return Err(Malformed);
        }
        let mut challenges = Vec::new();
        for line in lines() {
            Parser { rest: line }.field(&mut challenges)?;
        }
        Ok(Self(challenges))
    }

    /// The challenges in their order.
    pub fn iter(&self) -> impl Iterator<Item = &Challenge> {
        self.0.iter()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The challenges that are about OAuth tokens: of the schemes `Bearer` and `DPoP`.
    pub(super) fn about_tokens(&self) -> impl Iterator<Item = &Challenge> {
        self.iter().filter(|challenge| matches!(challenge.scheme(), "bearer" | "dpop"))
    }

    /// What the API wants of the user's login, if that is why it refused
    /// (`insufficient_user_authentication`).
    pub fn authentication_requirements(&self) -> Option<AuthenticationRequirements> {
        let is_ours = |challenge: &&Challenge| {
            challenge.param("error") == Some("insufficient_user_authentication")
        };
        let challenge = self.about_tokens().find(is_ours)?;
        let acr_values = challenge.param("acr_values").unwrap_or_default().split_ascii_whitespace();
        // RFC 9470 §3: max_age is a "non-negative integer value".
        let max_age = challenge.param("max_age").and_then(|seconds| seconds.parse().ok());
        Some(AuthenticationRequirements {
            acr_values: acr_values.map(str::to_owned).collect(),
            max_age: max_age.map(Duration::from_secs),
        })
    }

    /// Where the API says that its metadata is ([RFC 9728 §5.1]). It is the API's word alone.
    ///
    /// [RFC 9728 §5.1]: https://www.rfc-editor.org/rfc/rfc9728#section-5.1
    pub fn resource_metadata(&self) -> Option<&str> {
        self.about_tokens().find_map(|challenge| challenge.param("resource_metadata"))
    }
}

impl Challenge {
    /// The authentication scheme in lower case, such as `bearer`.
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// The value of a parameter; the name is given in lower case.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }
}

struct Parser<'a> {
    rest: &'a [u8],
}

/// How a challenge goes on after its scheme.
enum Start {
    /// It can have parameters, now or after a comma.
    Open,
    /// It was a token68, which stands alone.
    Closed,
}

impl<'a> Parser<'a> {
    /// ```text
    /// WWW-Authenticate = #challenge
    /// challenge        = auth-scheme [ 1*SP ( token68 / #auth-param ) ]
    /// ```
    ///
    /// A comma separates challenges and parameters alike: what comes after one is a parameter if an
    /// equals sign follows its first token, and else a scheme.
    fn field(&mut self, challenges: &mut Vec<Challenge>) -> Result<(), Malformed> {
        let mut open = false;
        loop {
            self.skip(|b| is_space(b) || b == b',');
            if self.rest.is_empty() {
                return Ok(());
            }
            let name = self.token()?;
            if self.equals() {
                let challenge = challenges.last_mut().filter(|_| open).ok_or(Malformed)?;
                self.parameter(name, challenge)?;
            } else {
                if challenges.len() >= CHALLENGE_CAP {
                    return Err(Malformed);
                }
                let mut challenge = Challenge { scheme: name, params: Vec::new() };
                open = matches!(self.start(&mut challenge)?, Start::Open);
                challenges.push(challenge);
            }
            self.end_of_element()?;
        }
    }

    /// What follows a scheme.
    fn start(&mut self, challenge: &mut Challenge) -> Result<Start, Malformed> {
        let spaces = self.skip(is_space);
        match self.rest.first() {
            None | Some(b',') => return Ok(Start::Open),
            Some(_) if spaces == 0 => return Err(Malformed),
            Some(_) => {}
        }
        if self.token68() {
            return Ok(Start::Closed);
        }
        let name = self.token()?;
        if !self.equals() {
            return Err(Malformed);
        }
        self.parameter(name, challenge)?;
        Ok(Start::Open)
    }

    /// `auth-param = token BWS "=" BWS ( token / quoted-string )`, after the equals sign.
    fn parameter(&mut self, name: String, challenge: &mut Challenge) -> Result<(), Malformed> {
        self.skip(is_space);
        let value = match self.rest.strip_prefix(b"\"") {
            Some(rest) => {
                self.rest = rest;
                self.quoted()?
            }
            None => self.take(is_token).ok_or(Malformed)?.to_owned(),
        };
        // RFC 9110 §11.2: "each parameter name MUST only occur once per challenge."
        if challenge.param(&name).is_some() {
            return Err(Malformed);
        }
        challenge.params.push((name, value));
        Ok(())
    }

    /// A token in lower case.
    fn token(&mut self) -> Result<String, Malformed> {
        self.take(is_token).map(str::to_ascii_lowercase).ok_or(Malformed)
    }

    /// `token68 = 1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="`; taken only if
    /// it is all there is up to the next comma.
    fn token68(&mut self) -> bool {
        let mut ahead = Parser { rest: self.rest };
        let found = ahead.skip(|b| b.is_ascii_alphanumeric() || b"-._~+/".contains(&b)) > 0;
        ahead.skip(|b| b == b'=');
        ahead.skip(is_space);
        let whole = found && matches!(ahead.rest.first(), None | Some(b','));
        if whole {
            self.rest = ahead.rest;
        }
        whole
    }

    /// A quoted string, after its first quote, with its escapes undone.
    fn quoted(&mut self) -> Result<String, Malformed> {
        let mut text = Vec::new();
        loop {
            match self.next().ok_or(Malformed)? {
                b'"' => return Ok(String::from_utf8_lossy(&text).into_owned()),
                // A header value holds no controls, so there is nothing else to refuse.
                b'\\' => text.push(self.next().ok_or(Malformed)?),
                b => text.push(b),
            }
        }
    }

    /// Takes an equals sign and the white space before it, if there is one.
    fn equals(&mut self) -> bool {
        let mut ahead = Parser { rest: self.rest };
        ahead.skip(is_space);
        match ahead.rest.strip_prefix(b"=") {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn end_of_element(&mut self) -> Result<(), Malformed> {
        self.skip(is_space);
        if matches!(self.rest.first(), None | Some(b',')) { Ok(()) } else { Err(Malformed) }
    }

    /// Takes one or more bytes, all of them ASCII.
    fn take(&mut self, wanted: fn(u8) -> bool) -> Option<&'a str> {
        let start = self.rest;
        let taken = start.get(..self.skip(wanted))?;
        std::str::from_utf8(taken).ok().filter(|text| !text.is_empty())
    }

    /// Leaves out the bytes that match, and counts them.
    fn skip(&mut self, unwanted: impl Fn(u8) -> bool) -> usize {
        let end = self.rest.iter().position(|b| !unwanted(*b)).unwrap_or(self.rest.len());
        self.rest = self.rest.get(end..).unwrap_or_default();
        end
    }

    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }
}

fn is_space(b: u8) -> bool {
    matches!(b, b' ' | b'\t')
}

/// RFC 9110 §5.6.2: `tchar`
fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

const CHALLENGE_CAP: usize = 64;
const FIELD_CAP: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fields(lines: &[&[u8]]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_bytes(line).unwrap());
        }
        headers
    }

    /// As the vectors write it: `basic{realm=simple}`.
    fn shown(line: &str) -> String {
        let Ok(challenges) = Challenges::read(&fields(&[line.as_bytes()])) else {
            return "!".to_owned();
        };
        let one = |challenge: &Challenge| {
            let params: Vec<_> = challenge.params.iter().map(|(n, v)| format!("{n}={v}")).collect();
            format!("{}{{{}}}", challenge.scheme, params.join(","))
        };
        challenges.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn cha_01_several_challenges_in_one_or_more_lines_are_read() {
        for (line, expected) in [
            (
                r#"Basic realm="simple", Newauth realm="apps", type=1, title="Login to \"apps\"""#,
                r#"basic{realm=simple} newauth{realm=apps,type=1,title=Login to "apps"}"#,
            ),
            (r#"Bearer, DPoP algs="ES256 PS256""#, "bearer{} dpop{algs=ES256 PS256}"),
            (
                r#"Bearer error="invalid_token", error_description="Invalid token", DPoP algs="ES256 PS256""#,
                "bearer{error=invalid_token,error_description=Invalid token} dpop{algs=ES256 PS256}",
            ),
            ("bEaReR ERROR=invalid_token", "bearer{error=invalid_token}"),
            (
                r#"Bearer error = "invalid_token" , scope = "a b""#,
                "bearer{error=invalid_token,scope=a b}",
            ),
            (
                r#"Newauth realm="apps", type=1, title="Login to \"apps\"", Basic realm="simple", Bearer scope="a b""#,
                r#"newauth{realm=apps,type=1,title=Login to "apps"} basic{realm=simple} bearer{scope=a b}"#,
            ),
            ("Bearer\trealm=x", "bearer{realm=x}"),
            ("", ""),
        ] {
            assert_eq!(shown(line), expected, "{line}");
        }
        let two = [&br#"Basic realm="x""#[..], br#"Bearer error="invalid_token""#];
        let found = Challenges::read(&fields(&two)).unwrap();
        assert_eq!(found.0.len(), 2);
        assert_eq!(found.0[1].param("error"), Some("invalid_token"));
    }

    #[test]
    fn cha_02_text_in_quotes_makes_no_parameters() {
        for (line, expected) in [
            (
                r#"Bearer realm="a, error=\"invalid_token\", b""#,
                r#"bearer{realm=a, error="invalid_token", b}"#,
            ),
            (
                r#"Bearer realm="a, error=\"invalid_token\", resource_metadata=\"https://evil.example\"""#,
                r#"bearer{realm=a, error="invalid_token", resource_metadata="https://evil.example"}"#,
            ),
            (r#"Bearer realm="a\\", error="\x""#, r"bearer{realm=a\,error=x}"),
            (r#"Bearer realm="""#, "bearer{realm=}"),
        ] {
            assert_eq!(shown(line), expected, "{line}");
        }
    }

    #[test]
    fn cha_03_other_challenges_do_not_hide_a_usable_one() {
        for (line, expected) in [
            (
                r#"Negotiate YIIB6wYGKwYBBQUCoIIB3zCC==, Bearer realm="x""#,
                "negotiate{} bearer{realm=x}",
            ),
            (r#", ,Bearer realm="x",,"#, "bearer{realm=x}"),
            (
                "NTLM, Negotiate, Bearer error=invalid_token",
                "ntlm{} negotiate{} bearer{error=invalid_token}",
            ),
            ("Hoba a=b,, c=d , Bearer x=y", "hoba{a=b,c=d} bearer{x=y}"),
        ] {
            assert_eq!(shown(line), expected, "{line}");
        }
    }

    #[test]
    fn cha_04_a_malformed_field_holds_no_challenge() {
        for line in [
            r#"Bearer realm="unterminated"#,
            r#"Bearer realm="unterminated\"#,
            r#"Bearer error="x", error="invalid_token""#,
            r#"Bearer error="x", ERROR="invalid_token""#,
            r#"error="invalid_token""#,
            r#"Bearer error="invalid_token" scope="a""#,
            "Bearer error=invalid_token scope=a",
            "Bearer error=invalid token",
            "Bearer =x",
            "Bearer a=, b=c",
            "Bearer/x",
            "Bearer: error=invalid_token",
            "Negotiate abc==, error=invalid_token",
            "Bearer realm=x; error=invalid_token",
            "\"Bearer\"",
        ] {
            assert_eq!(shown(line), "!", "{line}");
        }
        assert_eq!(Challenges::read(&fields(&[b"Bearer \xFF\xFE"])), Err(Malformed));
        assert_eq!(Challenges::read(&fields(&[b"Bearer realm=\xE9"])), Err(Malformed));
    }

    #[test]
    fn cha_04_a_token68_has_something_before_its_padding() {
        assert_eq!(shown("Negotiate ="), "!");
        let read = Challenges::read(&fields(&[b"Negotiate a=="])).unwrap();
        assert!(!read.is_empty() && read.iter().count() == 1);
        assert!(Challenges::read(&HeaderMap::new()).unwrap().is_empty());
    }

    #[test]
    fn cha_04_one_malformed_line_spoils_the_others() {
        let lines = [&b"Bearer error=invalid_token"[..], b"Basic realm=\"x"];
        assert_eq!(Challenges::read(&fields(&lines)), Err(Malformed));
        assert!(Challenges::read(&fields(&lines[..1])).is_ok());
    }

    #[test]
    fn cha_04_number_and_size_are_bounded() {
        assert_eq!(shown(&vec!["a"; 64].join(",")).split(' ').count(), 64);
        assert_eq!(shown(&vec!["a"; 65].join(",")), "!");
        assert_eq!(shown(&",".repeat(20_000)), "!");
        let half = format!("Bearer realm={}", "x".repeat(9_000));
        assert!(Challenges::read(&fields(&[half.as_bytes()])).is_ok());
        assert_eq!(Challenges::read(&fields(&[half.as_bytes(), half.as_bytes()])), Err(Malformed));
        // Over all lines together, to the byte.
        let exactly = [&b"Basic"[..], &[b','; FIELD_CAP - 5]];
        assert!(Challenges::read(&fields(&exactly)).is_ok());
        let more = [&b"Basic"[..], &[b','; FIELD_CAP - 4]];
        assert_eq!(Challenges::read(&fields(&more)), Err(Malformed));
    }

    #[test]
    fn stp_01_what_is_wanted_of_the_login_is_told() {
        let wanted = |rest: &str| {
            let line = format!(
                r#"Bearer error="insufficient_user_authentication", error_description="d", {rest}"#
            );
            Challenges::read(&fields(&[line.as_bytes()])).unwrap().authentication_requirements()
        };
        let by_class = wanted(r#"acr_values="myACR other""#).unwrap();
        assert_eq!(by_class.acr_values, ["myACR", "other"]);
        assert_eq!(by_class.max_age, None);
        for (max_age, seconds) in [
            (r#""5""#, Some(5)),
            ("5", Some(5)),
            ("0", Some(0)),
            (r#""-1""#, None),
            ("abc", None),
            (r#""""#, None),
        ] {
            let by_age = wanted(&format!("max_age={max_age}")).unwrap();
            assert!(by_age.acr_values.is_empty());
            assert_eq!(by_age.max_age, seconds.map(Duration::from_secs), "{max_age}");
        }
        let other = fields(&[br#"Bearer error="invalid_token", acr_values="a""#]);
        assert_eq!(Challenges::read(&other).unwrap().authentication_requirements(), None);
    }

    fn written(challenges: &[(String, Vec<(String, String)>)]) -> String {
        let challenge = |(scheme, params): &(String, Vec<(String, String)>)| {
            let quote = |text: &str| text.replace('\\', r"\\").replace('"', "\\\"");
            let params: Vec<_> =
                params.iter().map(|(name, value)| format!("{name}=\"{}\"", quote(value))).collect();
            format!("{scheme} {}", params.join(", "))
        };
        challenges.iter().map(challenge).collect::<Vec<_>>().join(", ")
    }

    proptest! {
        #[test]
        fn cha_04_no_bytes_make_the_parser_panic(lines: Vec<Vec<u8>>) {
            let mut headers = HeaderMap::new();
            for value in lines.iter().filter_map(|line| HeaderValue::from_bytes(line).ok()) {
                headers.append(WWW_AUTHENTICATE, value);
            }
            let _ = Challenges::read(&headers);
        }

        #[test]
        fn cha_04_no_text_makes_the_parser_panic(line in r#"([ ,="\\a]|Bearer|error|\t|é){0,40}"#) {
            let _ = Challenges::read(&fields(&[line.as_bytes()]));
        }

        #[test]
        fn cha_01_what_was_written_is_read(
            challenges in proptest::collection::vec(
                (
                    "[a-z][a-z0-9-]{0,8}",
                    proptest::collection::btree_map("[a-z_]{1,8}", "[ -~]{0,20}", 1..4),
                ),
                0..6,
            )
        ) {
            let challenges: Vec<(String, Vec<(String, String)>)> = challenges
                .into_iter()
                .map(|(scheme, params)| (scheme, params.into_iter().collect()))
                .collect();
            let read = Challenges::read(&fields(&[written(&challenges).as_bytes()])).unwrap();
            let read: Vec<_> = read.0.into_iter().map(|c| (c.scheme, c.params)).collect();
            prop_assert_eq!(read, challenges);
        }
    }
}
