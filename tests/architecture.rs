//! The rooms of the crate: which there are, and who may use whom.
//!
//! A room is a top-level module of `src/`. Each has a rank, and `use crate::…` points to a lower
//! rank only. So a room can be read, tested and changed knowing only those below it.

use std::{fmt::Write as _, fs, path::Path};

/// Every room and its rank. A new room gets a line here, as low as what it uses allows.
const RANKS: [(&str, u8); 26] = [
    ("docs", 0),
    ("error", 1),
    ("task", 0),
    ("secret", 2),
    ("time", 2),
    ("observe", 3),
    ("jose", 3),
    ("http", 3),
    ("dpop", 4),
    ("token", 5),
    ("source", 6),
    ("slot", 6),
    ("client_auth", 6),
    ("discovery", 6),
    ("endpoint", 7),
    ("refresh", 7),
    ("store", 7),
    ("grant", 8),
    ("revocation", 8),
    ("introspection", 8),
    ("pool", 8),
    ("middleware", 9),
    ("testing", 9),
    ("config", 10),
    ("openapi", 11),
    ("fuzzing", 10),
];

/// What only some rooms may name, and why.
const RESERVED: [(&str, &str, &str); 2] = [
    ("arc_swap", "slot", "the token is swapped and read in one place only; use `crate::slot`"),
    ("SystemTime::now", "time", "wall-clock time enters through `crate::time::Clock`"),
];

const LONGEST_FILE: usize = 600;

#[test]
fn rooms_use_only_rooms_of_a_lower_rank() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    read_files(&source, &source, &mut files);
    assert!(files.len() > 10, "src/ was read from the wrong place");

    let mut report = String::new();
    for breach in files.iter().flat_map(breaches) {
        write!(report, "\n\n{breach}").expect("a string takes all that is written to it");
    }
    assert!(report.is_empty(), "{report}\n\n(tests/architecture.rs has the rules)\n");
}

/// A file of `src/`.
struct SourceFile {
    /// Below `src/`, such as `http/endpoint.rs`.
    path: String,
    lines: usize,
    /// The text with comments, strings and characters blanked out; positions are kept.
    code: String,
}

fn read_files(root: &Path, directory: &Path, files: &mut Vec<SourceFile>) {
    for entry in fs::read_dir(directory).expect("src/ can be listed") {
        let path = entry.expect("src/ can be listed").path();
        if path.is_dir() {
            read_files(root, &path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a source file can be read");
            let path = path.strip_prefix(root).expect("it is below src/");
            files.push(SourceFile::new(&path.to_string_lossy().replace('\\', "/"), &text));
        }
    }
}

impl SourceFile {
    fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), lines: text.lines().count(), code: code_only(text) }
    }

    /// `http/endpoint.rs` is in the room `http`.
    fn room(&self) -> &str {
        self.path.split(['/', '.']).next().unwrap_or_default()
    }

    /// How many `super::` lead from this file to the crate's root.
    fn depth(&self) -> usize {
        let segments = self.path.split('/').count();
        if self.path.ends_with("/mod.rs") { segments - 1 } else { segments }
    }

    fn at(&self, position: usize) -> String {
        let before = self.code.split_at(position).0;
        format!("src/{}:{}", self.path, before.matches('\n').count() + 1)
    }
}

/// All that is wrong with a file, each with what to do about it.
fn breaches(file: &SourceFile) -> Vec<String> {
    let mut found = Vec::new();
    if file.lines > LONGEST_FILE {
        found.push(format!(
            "src/{} has {} lines, more than {LONGEST_FILE}.\n  \
             Find the second idea in it and give that a file of its own.",
            file.path, file.lines,
        ));
    }
    if file.path == "lib.rs" {
        return found; // it lists the rooms and re-exports from all of them
    }
    let Some(rank) = rank(file.room()) else {
        found.push(format!(
            "src/{} is in the room `{}`, which has no rank.\n  \
             Give the room a line in RANKS in tests/architecture.rs: a higher number than every \
             room it uses, a lower one than every room that uses it.",
            file.path,
            file.room(),
        ));
        return found;
    };
    reserved_names(file, &mut found);
    uses(file, rank, &mut found);
    found
}

