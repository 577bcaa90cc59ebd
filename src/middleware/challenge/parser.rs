//! The grammar of `WWW-Authenticate`, and how reading continues after a fault. [`Challenges::read`]
//! calls it.
//!
//! [`Challenges::read`]: super::Challenges::read

use http::{HeaderMap, HeaderValue, header::WWW_AUTHENTICATE};

use super::Challenge;

/// Reads the challenges of all field lines. A fault spoils the challenge in which it is found, and
/// no other one.
pub(super) fn read(headers: &HeaderMap) -> Vec<Challenge> {
    let mut challenges = Vec::new();
    let mut room = FIELD_CAP;
    let mut left_out = false;
    for line in headers.get_all(WWW_AUTHENTICATE).iter().map(HeaderValue::as_bytes) {
        // A line that is too long does not hide a shorter one.
        let Some(rest) = room.checked_sub(line.len()) else {
            left_out = true;
            continue;
        };
        room = rest;
        left_out |= Parser { rest: line, closed: false }.line(&mut challenges).is_err();
    }
    if left_out {
        challenges.push(Challenge::unreadable());
    }
    challenges
}

struct Parser<'a> {
    rest: &'a [u8],
    /// Whether the current challenge is a token68, which takes no parameters.
    closed: bool,
}

/// The text breaks the grammar at the parser's position.
struct Malformed;

/// There are more challenges than the parser keeps.
struct TooMany;

impl<'a> Parser<'a> {
    /// ```text
    /// WWW-Authenticate = #challenge
    /// challenge        = auth-scheme [ 1*SP ( token68 / #auth-param ) ]
    /// ```
    ///
    /// A comma separates challenges and parameters alike. The element after a comma is a parameter
    /// if an equals sign follows its first token, and otherwise begins a challenge.
    fn line(&mut self, challenges: &mut Vec<Challenge>) -> Result<(), TooMany> {
        let first = challenges.len();
        loop {
            self.skip(|b| is_space(b) || b == b',');
            if self.rest.is_empty() {
                return Ok(());
            }
            let (challenge, element) = if let Some(scheme) = self.scheme() {
                let challenge = begin(challenges, Challenge::new(scheme))?;
                let element = self.start(challenge);
                (challenge, element)
            } else {
                let challenge = match challenges.get_mut(first..).and_then(<[_]>::last_mut) {
                    Some(open) => open,
                    // A parameter of no challenge.
                    None => begin(challenges, Challenge::unreadable())?,
                };
                challenge.malformed |= self.closed;
                let element = self.parameter(challenge);
                (challenge, element)
            };
            if element.and_then(|()| self.end_of_element()).is_err() {
                challenge.malformed = true;
                self.skip(|b| b != b',' && b != b'"');
                // After a quote, the parser cannot tell which text is inside quotes and which is
                // not. Text inside quotes must not become a challenge.
                if self.rest.first() == Some(&b'"') {
                    return Ok(());
                }
            }
        }
    }

    /// Takes a token in lower case that no equals sign follows.
    fn scheme(&mut self) -> Option<String> {
        let mut ahead = Parser { rest: self.rest, closed: false };
        let scheme = ahead.token().ok()?;
        let rest = ahead.rest;
        if ahead.equals() {
            return None;
        }
        self.rest = rest;
        Some(scheme)
    }

    /// Reads what follows a scheme: nothing, a token68, or the first parameter.
    fn start(&mut self, challenge: &mut Challenge) -> Result<(), Malformed> {
        self.closed = false;
        let spaces = self.skip(is_space);
        match self.rest.first() {
            None | Some(b',') => return Ok(()),
            Some(_) if spaces == 0 => return Err(Malformed),
            Some(_) => {}
        }
        self.closed = self.token68();
        if self.closed { Ok(()) } else { self.parameter(challenge) }
    }

    /// `auth-param = token BWS "=" BWS ( token / quoted-string )`. A parameter after the
    /// challenge's fault is read, so that its quotes are paired, and ignored.
    fn parameter(&mut self, challenge: &mut Challenge) -> Result<(), Malformed> {
        let name = self.token()?;
        if !self.equals() {
            return Err(Malformed);
        }
        self.skip(is_space);
        let value = match self.rest.strip_prefix(b"\"") {
            Some(rest) => {
                self.rest = rest;
                self.quoted()?
            }
            None => self.unquoted()?,
        };
        if challenge.malformed {
            return Ok(());
        }
        // RFC 9110 §11.2: "each parameter name MUST only occur once per challenge."
        if challenge.param(&name).is_some() {
            return Err(Malformed);
        }
        challenge.params.push((name, value));
        Ok(())
    }

    /// Takes a token in lower case.
    fn token(&mut self) -> Result<String, Malformed> {
        self.take(is_token).map(str::to_ascii_lowercase).ok_or(Malformed)
    }

    /// `token68 = 1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="`; taken only if
    /// nothing else stands before the next comma.
    fn token68(&mut self) -> bool {
        let mut ahead = Parser { rest: self.rest, closed: false };
        let found = ahead.skip(|b| b.is_ascii_alphanumeric() || b"-._~+/".contains(&b)) > 0;
        ahead.skip(|b| b == b'=');
        let whole = found && ahead.end_of_element().is_ok();
        if whole {
            self.rest = ahead.rest;
        }
        whole
    }

    /// Takes a quoted string, after its first quote, and undoes its escapes.
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

    /// Takes a value without quotes, if the token is all of it. `error=a scope=b` lacks a comma, and
    /// its first value is whole. `realm=My Realm` lacks quotes, and `My` is not its value.
    fn unquoted(&mut self) -> Result<String, Malformed> {
        let value = self.take(is_token).ok_or(Malformed)?;
        let mut ahead = Parser { rest: self.rest, closed: false };
        let whole = ahead.end_of_element().is_ok()
            || ahead.rest.len() < self.rest.len() && ahead.token().is_ok() && ahead.equals();
        if whole { Ok(value.to_owned()) } else { Err(Malformed) }
    }

    /// Takes an equals sign and the white space before it, if there is one.
    fn equals(&mut self) -> bool {
        let mut ahead = Parser { rest: self.rest, closed: false };
        ahead.skip(is_space);
        match ahead.rest.strip_prefix(b"=") {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// Takes the white space before a comma or the end.
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

    /// Skips the bytes that match, and counts them.
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

/// Adds a challenge, whose parameters come next.
fn begin(challenges: &mut Vec<Challenge>, new: Challenge) -> Result<&mut Challenge, TooMany> {
    if challenges.len() >= CHALLENGE_CAP {
        return Err(TooMany);
    }
    challenges.push(new);
    challenges.last_mut().ok_or(TooMany)
}

fn is_space(b: u8) -> bool {
    matches!(b, b' ' | b'\t')
}

/// RFC 9110 §5.6.2: `tchar`
fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

const CHALLENGE_CAP: usize = 64;
pub(super) const FIELD_CAP: usize = 16 * 1024;
