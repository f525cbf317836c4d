//! Files that fit together and files that do not.

use super::super::parse::parse;
use super::*;

fn read(file: &str, text: &str) -> Read {
    Read { file: file.to_owned(), modified: 1_763_862_896.5, families: parse(text).map(Arc::new) }
}

fn text(section: &Section) -> String {
    String::from_utf8(section.in_format(PageFormat::Text).to_vec()).unwrap()
}

/// EXP-2: one HELP and TYPE for a metric of two files, the first help that there is; nothing else is changed.
#[test]
fn the_same_metric_of_two_files_is_one_family() {
    let files = [
        read("a.prom", "# TYPE jobs_total counter\njobs_total{job=\"a\"} 1\nsolo 1\n"),
        read("b.prom", "# HELP jobs_total Jobs \"run\".\n# TYPE jobs_total counter\njobs_total{job=\"b\"} 2\n"),
        read("c.prom", "# HELP jobs_total Another text.\n# TYPE jobs_total counter\njobs_total{job=\"c\"} 3\n"),
    ];
    let section = merge(&files, Vec::new());
    assert_eq!(section.left_out, []);
    let own = "\
# HELP chiron_textfile_mtime_seconds When a file that was taken from the textfile folder was last changed.
# TYPE chiron_textfile_mtime_seconds gauge
chiron_textfile_mtime_seconds{file=\"a.prom\"} 1763862896.5
chiron_textfile_mtime_seconds{file=\"b.prom\"} 1763862896.5
chiron_textfile_mtime_seconds{file=\"c.prom\"} 1763862896.5
";
    let expected = "\
# HELP jobs_total Jobs \"run\".
# TYPE jobs_total counter
jobs_total{job=\"a\"} 1
jobs_total{job=\"b\"} 2
jobs_total{job=\"c\"} 3
# HELP solo Metric read from a.prom.
# TYPE solo untyped
solo 1
# HELP chiron_textfile_scrape_error Whether a file of the textfile folder, or all of it, was left out of this page.
# TYPE chiron_textfile_scrape_error gauge
chiron_textfile_scrape_error 0
";
    assert_eq!(text(&section), format!("{expected}{own}"));
    let openmetrics = String::from_utf8(section.in_format(PageFormat::OpenMetrics).to_vec()).unwrap();
    let begin = "# TYPE jobs counter\n# HELP jobs Jobs \\\"run\\\".\njobs_total{job=\"a\"} 1\n";
    assert!(openmetrics.starts_with(begin), "{openmetrics}");
}

/// EXP-2: a file that does not fit those before it is left out whole; the others stay.
#[test]
fn a_file_that_does_not_fit_is_left_out_whole() {
    let histogram = "# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\n";
    for (first, second, reason) in [
        ("a{x=\"1\"} 1\n", "b 1\na{x=\"1\"} 2\n", "duplicate"),
        (histogram, "b 1\n# TYPE h histogram\nh_bucket{le=\"+Inf\"} 2\nh_sum 1\nh_count 2\n", "duplicate"),
        ("# TYPE s summary\ns{quantile=\"0.5\"} 1\n", "b 1\n# TYPE s summary\ns{quantile=\"0.9\"} 2\n", "duplicate"),
        ("# TYPE a gauge\na{x=\"1\"} 1\n", "b 1\na{x=\"2\"} 2\n", "clash"),
        (histogram, "b 1\nh_sum 1\n", "clash"),
        ("a_total 1\n", "b 1\na 1\n", ""),
        ("# TYPE a_total counter\na_total 1\n", "b 1\n# TYPE a gauge\na 1\n", "clash"),
        ("c 1\n", "b 1\na 1 2\n", "timestamp"),
    ] {
        let section = merge(&[read("a.prom", first), read("b.prom", second)], Vec::new());
        let found: Vec<_> = section.left_out.iter().map(|(file, fault)| (file.as_str(), fault.reason)).collect();
        let expected = if reason.is_empty() { Vec::new() } else { vec![("b.prom", reason)] };
        assert_eq!(found, expected, "{first}{second}");
        let page = text(&section);
        assert_eq!(page.contains("\nb 1\n"), reason.is_empty(), "{page}");
        assert!(page.contains("file=\"a.prom\""), "{page}");
        assert_eq!(page.contains("file=\"b.prom\""), reason.is_empty(), "{page}");
        assert!(page.contains(&format!("chiron_textfile_scrape_error {}\n", u8::from(!reason.is_empty()))), "{page}");
    }
}

/// What is left out leaves nothing behind: its names and series are free for a file after it.
#[test]
fn a_file_left_out_takes_nothing() {
    let files =
        [read("a.prom", "a 1\n"), read("b.prom", "fresh 1\na 2\n"), read("c.prom", "# TYPE fresh gauge\nfresh 3\n")];
    let section = merge(&files, Vec::new());
    assert_eq!(section.left_out.len(), 1);
    assert!(text(&section).contains("# TYPE fresh gauge\nfresh 3\n"));
}

#[test]
fn all_files_together_are_bounded() {
    let large =
        |name: &str| (0..SERIES_MAX / 2).map(|index| format!("{name}{{x=\"{index}\"}} 1\n")).collect::<String>();
    let files = [read("a.prom", &large("a")), read("b.prom", &large("b")), read("c.prom", "c 1\n")];
    let section = merge(&files, Vec::new());
    assert_eq!(
        section.left_out.iter().map(|(file, fault)| (file.as_str(), fault.reason)).collect::<Vec<_>>(),
        [("c.prom", "too_many")]
    );
}
