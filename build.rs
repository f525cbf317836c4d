//! Tells the program at compile time which revision and which compiler it was made from; never fails without git.
#![expect(clippy::disallowed_methods, reason = "a build script asks git and the compiler")]

use std::process::Command;

fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (!text.is_empty() && !text.contains('\n')).then_some(text)
}

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=CHIRON_REVISION");
    // HEAD's log grows with every commit and checkout; where it is missing, the revision is as of the first build.
    if let Some(path) = said("git", &["rev-parse", "--git-path", "logs/HEAD"])
        && std::path::Path::new(&path).exists()
    {
        println!("cargo::rerun-if-changed={path}");
    }
    let revision = std::env::var("CHIRON_REVISION")
        .ok()
        .filter(|revision| !revision.is_empty())
        .or_else(|| said("git", &["rev-parse", "--short=12", "HEAD"]))
        .unwrap_or_else(|| "unknown".to_owned());
    let compiler = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let version = said(&compiler, &["--version"])
        .and_then(|text| text.split_whitespace().nth(1).map(str::to_owned))
        .unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=CHIRON_REVISION={revision}");
    println!("cargo::rustc-env=CHIRON_RUSTC={version}");
}
