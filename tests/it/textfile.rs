//! The folder of `*.prom` files, as an operator uses it.

use std::path::Path;

use crate::common::{Chiron, Config, wait_for};

fn config(dir: &Path, folder: Option<&str>) -> String {
    let metrics = folder.map(|folder| format!("metrics: {{textfile_dir: {folder}}}\n")).unwrap_or_default();
    Config::new(dir).with(&metrics).text().to_owned()
}

fn write(dir: &Path, name: &str, text: &str) {
    let beside = dir.join(format!("{name}.new"));
    std::fs::write(&beside, text).expect("a file can be written");
    std::fs::rename(&beside, dir.join(name)).expect("a file can be replaced");
}

fn left_out(chiron: &Chiron, file: &str) -> Vec<String> {
    let told = |line: &&str| line.contains("msg=\"textfile left out\"") && line.contains(file);
    chiron.log().lines().filter(told).map(str::to_owned).collect()
}

/// EXP-2: files come, change, go wrong, go away; each scrape shows what is there, one bad file spoils no other, and the
/// log tells of it once. A reload takes the folder away and another up.
#[test]
fn files_are_part_of_the_page() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let folder = dir.path().join("metrics.d");
    let chiron = Chiron::with_config(dir.path(), &config(dir.path(), Some("metrics.d"))).start();
    assert_eq!(chiron.metric("chiron_textfile_scrape_error", &[]), Some(1.0), "the folder is not there yet");
    assert!(chiron.log().contains("metrics.textfile_dir"), "said at the start: {}", chiron.log());

    std::fs::create_dir(&folder).expect("a folder can be made");
    write(&folder, "a.prom", "jobs{job=\"a\"} 1\n");
    write(&folder, "b.prom", "jobs{job=\"b\"} 2\n");
    assert_eq!(chiron.metric("chiron_textfile_scrape_error", &[]), Some(0.0));
    assert_eq!(chiron.metric_sum("jobs", &[]), 3.0);
    assert_eq!(chiron.metrics().matches("# TYPE jobs ").count(), 1);
    let modified = chiron.metric("chiron_textfile_mtime_seconds", &[("file", "a.prom")]);
    assert!(modified.is_some_and(|at| at > 1.6e9), "{modified:?}");

    write(&folder, "b.prom", "jobs{job=\"b\"} 5\nchiron_dry_run 0\n");
    for _ in 0..3 {
        assert_eq!(chiron.metric_sum("jobs", &[]), 1.0, "left out whole, the other stays");
    }
    assert_eq!(chiron.metric("chiron_textfile_scrape_error", &[]), Some(1.0));
    assert_eq!(chiron.metric("chiron_textfile_mtime_seconds", &[("file", "b.prom")]), None);
    let told = left_out(&chiron, "b.prom");
    assert!(told.len() == 1 && told[0].contains("reason=reserved_name"), "{told:?}");

    write(&folder, "b.prom", "jobs{job=\"b\"} 7\n");
    assert_eq!(chiron.metric_sum("jobs", &[]), 8.0);
    assert_eq!(chiron.metric("chiron_textfile_scrape_error", &[]), Some(0.0));
    std::fs::remove_file(folder.join("b.prom")).expect("a file can be removed");
    assert_eq!(chiron.metric_sum("jobs", &[]), 1.0);

    std::fs::create_dir(dir.path().join("other.d")).expect("a folder can be made");
    write(&dir.path().join("other.d"), "c.prom", "jobs{job=\"c\"} 9\n");
    for (named, expected) in [(Some("other.d"), Some(9.0)), (None, None)] {
        chiron.rewrite_config(&config(dir.path(), named));
        assert_eq!(chiron.post("/-/reload", "").expect("chiron answers").status, 200);
        wait_for("the folder of the new settings", || {
            let found = chiron.metric("jobs", &[]);
            if found == expected { Ok(()) } else { Err(found) }
        });
    }
    assert_eq!(chiron.metric("chiron_textfile_scrape_error", &[]), None);
}
