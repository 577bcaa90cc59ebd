//! Answers of every shape that has hurt, or could.

type Shape = fn(usize) -> Vec<u8>;

/// Each makes an answer of about so many bytes, and no more.
pub(crate) const SHAPES: &[(&str, Shape)] = &[
    ("tokens that each stand in the text", |size| {
        let text = "d".repeat(size / 8);
        let head = format!(r#"{{"error":"x","error_description":"{text}","access_token":["#);
        filled(&head, "\"d\",", r#""d"]}"#, size)
    }),
    ("tokens that begin alike", |size| {
        let mut body =
            format!(r#"{{"error":"x","error_description":"{}","access_token":["#, "a".repeat(700));
        let mut length = 1;
        while body.len() + length + 8 < size {
            body.extend(["\"", &"a".repeat(length), "b\","]);
            length = if length > 1000 { 1 } else { length + 1 };
        }
        format!("{body}0]}}").into()
    }),
    ("one token, in one text", |size| {
        let token = "a".repeat(size / 2 - 100);
        format!(r#"{{"error":"x","error_description":"{token}","access_token":"{token}"}}"#).into()
    }),
    ("one long text", |size| filled(r#"{"error":"x","error_description":""#, "a", "\"}", size)),
    ("one text of escapes", |size| {
        filled(r#"{"error":"x","error_description":""#, "\\n", "\"}", size)
    }),
    ("a text with an escape now and then", |size| {
        let piece = format!("{}\\n", "a".repeat(60_000));
        filled(r#"{"error":"x","error_description":""#, &piece, "\"}", size)
    }),
    ("numbers", |size| filled(r#"{"a":["#, "0,", "0]}", size)),
    ("numbers in an error", |size| filled(r#"{"error":["#, "0,", "0]}", size)),
    ("empty objects", |size| filled(r#"{"a":["#, "{},", "{}]}", size)),
    ("objects with a member", |size| filled(r#"{"a":["#, "{\"\":0},", "{}]}", size)),
    ("objects within objects", |size| {
        let piece = format!("{}0{},", "{\"\":".repeat(120), "}".repeat(120));
        filled(r#"{"issuer":"https://idp.example","a":["#, &piece, "{}]}", size)
    }),
    ("few objects within objects", |size| {
        let piece = format!("{}0{},", "{\"\":".repeat(120), "}".repeat(120));
        let few = filled(r#"{"issuer":"https://idp.example","a":["#, &piece, "{}]", size / 32);
        filled(std::str::from_utf8(&few).unwrap(), " ", "}", size)
    }),
    ("lists of one", |size| filled(r#"{"a":["#, "[0],", "[0]]}", size)),
    ("texts of a letter", |size| filled(r#"{"issuer":["#, "\"a\",", "\"a\"]}", size)),
    ("members", |size| numbered("{", |n| format!("\"{n:x}\":0,"), "\"z\":0}", size)),
    ("one member, again and again", |size| {
        filled("{", r#""active":true,"#, r#""active":true}"#, size)
    }),
    ("scopes", |size| {
        let head = r#"{"access_token":"t","token_type":"Bearer","active":true,"scope":""#;
        numbered(head, |n| format!("{n:x} "), "z\"}", size)
    }),
    ("scopes with commas", |size| {
        let head = r#"{"access_token":"t","token_type":"Bearer","active":true,"scope":""#;
        filled(head, ",", "z\"}", size)
    }),
    ("a long token", |size| filled(r#"{"token_type":"Bearer","access_token":""#, "a", "\"}", size)),
    ("a long token of a foreign type", |size| {
        let head = r#"{"token_type":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","access_token":""#;
        filled(head, "a", "\"}", size)
    }),
    ("a long name", |size| filled("{\"", "a", "\":1}", size)),
    ("levels", |size| filled("{\"a\":", "[", "", size)),
    ("a form", |size| numbered("", |n| format!("{n:x}&"), "z", size)),
    ("a form of one name", |size| filled("", "a=b&", "a", size)),
    ("a text alone", |size| filled("\"", "a", "\"", size)),
    ("a text in place of a number", |size| filled("{\"exp\":\"", "a", "\"}", size)),
    ("white space", |size| filled("", " ", "{}", size)),
    ("a page", |size| filled("<html>", "<a>", "", size)),
];

/// As many pieces between head and tail as fit.
fn filled(head: &str, piece: &str, tail: &str, size: usize) -> Vec<u8> {
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
