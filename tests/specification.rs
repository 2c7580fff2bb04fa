//! `docs/protocol.md` and the tests agree on the requirements: each has an id, and a test that names it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The ids in `text`, such as `W-1`, in square brackets.
fn ids(text: &str) -> BTreeSet<String> {
    let is_id = |id: &&str| {
        let mut parts = id.split('-');
        matches!(parts.next(), Some("W" | "R" | "S"))
            && parts.next().is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
            && parts.next().is_none()
    };
    let bracketed = text.split('[').skip(1).filter_map(|rest| rest.split_once(']'));
    bracketed.map(|(id, _)| id).filter(is_id).map(str::to_owned).collect()
}

/// The page, without what it says about ids at its beginning.
fn specification() -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/protocol.md");
    let page = fs::read_to_string(page).expect("the page is there");
    page[page.find("\n## ").expect("it has sections")..].to_owned()
}

/// The ids in doc comments of tests, with the test.
fn named_by_tests() -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut dirs = vec!["src".to_owned(), "tests".to_owned()];
    while let Some(dir) = dirs.pop() {
        for file in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(&dir)).expect("a directory") {
            let name = format!("{dir}/{}", file.expect("an entry").file_name().to_string_lossy());
            if Path::new(&name).extension().is_none_or(|ending| ending != "rs") {
                if Path::new(env!("CARGO_MANIFEST_DIR")).join(&name).is_dir() {
                    dirs.push(name);
                }
                continue;
            }
            let source = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(&name)).expect("text");
            let mut doc = String::new();
            for line in source.lines().map(str::trim_start) {
                if line.starts_with("///") {
                    doc.push_str(line);
                } else if !line.starts_with("#[") {
                    if line.contains("fn ") {
                        let test = format!("{name}: {line}");
                        ids(&doc).into_iter().for_each(|id| found.entry(id).or_default().push(test.clone()));
                    }
                    doc.clear();
                }
            }
        }
    }
    found
}

#[test]
fn each_requirement_has_a_test_and_each_test_a_requirement() {
    let (page, tests) = (ids(&specification()), named_by_tests());
    let without_test: Vec<_> = page.iter().filter(|id| !tests.contains_key(*id)).collect();
    assert!(without_test.is_empty(), "no test names {without_test:?}");
    let unknown: Vec<_> = tests.iter().filter(|(id, _)| !page.contains(*id)).collect();
    assert!(unknown.is_empty(), "the page does not have {unknown:?}");
    assert!(page.len() > 40, "only {} requirements were found", page.len());
}

#[test]
fn each_must_has_an_id() {
    let page = specification();
    // A paragraph, an item of a list or a row of a table.
    let mut parts = vec![String::new()];
    for line in page.lines() {
        let begins =
            line.is_empty() || line.starts_with(['|', '-']) || line.starts_with(|c: char| c.is_ascii_digit());
        if begins {
            parts.push(String::new());
        }
        let part = parts.last_mut().expect("there is one");
        part.push_str(line);
        part.push('\n');
    }
    let lists = ["A receiver MUST\n", "A sender MUST\n"];
    let without: Vec<_> = parts
        .iter()
        .filter(|part| part.contains("MUST") && ids(part).is_empty())
        .filter(|part| !lists.iter().any(|list| part.ends_with(list)))
        .collect();
    assert!(without.is_empty(), "without an id: {without:#?}");
}

#[test]
fn self_test_ids() {
    let found = ids("a [W-1], b [R-20] and [S-3](#x), not [W-], [X-1], [W-1-2] or W-4");
    assert_eq!(found, ["R-20", "S-3", "W-1"].map(str::to_owned).into());
}
