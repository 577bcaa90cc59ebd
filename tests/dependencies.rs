//! `docs::security` lists what the core brings along: that list is the whole of it.
#![cfg(all(test, target_os = "linux"))]

use std::{collections::BTreeSet, fs, path::Path, process::Command};

#[test]
fn the_core_brings_along_what_the_docs_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--edges=normal", "--no-default-features", "--prefix=none", "--locked"])
        .current_dir(root)
        .output()
        .expect("cargo can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).expect("names of crates are text");
    let names = tree.lines().filter_map(|line| line.split(' ').next());
    let brought: BTreeSet<_> = names.filter(|name| *name != env!("CARGO_PKG_NAME")).collect();

    let page = fs::read_to_string(root.join("src/docs/security.md")).expect("it is there");
    let list = page.split("```text\n").nth(1).and_then(|rest| rest.split("```").next());
    let listed: BTreeSet<_> = list.expect("the page has the list").lines().collect();
    assert_eq!(brought, listed);
}
