use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header::WWW_AUTHENTICATE};

/// One challenge of a `WWW-Authenticate` field ([RFC 9110 §11.6.1]).
///
/// [RFC 9110 §11.6.1]: https://www.rfc-editor.org/rfc/rfc9110#section-11.6.1
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// The scheme in lower case.
    pub(crate) scheme: String,
    /// The parameters, their names in lower case; none for a token68 challenge.
    pub(crate) params: Vec<(String, String)>,
}

impl Challenge {
    /// The value of a parameter; the name is given in lower case.
    pub(crate) fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }
}

/// A field that does not follow the grammar, repeats a parameter, or is too large.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// What an answer says about the token that was sent with the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The token is refused: `invalid_token`.
    InvalidToken,
    /// The request is refused for want of authentication, without a reason that is known.
    Unexplained,
    /// Nothing that another token would change.
    Other,
}

/// Judges an answer by its status and its challenges; by gRPC's status too, if the request may have
/// been gRPC.
#[inline]
pub(crate) fn verdict(status: StatusCode, headers: &HeaderMap, grpc: bool) -> Verdict {
    match status {
        StatusCode::UNAUTHORIZED => match parse(headers) {
            Ok(challenges) => judge(&challenges),
            // What cannot be read is nobody's word.
            Err(Malformed) => Verdict::Other,
        },
        // A gRPC answer without a body carries its status in the header: 16 is UNAUTHENTICATED.
        StatusCode::OK if grpc => match headers.get(&GRPC_STATUS) {
            Some(code) if code.as_bytes() == b"16" => Verdict::Unexplained,
            _ => Verdict::Other,
        },
        _ => Verdict::Other,
    }
}

fn judge(challenges: &[Challenge]) -> Verdict {
    let ours =
        challenges.iter().filter(|challenge| matches!(&*challenge.scheme, "bearer" | "dpop"));
    let mut verdict = Verdict::Unexplained;
    for error in ours.filter_map(|challenge| challenge.param("error")) {
        match error {
            "invalid_token" => return Verdict::InvalidToken,
            // RFC 6750 §3.1, RFC 9470 §3, RFC 9449 §7.1 and §9: the token itself is good.
            "insufficient_scope"
            | "invalid_request"
            | "insufficient_user_authentication"
            | "use_dpop_nonce"
            | "invalid_dpop_proof" => verdict = Verdict::Other,
            _ => {}
        }
    }
    verdict
}