fn rank(room: &str) -> Option<u8> {
    RANKS.iter().find(|(name, _)| *name == room).map(|(_, rank)| *rank)
}

fn reserved_names(file: &SourceFile, found: &mut Vec<String>) {
    for (name, room, why) in RESERVED {
        if let Some(position) = words(&file.code, name).next().filter(|_| file.room() != room) {
            found.push(format!(
                "{} names `{name}`, which only src/{room} may.\n  Because {why}.",
                file.at(position),
            ));
        }
    }
}

fn uses(file: &SourceFile, rank: u8, found: &mut Vec<String>) {
    let items = use_items(&file.code);
    for item in &items {
        for path in &item.paths {
            if let Err(advice) = check_path(path, file, item, rank) {
                found.push(format!("{}: `use {path}`\n  {advice}", file.at(item.start)));
            }
        }
    }
    // `$crate::` in a macro is not a path of this file.
    let inline = words(&file.code, "crate::").filter(|position| {
        !items.iter().any(|item| (item.start..item.end).contains(position))
            && !file.code.split_at(*position).0.ends_with('$')
    });
    for position in inline {
        found.push(format!(
            "{}: `crate::` outside of a `use`\n  Import it at the top of the file with \
             `use crate::room::Name;`, so that what the file needs is seen there.",
            file.at(position),
        ));
    }
}

/// Checks one path of a `use` item.
fn check_path(path: &str, file: &SourceFile, item: &UseItem, rank: u8) -> Result<(), String> {
    let segments: Vec<&str> = path.split("::").collect();
    let supers = segments.iter().take_while(|segment| **segment == "super").count();
    if supers >= file.depth() + item.inline_modules {
        return Err("This climbs out of the room. Write `use crate::room::Name;`.".to_owned());
    }
    let ["crate", target, ..] = segments.as_slice() else {
        return match segments.first() {
            Some(&"crate") => Err("Name the room: `use crate::room::Name;`.".to_owned()),
            _ => Ok(()), // another crate, or inside the room
        };
    };
    let room = file.room();
    if *target == room {
        return Err("Inside a room, use `super::` or `self::`.".to_owned());
    }
    match self::rank(target) {
        Some(lower) if lower < rank => Ok(()),
        Some(other) => Err(format!(
            "`{room}` has rank {rank} and `{target}` rank {other}, but a room may use only lower \
             ranks.\n  Move what both need to a lower room, or hand it in through a trait or a \
             parameter; what makes tokens and what uses them meet in `source` only."
        )),
        None => Err(format!(
            "`{target}` is not a room with a rank. Import from the room itself, not from the \
             re-exports in lib.rs; a new room gets a line in RANKS in tests/architecture.rs."
        )),
    }
}

/// A `use` item, from `use` to the semicolon.
struct UseItem {
    start: usize,
    end: usize,
    /// The paths it imports, groups written out.
    paths: Vec<String>,
    /// In how many `mod name { … }` of the file it stands.
    inline_modules: usize,
}

fn use_items(code: &str) -> Vec<UseItem> {
    let mut items = Vec::new();
    for start in words(code, "use") {
        let (before, item) = code.split_at(start);
        let Some(tree) = item.split(';').next().and_then(|item| item.strip_prefix("use")) else {
            continue;
        };
        if !tree.starts_with(char::is_whitespace) {
            continue; // `impl Trait + use<'a>`
        }
        let mut paths = Vec::new();
        write_out(tree, "", &mut paths);
        let inline_modules = open_modules(before);
        items.push(UseItem { start, end: start + "use".len() + tree.len(), paths, inline_modules });
    }
    items
}

