//! Answers of every shape that has hurt, or could.

type Shape = fn(usize) -> Vec<u8>;

/// Each makes an answer of about so many bytes, and no more.
pub(crate) const SHAPES: &[(&str, Shape)] = &[
    ("tokens that each stand in the text", |size| {
        let text = "d".repeat(size / 8);
        let head = format!(r#"{{"error":"x","error_description":"{text}","access_token":["#);
        filled(head, "\"d\",", r#""d"]}"#, size)
    }),
    ("tokens that begin alike", |size| {
        let mut body =
            format!(r#"{{"error":"x","error_description":"{}","access_token":["#, "a".repeat(700));
        let mut length = 1;
        while body.len() + length + 8 < size {
            body.push_str(&format!("\"{}b\",", "a".repeat(length)));
            length = if length > 1000 { 1 } else { length + 1 };
        }
        format!("{body}0]}}").into()
    }),
    ("one token, in one text", |size| {
        let token = "a".repeat(size / 2 - 100);
        format!(r#"{{"error":"x","error_description":"{token}","access_token":"{token}"}}"#).into()
    }),
    ("one long text", |size| {
        filled(r#"{"error":"x","error_description":""#.to_owned(), "a", "\"}", size)
    }),
    ("one text of escapes", |size| {
        filled(r#"{"error":"x","error_description":""#.to_owned(), "\\n", "\"}", size)
    }),
    ("a text with an escape now and then", |size| {
        let piece = format!("{}\\n", "a".repeat(60_000));
        filled(r#"{"error":"x","error_description":""#.to_owned(), &piece, "\"}", size)
    }),
    ("numbers", |size| filled(r#"{"a":["#.to_owned(), "0,", "0]}", size)),
    ("numbers in an error", |size| filled(r#"{"error":["#.to_owned(), "0,", "0]}", size)),
    ("empty objects", |size| filled(r#"{"a":["#.to_owned(), "{},", "{}]}", size)),
    ("texts of a letter", |size| filled(r#"{"issuer":["#.to_owned(), "\"a\",", "\"a\"]}", size)),
    ("members", |size| numbered("{", |n| format!("\"{n:x}\":0,"), "\"z\":0}", size)),
    ("one member, again and again", |size| {
        filled("{".to_owned(), r#""active":true,"#, r#""active":true}"#, size)
    }),
    ("scopes", |size| {
        let head = r#"{"access_token":"t","token_type":"Bearer","active":true,"scope":""#;
        numbered(head, |n| format!("{n:x} "), "z\"}", size)
    }),
    ("scopes with commas", |size| {
        let head = r#"{"access_token":"t","token_type":"Bearer","active":true,"scope":""#;
        filled(head.to_owned(), ",", "z\"}", size)
    }),
    ("a long token", |size| {
        filled(r#"{"token_type":"Bearer","access_token":""#.to_owned(), "a", "\"}", size)
    }),
    ("a long token of a foreign type", |size| {
        let head = r#"{"token_type":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","access_token":""#;
        filled(head.to_owned(), "a", "\"}", size)
    }),
    ("a long name", |size| filled("{\"".to_owned(), "a", "\":1}", size)),
    ("levels", |size| filled("{\"a\":".to_owned(), "[", "", size)),
    ("a form", |size| numbered("", |n| format!("{n:x}&"), "z", size)),
    ("a form of one name", |size| filled(String::new(), "a=b&", "a", size)),
    ("a text alone", |size| filled("\"".to_owned(), "a", "\"", size)),
    ("a text in place of a number", |size| filled("{\"exp\":\"".to_owned(), "a", "\"}", size)),
    ("white space", |size| filled(String::new(), " ", "{}", size)),
    ("a page", |size| filled("<html>".to_owned(), "<a>", "", size)),
];

/// As many pieces between head and tail as fit.
fn filled(head: String, piece: &str, tail: &str, size: usize) -> Vec<u8> {
    let times = (size - head.len() - tail.len()) / piece.len();
    format!("{head}{}{tail}", piece.repeat(times)).into()
}

/// As many different pieces between head and tail as fit.
fn numbered(head: &str, piece: impl Fn(usize) -> String, tail: &str, size: usize) -> Vec<u8> {
    let mut body = head.to_owned();
    for number in 0.. {
        let piece = piece(number);
        if body.len() + piece.len() + tail.len() > size {
            break;
        }
        body.push_str(&piece);
    }
    body.push_str(tail);
    body.into()
}
