//! What the published crates offer stands in `docs/public-api`, one line for each item, so that a change of it shows in review.
//!
//! `just api` writes the lists again. The compiler describes a crate only in a form that is not stable yet: `RUSTC_BOOTSTRAP` makes a stable one do
//! so, and `public-api` reads the form of one version of it. With another compiler this test says so; then `public-api` wants an update.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests: a panic is how they fail")]

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use public_api::Builder;

/// The library of `walctl` is not meant to be used, and the other crates are not published.
const CRATES: &[&str] = &["toy-memtable", "wal-format", "wal-io", "wal-manager"];

/// Traits that the compiler implements for nearly everything, and on which nobody builds.
const NOISE: &[&str] = &["::Freeze", "::UnsafeUnpin", "::Unpin", "UnwindSafe", "::StructuralPartialEq"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The description of a crate with all its features. In a target directory of its own: `RUSTC_BOOTSTRAP` makes others of some dependencies.
fn described(name: &str) -> PathBuf {
    let target =
        env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from).join("api");
    let mut rustdoc = Command::new(env!("CARGO"));
    rustdoc.current_dir(root()).env("RUSTC_BOOTSTRAP", "1").env_remove("RUSTDOCFLAGS");
    rustdoc
        .args(["rustdoc", "--quiet", "--lib", "--all-features", "--package", name, "--target-dir"])
        .arg(&target);
    rustdoc.args(["--", "-Zunstable-options", "--output-format", "json"]);
    assert!(rustdoc.status().unwrap().success(), "{rustdoc:?}");
    target.join("doc").join(format!("{}.json", name.replace('-', "_")))
}

/// The items of a crate, one a line: everything that is written down, and for each type which traits it has.
fn items(json: &Path) -> String {
    let lines = |with_traits: bool| -> Vec<String> {
        let builder = Builder::from_rustdoc_json(json)
            .omit_blanket_impls(true)
            .omit_auto_trait_impls(!with_traits)
            .omit_auto_derived_impls(!with_traits);
        let api = builder.build().unwrap_or_else(|error| panic!("{}: {error}", json.display()));
        api.items().map(ToString::to_string).collect()
    };
    let written: BTreeSet<String> = lines(false).into_iter().collect();
    let mut text = String::new();
    for line in lines(true) {
        let says_a_trait = line.starts_with("impl") && !NOISE.iter().any(|noise| line.contains(noise));
        if says_a_trait || written.contains(&line) {
            text.push_str(&line);
            text.push('\n');
        }
    }
    text
}

#[test]
#[ignore = "describes four crates anew: `just api` and .ci/run"]
fn the_public_api_is_what_is_listed() {
    for name in CRATES {
        let list = root().join(format!("docs/public-api/{name}.txt"));
        let now = items(&described(name));
        if env::var_os("REGENERATE").is_some() {
            fs::create_dir_all(list.parent().unwrap()).unwrap();
            fs::write(&list, &now).unwrap();
        }
        let listed = fs::read_to_string(&list).unwrap_or_default();
        let only = |these: &str, those: &str, sign: char| -> String {
            let those: BTreeSet<&str> = those.lines().collect();
            these
                .lines()
                .filter(|line| !those.contains(line))
                .map(|line| format!("{sign} {line}\n"))
                .collect()
        };
        let changes = only(&listed, &now, '-') + &only(&now, &listed, '+');
        assert!(
            now == listed,
            "the public API of {name} is not the one in {}; if that is meant, run `just api`, and say it in CHANGELOG.md\n{changes}",
            list.display()
        );
    }
}