/// Reads every challenge of every `WWW-Authenticate` field line.
///
/// # Errors
///
/// [`Malformed`] when any of it does not follow the grammar: then none of it is believed.
pub(crate) fn parse(headers: &HeaderMap) -> Result<Vec<Challenge>, Malformed> {
    let lines = || headers.get_all(WWW_AUTHENTICATE).iter().map(HeaderValue::as_bytes);
    if lines().map(<[u8]>::len).fold(0, usize::saturating_add) > FIELD_CAP {
        return Err(Malformed);
    }
    let mut challenges = Vec::new();
    for line in lines() {
        Parser { rest: line }.field(&mut challenges)?;
    }
    Ok(challenges)
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

/// As a name that is parsed already: nearly every response is asked for it.
static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

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
        let Ok(challenges) = parse(&fields(&[line.as_bytes()])) else { return "!".to_owned() };
        let one = |challenge: &Challenge| {
            let params: Vec<_> = challenge.params.iter().map(|(n, v)| format!("{n}={v}")).collect();
            format!("{}{{{}}}", challenge.scheme, params.join(","))
        };
        challenges.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    fn judged(status: u16, lines: &[&str]) -> Verdict {
        let lines: Vec<_> = lines.iter().map(|line| line.as_bytes()).collect();
        verdict(StatusCode::from_u16(status).unwrap(), &fields(&lines), false)
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
        let found = parse(&fields(&two)).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(found[1].param("error"), Some("invalid_token"));
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
        assert_eq!(
            judged(401, &[r#"Bearer realm="a, error=\"invalid_token\", b""#]),
            Verdict::Unexplained
        );
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
        assert_eq!(parse(&fields(&[b"Bearer \xFF\xFE"])), Err(Malformed));
        assert_eq!(parse(&fields(&[b"Bearer realm=\xE9"])), Err(Malformed));
        assert_eq!(judged(401, &["Bearer error=invalid_token, error=x"]), Verdict::Other);
    }

    #[test]
    fn cha_04_one_malformed_line_spoils_the_others() {
        let lines = ["Bearer error=invalid_token", "Basic realm=\"x"];
        assert_eq!(judged(401, &lines), Verdict::Other);
        assert_eq!(judged(401, &lines[..1]), Verdict::InvalidToken);
    }

    #[test]
    fn cha_04_number_and_size_are_bounded() {
        assert_eq!(shown(&vec!["a"; 64].join(",")).split(' ').count(), 64);
        assert_eq!(shown(&vec!["a"; 65].join(",")), "!");
        assert_eq!(shown(&",".repeat(20_000)), "!");
        let half = format!("Bearer realm={}", "x".repeat(9_000));
        assert!(parse(&fields(&[half.as_bytes()])).is_ok());
        assert_eq!(parse(&fields(&[half.as_bytes(), half.as_bytes()])), Err(Malformed));
    }

    #[test]
    fn cha_05_only_a_401_with_invalid_token_refuses_the_token() {
        use Verdict::{InvalidToken, Other, Unexplained};
        for (code, on_401) in [
            ("invalid_token", InvalidToken),
            ("insufficient_scope", Other),
            ("invalid_request", Other),
            ("insufficient_user_authentication", Other),
            ("use_dpop_nonce", Other),
            ("invalid_dpop_proof", Other),
            ("x_custom", Unexplained),
        ] {
            for scheme in ["Bearer", "dpop"] {
                let line = format!("{scheme} realm=\"r\", error=\"{code}\"");
                assert_eq!(judged(401, &[&line]), on_401, "{line}");
                for status in [200, 400, 403, 404, 407, 500] {
                    assert_eq!(judged(status, &[&line]), Other, "{status} {line}");
                }
            }
        }
        let metadata = r#"Bearer error="invalid_request", resource_metadata="https://resource.example.com/.well-known/oauth-protected-resource""#;
        assert_eq!(judged(400, &[metadata]), Other);
    }

    #[test]
    fn cha_05_a_401_that_does_not_say_why_is_unexplained() {
        for lines in [
            &[][..],
            &[""],
            &["Bearer"],
            &[r#"Bearer realm="r", DPoP algs="ES256""#],
            &[r#"Basic realm="x""#],
            &["Newauth error=invalid_token"],
        ] {
            assert_eq!(judged(401, lines), Verdict::Unexplained, "{lines:?}");
        }
        let nonce = r#"Bearer realm="r", DPoP error="use_dpop_nonce", error_description="Resource server requires nonce in DPoP proof""#;
        assert_eq!(judged(401, &[nonce]), Verdict::Other);
        for rest in [
            r#"A different authentication level is required", acr_values="myACR""#,
            r#"More recent authentication is required", max_age="5""#,
        ] {
            let line = format!(
                r#"Bearer error="insufficient_user_authentication", error_description="{rest}"#
            );
            assert_eq!(judged(401, &[&line]), Verdict::Other, "{line}");
        }
        let both = ["Bearer error=insufficient_scope", "DPoP error=invalid_token"];
        assert_eq!(judged(401, &both), Verdict::InvalidToken);
    }

    #[test]
    fn cha_05_a_grpc_status_of_16_is_unexplained() {
        for (status, code, expected) in [
            (200, "16", Verdict::Unexplained),
            (200, "7", Verdict::Other),
            (200, "0", Verdict::Other),
            (503, "16", Verdict::Other),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-status", HeaderValue::from_str(code).unwrap());
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(verdict(status, &headers, true), expected, "{status} {code}");
            assert_eq!(verdict(status, &headers, false), Verdict::Other, "{status} {code}");
        }
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
        fn cha_04_no_bytes_make_the_parser_panic(lines: Vec<Vec<u8>>, status in 100u16..1000) {
            let mut headers = HeaderMap::new();
            for value in lines.iter().filter_map(|line| HeaderValue::from_bytes(line).ok()) {
                headers.append(WWW_AUTHENTICATE, value);
            }
            let _ = verdict(StatusCode::from_u16(status).unwrap(), &headers, true);
        }

        #[test]
        fn cha_04_no_text_makes_the_parser_panic(line in r#"([ ,="\\a]|Bearer|error|\t|é){0,40}"#) {
            let _ = parse(&fields(&[line.as_bytes()]));
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
            let read = parse(&fields(&[written(&challenges).as_bytes()])).unwrap();
            let read: Vec<_> = read.into_iter().map(|c| (c.scheme, c.params)).collect();
            prop_assert_eq!(read, challenges);
        }
    }
}
