//! Answers from files.

use std::{collections::BTreeSet, fs, path::PathBuf};

use tower_oauth::testing::Reply;

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/providers/answers")
}

/// The names of all answers.
pub(crate) fn all() -> BTreeSet<String> {
    let files = fs::read_dir(directory()).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

/// Reads an answer.
pub(crate) fn reply(name: &str) -> Reply {
    let text = fs::read_to_string(directory().join(format!("{name}.http"))).unwrap();
    let (head, body) = text.split_once("\n\n").unwrap();
    let mut lines = head.lines();
    let mut reply = Reply::status(lines.next().unwrap().parse().unwrap());
    for line in lines {
        let (field, value) = line.split_once(": ").unwrap();
        reply = reply.header(field, value);
    }
    reply.body(body.trim_end().to_owned())
}
