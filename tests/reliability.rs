//! The table of faults in `docs::reliability` says what is tested: it has to be so.
#![cfg(test)]

use std::{collections::BTreeSet, fs, path::Path};

#[test]
fn every_fault_of_the_table_has_a_test_and_every_test_of_a_fault_its_row() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("src/docs/reliability.md")).expect("it is there");
    let rows: BTreeSet<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| F")?.split(' ').next())
        .map(ToOwned::to_owned)
        .collect();
    let mut tests = BTreeSet::new();
    for folder in ["src", "tests"] {
        read_names(&root.join(folder), &mut tests);
    }
    assert_eq!(rows.len(), 102, "a row was lost");
    assert_eq!(rows, tests);
}

/// Collects the numbers in the names of tests: `07` of `fn f07_…`.
fn read_names(folder: &Path, numbers: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("it can be listed") {
        let path = entry.expect("it can be listed").path();
        if path.is_dir() && !path.ends_with("target") && !path.ends_with("node_modules") {
            read_names(&path, numbers);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("it can be read");
            for name in text.lines().filter_map(|line| line.trim_start().split("fn ").nth(1)) {
                let name = name.split('(').next().unwrap_or_default();
                // What follows is the sentence: `visit_f64` has none.
                let (ids, _) = name.rsplit_once('_').unwrap_or_default();
                numbers.extend(ids.split('_').filter_map(number).map(ToOwned::to_owned));
            }
        }
    }
}

fn number(word: &str) -> Option<&str> {
    let digits = word.strip_prefix('f')?;
    ((2..=3).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()))
        .then_some(digits)
}