/// Writes out `a::{b, c::{d, e}}` as `a::b`, `a::c::d` and `a::c::e`.
fn write_out(tree: &str, prefix: &str, paths: &mut Vec<String>) {
    let Some((head, group)) = tree.split_once('{') else {
        // `Name as Other` imports `Name`.
        paths.extend(tree.split_whitespace().next().map(|name| format!("{prefix}{name}")));
        return;
    };
    let prefix = format!("{prefix}{}", head.trim());
    let mut open = 0_i32;
    let branches = group.split(|c| {
        open += i32::from(c == '{') - i32::from(c == '}');
        open < 0 || (open == 0 && c == ',')
    });
    for branch in branches {
        write_out(branch, &prefix, paths);
    }
}

/// How many `mod name {` are not closed at the end of this code.
fn open_modules(code: &str) -> usize {
    let mut open = Vec::new();
    for (position, c) in code.char_indices() {
        match c {
            '{' => {
                let before = code.split_at(position).0;
                open.push(before.split_whitespace().rev().nth(1) == Some("mod"));
            }
            '}' => drop(open.pop()),
            _ => {}
        }
    }
    open.iter().filter(|is_module| **is_module).count()
}

/// Where a word stands in the code; not where it is a part of a longer one.
fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).map(|(position, _)| position).filter(move |position| {
        let (before, rest) = code.split_at(*position);
        let after = rest.split_at(word.len()).1;
        !before.ends_with(part) && (word.ends_with(':') || !after.starts_with(part))
    })
}

/// Blanks out comments, strings and characters.
fn code_only(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let prose = prose_length(rest);
        let (taken, left) = rest.split_at(prose.max(first.len_utf8()));
        if prose == 0 {
            code.push_str(taken);
        } else {
            // Bytes, not characters: positions must stay.
            code.extend(taken.bytes().map(|b| if b == b'\n' { '\n' } else { ' ' }));
        }
        rest = left;
    }
    code
}

/// The length of the comment, string or character that this text starts with; 0 if it is code.
fn prose_length(text: &str) -> usize {
    let until = |end: &str, from: usize| {
        let found = text.get(from..).and_then(|inside| inside.find(end));
        found.map_or(text.len(), |at| from + at + end.len())
    };
    if text.starts_with("//") {
        return until("\n", 0) - usize::from(text.contains('\n'));
    }
    if text.starts_with("/*") {
        return until("*/", 2);
    }
    if let Some(raw) = text.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw.trim_start_matches('#').starts_with('"') {
            return until(&format!("\"{}", "#".repeat(hashes)), hashes + 2);
        }
    }
    let quoted = |quote: char| {
        let mut escaped = false;
        let end = text.char_indices().skip(1).find(|(_, c)| {
            let ends = *c == quote && !escaped;
            escaped = *c == '\\' && !escaped;
            ends
        });
        end.map_or(text.len(), |(at, _)| at + 1)
    };
    let mut characters = text.chars();
    match (characters.next(), characters.next(), characters.next()) {
        (Some('"'), ..) => quoted('"'),
        // `'a'` and `'\n'` are characters, `'a` is a lifetime.
        (Some('\''), Some('\\'), _) | (Some('\''), Some(_), Some('\'')) => quoted('\''),
        _ => 0,
    }
}

/// The checker finds what it is there for.
mod checker {
    use super::{LONGEST_FILE, SourceFile, breaches, code_only, rank};

    fn check(path: &str, text: &str) -> String {
        breaches(&SourceFile::new(path, text)).join("\n")
    }

    #[test]
    fn a_lower_room_is_allowed_and_a_higher_or_equal_one_is_not() {
        assert_eq!(check("token/set.rs", "use crate::error::Error;"), "");
        let higher = check("token/set.rs", "use std::fmt;\n\nuse crate::refresh::Refresher;");
        assert!(higher.starts_with("src/token/set.rs:3: `use crate::refresh::Refresher`"));
        let ranks = |low, high| {
            let (low_rank, high_rank) = (rank(low).unwrap(), rank(high).unwrap());
            format!("`{low}` has rank {low_rank} and `{high}` rank {high_rank}")
        };
        assert!(higher.contains(&ranks("token", "refresh")), "{higher}");
        let equal = check("jose/key.rs", "pub use crate::http::Target;");
        assert!(equal.contains(&ranks("jose", "http")), "{equal}");
    }

