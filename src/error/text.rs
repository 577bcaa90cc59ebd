use std::fmt::Write;

/// Makes text from the network safe to print: one line of printable ASCII of at most `cap` bytes.
///
/// RFC 6749 §5.2: "Values for the "`error_description`" parameter MUST NOT include characters
/// outside the set %x20-21 / %x23-5B / %x5D-7E." What is outside is escaped, so that neither a log
/// line nor a terminal can be forged.
pub(crate) fn printable(text: &str, cap: usize) -> String {
    let mut out = String::with_capacity(text.len().min(cap));
    for c in text.chars() {
        let start = out.len();
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            _ => {
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
        }
        if out.len() > cap.saturating_sub(ELLIPSIS.len()) {
            out.truncate(start);
            out.push_str(ELLIPSIS);
            break;
        }
    }
    out
}

const ELLIPSIS: &str = "...";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controls_and_direction_marks_are_escaped() {
        assert_eq!(printable("a\nb\x1b[1m\u{202e}", 100), r"a\u{a}b\u{1b}[1m\u{202e}");
    }

    #[test]
    fn quotes_are_escaped() {
        assert_eq!(printable(r#"say "x\y""#, 100), r#"say \"x\\y\""#);
    }

    #[test]
    fn long_text_is_cut() {
        let text = printable(&"x".repeat(1 << 20), 64);
        assert!(text.len() <= 64 && text.ends_with("..."), "{text}");
    }
}
