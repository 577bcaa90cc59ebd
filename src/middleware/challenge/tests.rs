use http::{HeaderValue, header::WWW_AUTHENTICATE};
use proptest::prelude::*;

use super::{parser::FIELD_CAP, *};

fn fields(lines: &[&[u8]]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append(WWW_AUTHENTICATE, HeaderValue::from_bytes(line).unwrap());
    }
    headers
}

/// As the vectors write it: `basic{realm=simple}`, and `basic{}!` if it is malformed.
fn shown(line: impl AsRef<[u8]>) -> String {
    shown_lines(&[line.as_ref()])
}

fn shown_lines(lines: &[&[u8]]) -> String {
    let one = |challenge: &Challenge| {
        let params: Vec<_> = challenge.params.iter().map(|(n, v)| format!("{n}={v}")).collect();
        let mark = if challenge.is_malformed() { "!" } else { "" };
        format!("{}{{{}}}{mark}", challenge.scheme, params.join(","))
    };
    Challenges::read(&fields(lines)).iter().map(one).collect::<Vec<_>>().join(" ")
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
    let found = Challenges::read(&fields(&two));
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
fn cha_04_a_malformed_challenge_has_what_stands_before_its_fault() {
    for (line, expected) in [
        // Missing commas and other separators.
        (r#"Bearer error="invalid_token" scope="a""#, "bearer{error=invalid_token}!"),
        (r#"Bearer error="invalid_token"scope="a""#, "bearer{error=invalid_token}!"),
        ("Bearer error=invalid_token scope=a", "bearer{error=invalid_token}!"),
        ("Bearer realm=x; error=invalid_token", "bearer{}!"),
        (r#"Bearer realm="x"; error=invalid_token"#, "bearer{realm=x}!"),
        // Values without quotes.
        ("Bearer error=invalid token", "bearer{}!"),
        ("Bearer a=b, realm=My Realm, error=invalid_token", "bearer{a=b}!"),
        (
            "Bearer authorization_uri=https://login.example/x, resource_id=https://org.example/",
            "bearer{}!",
        ),
        ("Bearer a=, b=c", "bearer{}!"),
        // Quotes.
        (r#"Bearer realm="unterminated"#, "bearer{}!"),
        (r#"Bearer realm="unterminated\"#, "bearer{}!"),
        (r#"Bearer a=b, realm="unterminated, c=d"#, "bearer{a=b}!"),
        (
            r#"Bearer error="invalid_token", error_description=""exp" claim timestamp check failed""#,
            "bearer{error=invalid_token,error_description=}!",
        ),
        // Single quotes are characters like others.
        ("Bearer error='invalid_token'", "bearer{error='invalid_token'}"),
        ("Bearer error='invalid token'", "bearer{}!"),
        // Repeated parameters.
        (r#"Bearer error="x", error="invalid_token""#, "bearer{error=x}!"),
        (r#"Bearer error="x", ERROR="invalid_token", a=b"#, "bearer{error=x}!"),
        // Schemes.
        ("Bearer/x", "bearer{}!"),
        ("Bearer: error=invalid_token", "bearer{}!"),
        ("Bearer,error=invalid_token", "bearer{error=invalid_token}"),
        ("Negotiate abc==, error=invalid_token", "negotiate{}!"),
        ("Negotiate =", "{}!"),
        ("Bearer =x", "{}!"),
        (r#"error="invalid_token""#, "{}!"),
        (r#""Bearer""#, "{}!"),
        (
            r#"OAuth "Facebook Platform" "invalid_token" "Error validating access token""#,
            "oauth{}!",
        ),
    ] {
        assert_eq!(shown(line), expected, "{line}");
    }
    assert_eq!(shown(b"Bearer \xFF\xFE"), "bearer{}!");
    assert_eq!(shown(b"Bearer a=b, realm=\xE9, error=invalid_token"), "bearer{a=b}!");
    assert_eq!(shown(b"\xE9, Basic realm=x"), "{}! basic{realm=x}");
    assert!(Challenges::read(&HeaderMap::new()).is_empty());
}

#[test]
fn cha_04_a_malformed_challenge_does_not_hide_another_one() {
    for (line, expected) in [
        (
            r#"Basic realm=My Realm, Bearer error="invalid_token""#,
            "basic{}! bearer{error=invalid_token}",
        ),
        // Its parameters end with it, even those that are well formed.
        (
            r#"Basic realm=My Realm, a="b, Digest", Bearer error=invalid_token"#,
            "basic{}! bearer{error=invalid_token}",
        ),
        (
            "Bearer error=invalid_token, Basic realm=My Realm, error=x",
            "bearer{error=invalid_token} basic{}!",
        ),
        ("error=x, Bearer error=invalid_token", "{}! bearer{error=invalid_token}"),
        ("Negotiate a==, b=c, Bearer d=e", "negotiate{}! bearer{d=e}"),
        (r#"Basic a="1", a="2, Newauth", Bearer b=c"#, "basic{a=1}! bearer{b=c}"),
        ("Basic/, Bearer/, DPoP algs=ES256", "basic{}! bearer{}! dpop{algs=ES256}"),
    ] {
        assert_eq!(shown(line), expected, "{line}");
    }
    let good = &b"Bearer error=invalid_token"[..];
    let broken = &br#"Basic realm="x"#[..];
    assert_eq!(shown_lines(&[good, broken]), "bearer{error=invalid_token} basic{}!");
    assert_eq!(shown_lines(&[broken, good]), "basic{}! bearer{error=invalid_token}");
    // A parameter on a line of its own belongs to no challenge.
    assert_eq!(shown_lines(&[good, b"scope=a"]), "bearer{error=invalid_token} {}!");
}

/// V-34: a server quotes what a stranger wrote, and gets the quotes wrong.
#[test]
fn cha_04_after_a_fault_no_text_in_quotes_becomes_a_challenge() {
    for (line, expected) in [
        (r#"Basic realm=My "x, Bearer error=invalid_token""#, "basic{}!"),
        (r#"Basic realm=\"x, Bearer error=invalid_token\""#, "basic{}!"),
        (r#"Basic realm=My"x, Bearer error=invalid_token""#, "basic{}!"),
        (r#"OAuth "x, Bearer error=invalid_token, y""#, "oauth{}!"),
        (r#"Basic a="b" "c, Bearer error=invalid_token""#, "basic{a=b}!"),
        (r#"Basic a=1, a="2" "c, Bearer error=invalid_token""#, "basic{a=1}!"),
        // A comma before the quote: the quoted text is the value of an ignored parameter.
        (r#"Basic a=b c, d="e, Bearer error=invalid_token""#, "basic{}!"),
        (r#"Basic a=b c, "d, Bearer error=invalid_token""#, "basic{}!"),
    ] {
        assert_eq!(shown(line), expected, "{line}");
    }
}

#[test]
fn cha_03_a_token68_has_something_before_its_padding() {
    assert_eq!(shown("Negotiate a=="), "negotiate{}");
}

#[test]
fn cha_04_beyond_its_bounds_a_field_is_malformed_and_what_is_within_is_read() {
    assert_eq!(shown(vec!["a"; 64].join(",")), ["a{}"; 64].join(" "));
    for more in [65, 1000] {
        let expected = format!("{} {{}}!", ["a{}"; 64].join(" "));
        assert_eq!(shown(vec!["a"; more].join(",")), expected);
    }
    assert_eq!(shown(",".repeat(20_000)), "{}!");
    let large = format!("Basic realm={}", "x".repeat(9_000));
    let large = large.as_bytes();
    let good = &b"Bearer error=invalid_token"[..];
    assert_eq!(Challenges::read(&fields(&[large])).0.len(), 1);
    let read = Challenges::read(&fields(&[large, large, good, large]));
    let schemes: Vec<_> = read.iter().map(|c| (c.scheme(), c.is_malformed())).collect();
    assert_eq!(schemes, [("basic", false), ("bearer", false), ("", true)]);
    // Over all lines together, to the byte.
    assert_eq!(shown_lines(&[b"Basic", &[b','; FIELD_CAP - 5]]), "basic{}");
    assert_eq!(shown_lines(&[b"Basic", &[b','; FIELD_CAP - 4]]), "basic{} {}!");
}

#[test]
fn cha_04_a_malformed_challenge_says_nothing_of_metadata_or_logins() {
    let login = r#"error="insufficient_user_authentication", acr_values="a""#;
    let read = |line: &str| Challenges::read(&fields(&[line.as_bytes()]));
    assert!(read(&format!("Bearer {login}")).authentication_requirements().is_some());
    for rest in ["realm=My Realm", r#"acr_values="b""#, "a"] {
        let line = format!("Bearer {login} {rest}");
        assert_eq!(read(&line).authentication_requirements(), None, "{line}");
    }
    let metadata = r#"resource_metadata="https://api.example/m""#;
    assert!(read(&format!("Bearer {metadata}")).resource_metadata().is_some());
    let broken = format!("Bearer {metadata} scope=a");
    assert_eq!(read(&broken).iter().next().unwrap().params.len(), 1);
    assert_eq!(read(&broken).resource_metadata(), None);
    let both = format!("{}, DPoP {metadata}", broken.replace("api", "evil"));
    assert_eq!(read(&both).resource_metadata(), Some("https://api.example/m"));
}

#[test]
fn stp_01_what_is_wanted_of_the_login_is_told() {
    let wanted = |rest: &str| {
        let line = format!(
            r#"Bearer error="insufficient_user_authentication", error_description="d", {rest}"#
        );
        Challenges::read(&fields(&[line.as_bytes()])).authentication_requirements()
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
    assert_eq!(Challenges::read(&other).authentication_requirements(), None);
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

/// The schemes, the parameters' names and the faults of a line.
fn outline(line: &str) -> Vec<(String, Vec<String>, bool)> {
    let challenges = Challenges::read(&fields(&[line.as_bytes()]));
    let names = |challenge: Challenge| challenge.params.into_iter().map(|(name, _)| name);
    let one = |challenge: Challenge| {
        (challenge.scheme.clone(), challenge.malformed, names(challenge).collect())
    };
    challenges.0.into_iter().map(one).map(|(scheme, bad, names)| (scheme, names, bad)).collect()
}

/// The line with every byte inside quotes replaced by an `x`.
fn without_quoted_text(line: &str) -> String {
    let mut text = line.chars();
    let mut plain = String::new();
    while let Some(c) = text.next() {
        plain.push(c);
        let mut quoted = c == '"';
        while quoted {
            match text.next() {
                None => quoted = false,
                Some('"') => {
                    plain.push('"');
                    quoted = false;
                }
                Some('\\') => {
                    plain.push('x');
                    plain.extend(text.next().map(|_| 'x'));
                }
                Some(_) => plain.push('x'),
            }
        }
    }
    plain
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

    /// Whatever stands around it, and however broken that is.
    #[test]
    fn cha_02_cha_04_text_in_quotes_changes_no_challenge(
        line in r#"([ ,=:"\\\\a]|Bearer|Basic|error|invalid_token|", |="|é){0,40}"#
    ) {
        prop_assert_eq!(outline(&line), outline(&without_quoted_text(&line)), "{}", line);
    }

    #[test]
    fn cha_04_a_broken_line_hides_no_good_one(
        line in r#"([ ,=:"\\\\a]|Bearer|Basic|error|", |="|é){0,40}"#,
        first: bool,
    ) {
        let good = &br#"DPoP error="invalid_token", scope="a b""#[..];
        let mut lines = [line.as_bytes(), good];
        if first {
            lines.reverse();
        }
        let found = Challenges::read(&fields(&lines));
        let good = Challenges::read(&fields(&[good])).0.remove(0);
        prop_assert!(found.iter().any(|challenge| *challenge == good));
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
        let read = Challenges::read(&fields(&[written(&challenges).as_bytes()]));
        prop_assert!(!read.iter().any(Challenge::is_malformed));
        let read: Vec<_> = read.0.into_iter().map(|c| (c.scheme, c.params)).collect();
        prop_assert_eq!(read, challenges);
    }
}

/// A server may repeat the token that it refuses.
#[test]
fn f57_debug_shows_no_text_of_the_server() {
    for line in [
        r#"Bearer error="invalid_token", error_description="Bearer SECRET-TOKEN-123 is over""#,
        r#"Bearer error="SECRET-TOKEN-123""#,
        r"Bearer realm=SECRET-TOKEN-123, error=invalid_token oops",
    ] {
        let challenges = Challenges::read(&fields(&[line.as_bytes()]));
        let shown = format!("{challenges:?}");
        assert!(!shown.contains("SECRET"), "{shown}");
        assert!(shown.contains("bearer"), "{shown}");
    }
}