    #[test]
    fn groups_over_several_lines_are_written_out() {
        let text = "use crate::{\n    error::{Error, ErrorKind},\n    grant::{self, password::{A, B}},\n};";
        let found = check("source/mod.rs", text);
        assert!(found.contains("`use crate::grant::self`"), "{found}");
        assert!(found.contains("`use crate::grant::password::B`"), "{found}");
        assert!(!found.contains("crate::error"), "{found}");
        assert_eq!(check("source/mod.rs", "use crate::{error::Error, token::{TokenSet}};"), "");
    }

    #[test]
    fn the_rules_hold_in_functions_and_tests_and_under_other_names() {
        for text in [
            "fn f() { use crate::grant::Grant; }",
            "#[cfg(test)]\nmod tests {\n    use crate::grant::Grant;\n}",
            "use crate::grant as g;",
            "pub(crate) use crate::grant::*;",
        ] {
            assert!(check("token/set.rs", text).contains("`grant` rank"), "{text}");
        }
    }

    #[test]
    fn ways_around_the_ranks_are_found() {
        for (text, advice) in [
            ("fn f(e: crate::error::Error) {}", "outside of a `use`"),
            ("use crate::Error;", "not a room with a rank"),
            ("use crate::*;", "not a room with a rank"),
            ("use crate as root;", "Name the room"),
            ("use crate::token::TokenSet;", "use `super::`"),
            ("use super::super::grant::Grant;", "climbs out"),
        ] {
            let found = check("token/set.rs", text);
            assert!(found.contains(advice), "{text}: {found}");
        }
        assert!(check("token/mod.rs", "use super::grant::Grant;").contains("climbs out"));
    }

    #[test]
    fn what_only_looks_like_a_breach_is_none() {
        for text in [
            "use super::Members;",
            "mod tests {\n    mod deep {\n        use super::super::super::Members;\n    }\n}",
            "/// See [`crate::grant::Grant`].\n// crate::grant arc_swap\n/* use crate::grant; */",
            "const A: &str = \"crate::grant // \\\" crate::grant\"; // arc_swap",
            "const A: &str = r#\"\"crate::grant\"#; fn f<'a>(c: char) -> bool { c == '\"' }",
            "pub(crate) fn f<'a>() -> impl Sized + use<'a> {}",
            "macro_rules! m { () => { $crate::TokenSet } }",
            "use tower_crate::grant::Grant; fn because_of() {}",
        ] {
            assert_eq!(check("token/set.rs", text), "", "{text}");
        }
    }

    #[test]
    fn reserved_names_are_for_their_room() {
        for (room, name) in [("slot", "arc_swap::ArcSwap"), ("time", "std::time::SystemTime::now")]
        {
            let text = format!("fn f() {{ {name}(); }}");
            assert_eq!(check(&format!("{room}/mod.rs"), &text), "");
            let found = check("refresh/handle.rs", &text);
            assert!(found.contains(&format!("only src/{room} may")), "{found}");
        }
    }

    #[test]
    fn rooms_need_a_rank_and_files_an_end() {
        let found = check("kitchen/mod.rs", "");
        assert!(found.contains("the room `kitchen`, which has no rank"), "{found}");
        assert!(check("kitchen.rs", "").contains("no rank"));
        assert_eq!(check("token/set.rs", &"\n".repeat(LONGEST_FILE)), "");
        assert!(check("token/set.rs", &"\n".repeat(LONGEST_FILE + 1)).contains("601 lines"));
    }

    #[test]
    fn blanking_keeps_positions() {
        let text = "let é = \"ü\"; // ö\nlet c = '\\'';";
        let code = code_only(text);
        assert_eq!(code.len(), text.len());
        assert_eq!(
            code,
            "let é = \"ü\"; // ö\n".replace("\"ü\"; // ö", "    ;      ") + "let c =     ;"
        );
    }
}
