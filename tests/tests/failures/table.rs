//! `docs/failures.md` and these tests say the same.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use dipc_tests::artifacts::workspace;

/// All names of functions in Rust files under a folder.
fn functions(folder: &Path, found: &mut BTreeSet<String>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    for path in entries.map(|entry| entry.expect("a folder that can be read").path()) {
        if path.is_dir() {
            functions(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("our own source");
            let lines = text.lines().map(str::trim_start);
            let names = lines.filter_map(|line| line.strip_prefix("fn ")?.split(['(', '<']).next());
            found.extend(names.map(str::to_owned));
        }
    }
}

/// The cells of the rows of all tables whose last column is headed `test`.
fn rows(text: &str) -> Vec<Vec<&str>> {
    let mut within = false;
    let mut rows = Vec::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        match cells.as_slice() {
            [_, .., "test", _] => within = true,
            [_] => within = false,
            [_, rule, ..] if rule.starts_with("--") => {}
            [_, cells @ .., _] if within => rows.push(cells.to_vec()),
            _ => {}
        }
    }
    rows
}

#[test]
fn the_table_names_tests_that_exist() {
    let text = fs::read_to_string(workspace().join("docs/failures.md")).expect("docs/failures.md");
    let mut tests = BTreeSet::new();
    functions(&workspace().join("tests/tests"), &mut tests);
    let rows = rows(&text);
    assert!(rows.len() > 20, "the tables were found: {}", rows.len());
    for row in rows {
        let (what, named) = (row[0], row[row.len() - 1]);
        let names: Vec<&str> = named.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "{what}: no test is named");
        for name in names {
            assert!(tests.contains(name), "{what}: there is no test {name}");
        }
        assert!(
            row.iter().all(|cell| !cell.is_empty()),
            "{what}: an empty cell"
        );
    }
}
