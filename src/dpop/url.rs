use std::io::{self, Write};

use http::Uri;

use crate::http::{Authority, HttpRequest, Target};

/// The URL that a proof is good for, in parts: the request's own, without query and fragment
/// ([RFC 9449 §4.2](https://www.rfc-editor.org/rfc/rfc9449#section-4.2)).
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProofUrl<'a> {
    scheme: &'a str,
    host: &'a str,
    port: Option<u16>,
    path: &'a str,
}

impl<'a> ProofUrl<'a> {
    /// The URL of these parts. An empty path is `/`.
    pub(crate) fn new(scheme: &'a str, host: &'a str, port: Option<u16>, path: &'a str) -> Self {
        // RFC 3986 §6.2.3: a default port is left out.
        let secure = ["https", "wss"].iter().any(|name| scheme.eq_ignore_ascii_case(name));
        let default = if secure { 443 } else { 80 };
        let path = if path.is_empty() { "/" } else { path };
        Self { scheme, host, port: port.filter(|port| *port != default), path }
    }

    /// An absolute URI's; `None` if it is not absolute.
    pub(crate) fn of_uri(uri: &'a Uri) -> Option<Self> {
        Self::at(uri.scheme_str()?, Authority::Text(uri.authority()?.as_str()), uri.path())
    }

    /// A request's; `None` if its target is a path alone.
    pub(crate) fn of_request(request: &'a impl HttpRequest) -> Option<Self> {
        Self::of_target(request.target(), request.path())
    }

    /// A target's; `None` if it is a path alone.
    pub(crate) fn of_target(target: Target<'a>, path: &'a str) -> Option<Self> {
        Self::at(target.scheme?, target.authority?, path)
    }

    fn at(scheme: &'a str, authority: Authority<'a>, path: &'a str) -> Option<Self> {
        let authority = match authority {
            // User information is not part of what is asked for.
            Authority::Text(text) => {
                Authority::Text(text.rsplit_once('@').map_or(text, |(_, host)| host))
            }
            parts @ Authority::Parts(..) => parts,
        };
        let (host, port) = authority.split()?;
        Some(Self::new(scheme, host, port, path))
    }

    /// Whether this URL has that origin.
    pub(super) fn is_at(&self, scheme: &str, host: &str, port: Option<u16>) -> bool {
        self.port == port
            && self.scheme.eq_ignore_ascii_case(scheme)
            && self.host.eq_ignore_ascii_case(host)
    }

    /// Scheme, host and port, in lower case.
    pub(super) fn origin(&self) -> (Box<str>, Box<str>, Option<u16>) {
        let lower = |text: &str| text.to_ascii_lowercase().into_boxed_str();
        (lower(self.scheme), lower(self.host), self.port)
    }

    /// Writes the URL as it stands in a JSON string: scheme and host in lower case, the path byte
    /// for byte as on the wire.
    pub(super) fn write_json(&self, out: &mut impl Write) -> io::Result<()> {
        write_lower(out, self.scheme)?;
        out.write_all(b"://")?;
        write_lower(out, self.host)?;
        if let Some(port) = self.port {
            write!(out, ":{port}")?;
        }
        write_escaped(out, self.path)
    }
}

fn write_lower(out: &mut impl Write, text: &str) -> io::Result<()> {
    // Nearly every request has it so already.
    if text.bytes().any(|b| b.is_ascii_uppercase()) {
        text.bytes().try_for_each(|b| out.write_all(&[b.to_ascii_lowercase()]))
    } else {
        out.write_all(text.as_bytes())
    }
}

/// RFC 8259 §7: quotes, backslashes and controls are escaped. A URI has none of the last.
fn write_escaped(out: &mut impl Write, text: &str) -> io::Result<()> {
    for piece in text.split_inclusive(['"', '\\']) {
        match piece.strip_suffix(['"', '\\']) {
            Some(before) => {
                out.write_all(before.as_bytes())?;
                out.write_all(b"\\")?;
                out.write_all(piece.as_bytes().get(before.len()..).unwrap_or_default())?;
            }
            None => out.write_all(piece.as_bytes())?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(url: ProofUrl<'_>) -> String {
        let mut out = Vec::new();
        url.write_json(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    /// What is asked for, and what its proof is good for.
    const TABLE: [(&str, &str); 9] = [
        ("https://server.example.com/token?x=1#f", "https://server.example.com/token"),
        ("HTTPS://Server.Example.COM:443/Token", "https://server.example.com/Token"),
        ("https://server.example.com", "https://server.example.com/"),
        ("https://server.example.com?x=1", "https://server.example.com/"),
        ("https://server.example.com:8443/a", "https://server.example.com:8443/a"),
        ("https://server.example.com/a%2Fb/%7Ec", "https://server.example.com/a%2Fb/%7Ec"),
        ("https://[2001:DB8::1]:443/a", "https://[2001:db8::1]/a"),
        ("ws://server.example.com:80/a", "ws://server.example.com/a"),
        ("https://user:pw@server.example.com/a", "https://server.example.com/a"),
    ];

    #[test]
    fn dpo_03_the_url_of_a_proof_is_the_one_asked_for_without_query_and_fragment() {
        for (asked, proved) in TABLE {
            let uri: Uri = asked.split('#').next().unwrap().parse().unwrap();
            assert_eq!(written(ProofUrl::of_uri(&uri).unwrap()), proved, "{asked}");
            let request = http::Request::get(uri).body(()).unwrap();
            assert_eq!(written(ProofUrl::of_request(&request).unwrap()), proved, "{asked}");
        }
    }

    #[cfg(feature = "reqwest")]
    #[test]
    fn dpo_03_it_is_the_same_for_a_reqwest_request() {
        for (asked, proved) in TABLE {
            let request = reqwest::Request::new(http::Method::GET, asked.parse().unwrap());
            assert_eq!(written(ProofUrl::of_request(&request).unwrap()), proved, "{asked}");
        }
    }

    #[test]
    fn dpo_03_the_path_is_as_on_the_wire_and_cannot_end_the_string_it_stands_in() {
        let uri: Uri = "https://api.example//a/./b%2f\"c".parse().unwrap();
        let proved = written(ProofUrl::of_uri(&uri).unwrap());
        assert_eq!(proved, "https://api.example//a/./b%2f\\\"c");
        let parsed: String = serde_json::from_str(&format!("\"{proved}\"")).unwrap();
        assert_eq!(parsed, "https://api.example//a/./b%2f\"c");
    }

    #[test]
    fn a_path_alone_is_no_url() {
        let request = http::Request::get("/orders").body(()).unwrap();
        assert!(ProofUrl::of_request(&request).is_none());
    }
}
