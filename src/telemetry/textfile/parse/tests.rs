//! Files that are taken and files that are not, and what they read as.

use proptest::prelude::*;

use super::super::super::family;
use super::super::super::text::{PageFormat, Text};
use super::*;

/// What a file is written as again.
fn written(text: &str) -> String {
    let families = parse(text).unwrap_or_else(|fault| panic!("{fault:?}\n{text}"));
    let mut out = Vec::new();
    let mut page = Text::new(PageFormat::Text, &mut out);
    for one in &families {
        let help = one.help.as_deref().unwrap_or("-");
        family::family(&mut page, &one.name, one.kind, help, &[&one.samples]);
    }
    String::from_utf8(out).unwrap()
}

/// EXP-2: everything that the format allows and node_exporter takes.
#[test]
fn good_files_are_taken() {
    for (text, expected) in [
        ("", ""),
        ("\n \n\t\n# only a remark\n#HELP-ful\n", ""),
        ("# HELP unused Nothing.\n# TYPE unused gauge\n", ""),
        ("a 1\n", "# HELP a -\n# TYPE a untyped\na 1\n"),
        ("  a\t{ }  1  \n", "# HELP a -\n# TYPE a untyped\na 1\n"),
        (
            "a_total{y=\"2\" , x = \"1\",} 2.5e1\n# HELP b B.\na_total 3\n",
            "# HELP a_total -\n# TYPE a_total untyped\na_total{x=\"1\",y=\"2\"} 25\na_total 3\n",
        ),
        (
            "# HELP a A \\\\ and\\n line.\n# TYPE a counter\na{x=\"q\\\"b\\\\n\\n, } é\"} +Inf\n",
            "# HELP a A \\\\ and\\n line.\n# TYPE a counter\na{x=\"q\\\"b\\\\n\\n, } é\"} +Inf\n",
        ),
        (
            "a NaN\nb -Inf\nc:d -0.5\n",
            "# HELP a -\n# TYPE a untyped\na NaN\n# HELP b -\n# TYPE b untyped\nb -Inf\n# HELP c:d -\n# TYPE c:d untyped\nc:d -0.5\n",
        ),
        // Scattered samples of a family come together, buckets in order.
        (
            "# TYPE h histogram\nh_count{x=\"1\"} 3\nh_bucket{le=\"+Inf\",x=\"1\"} 3\nother 1\nh_bucket{x=\"1\",le=\"1\"} 2\nh_sum{x=\"1\"} 4.5\n",
            "# HELP h -\n# TYPE h histogram\nh_bucket{le=\"1.0\",x=\"1\"} 2\nh_bucket{le=\"+Inf\",x=\"1\"} 3\nh_sum{x=\"1\"} 4.5\nh_count{x=\"1\"} 3\n# HELP other -\n# TYPE other untyped\nother 1\n",
        ),
        (
            "# TYPE s summary\ns{quantile=\"0.99\"} NaN\ns{quantile=\"0.5\"} 1\ns_sum 1\ns_count 1\ns_bucket 7\n",
            "# HELP s -\n# TYPE s summary\ns{quantile=\"0.5\"} 1\ns{quantile=\"0.99\"} NaN\ns_sum 1\ns_count 1\n# HELP s_bucket -\n# TYPE s_bucket untyped\ns_bucket 7\n",
        ),
    ] {
        assert_eq!(written(text), expected, "{text}");
    }
}

/// EXP-2: what is not understood to its end is not taken at all; the reason and the line are told, the content is not.
#[test]
fn bad_files_are_left_out_with_their_reason() {
    for (text, reason, line) in [
        ("a 1", "half_written", ""),
        ("a 1\nb{x=\"1\"", "half_written", ""),
        ("a 1\nb{x=\"1\"\n", "syntax", "line 2:"),
        ("a\n", "syntax", "line 1:"),
        ("a one\n", "syntax", "line 1:"),
        ("a 1\r\n", "syntax", "line 1:"),
        ("1a 1\n", "syntax", "line 1:"),
        ("s3cret-token\n", "syntax", "line 1:"),
        ("a{1x=\"1\"} 1\n", "syntax", "line 1:"),
        ("a{x:y=\"1\"} 1\n", "syntax", "line 1:"),
        ("a{x=1} 1\n", "syntax", "line 1:"),
        ("a{x=\"\\t\"} 1\n", "syntax", "line 1:"),
        ("a{x=\"1\" y=\"2\"} 1\n", "syntax", "line 1:"),
        ("a{x=\"1\",x=\"2\"} 1\n", "syntax", "line 1:"),
        ("a{__name__=\"b\"} 1\n", "syntax", "line 1:"),
        ("a{,} 1\n", "syntax", "line 1:"),
        ("{x=\"1\"} 1\n", "syntax", "line 1:"),
        ("# TYPE a text\n", "syntax", "line 1:"),
        ("# TYPE a\n", "syntax", "line 1:"),
        ("# TYPE a gauge\n# TYPE a gauge\n", "syntax", "line 2:"),
        ("a 1\n# TYPE a gauge\n", "syntax", "line 2:"),
        ("# HELP a A.\n# HELP a A.\n", "syntax", "line 2:"),
        ("# HELP a A\\t.\n", "syntax", "line 1:"),
        ("a 1 1763862896000\n", "timestamp", "line 1:"),
        ("a 1 # {trace_id=\"x\"} 1\n", "timestamp", "line 1:"),
        ("a{x=\"1\",y=\"2\"} 1\nb 2\na{y=\"2\",x=\"1\"} 1\n", "duplicate", "line 3:"),
        ("chiron_dry_run 0\n", "reserved_name", "line 1:"),
        ("# HELP chiron_mine Mine.\n", "reserved_name", "line 1:"),
        ("process_open_fds 1\n", "reserved_name", "line 1:"),
        ("# TYPE a counter\na -1\n", "bad_value", "line 2:"),
        ("# TYPE a counter\na NaN\n", "bad_value", "line 2:"),
        ("# TYPE h histogram\nh 1\n", "bad_value", "line 2:"),
        ("# TYPE h histogram\nh_bucket 1\n", "bad_value", "line 2:"),
        ("# TYPE h histogram\nh_bucket{le=\"x\"} 1\n", "bad_value", "line 2:"),
        ("# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1.5\n", "bad_value", "line 2:"),
        ("# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\n", "bad_value", "line 2:"),
        ("# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_sum 1\nh_count 1\n", "bad_value", "line 2:"),
        ("# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 2\n", "bad_value", "line 2:"),
        (
            "# TYPE h histogram\nh_bucket{le=\"1\"} 2\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\n",
            "bad_value",
            "line 2:",
        ),
        ("# TYPE h histogram\nh_bucket{le=\"1\"} 2\nh_bucket{le=\"1.0\"} 2\n", "duplicate", "line 3:"),
        ("# TYPE s summary\ns{quantile=\"1.5\"} 1\n", "bad_value", "line 2:"),
        ("# TYPE s summary\ns 1\n", "bad_value", "line 2:"),
        ("# TYPE s summary\ns_count -1\n", "bad_value", "line 2:"),
    ] {
        let fault = parse(text).expect_err(text);
        assert_eq!(fault.reason, reason, "{text}: {fault:?}");
        assert!(fault.detail.starts_with(line), "{text}: {fault:?}");
        assert!(!fault.detail.contains("s3cret") && !fault.detail.contains("chiron_mine"), "{fault:?}");
    }
    let many: String = (0..=SERIES_MAX).map(|index| format!("a{{x=\"{index}\"}} 1\n")).collect();
    assert_eq!(parse(&many).unwrap_err().reason, "too_many");
}

proptest! {
    /// Whatever a file says, it is taken or left out; and what is taken reads back the same.
    #[test]
    fn any_text_is_taken_or_left_out(text in "([a-c]{0,2}(_total|_sum|_bucket)?|# (TYPE|HELP) [a-c] (gauge|histogram)?)?(\\{(le=\"[0-9]\",?)?([a-z]=\"[^\"]{0,3}\")?\\})?[ \\n]{0,2}[0-9]{0,2}(\\n|\\{|[^a])") {
        if let Ok(families) = parse(&text) {
            let again = written(&text);
            let mut named = families;
            for family in &mut named {
                family.help.get_or_insert_with(|| "-".into());
            }
            prop_assert_eq!(parse(&again).unwrap(), named);
        }
    }

    /// The same for lines put together from fragments that often make a file.
    #[test]
    fn fragments_read_back(lines in proptest::collection::vec(0_usize..12, 0..12), values in proptest::collection::vec(-2.0..9.0_f64, 12)) {
        const NAMES: [&str; 12] = [
            "# TYPE a counter", "# TYPE h histogram", "# TYPE s summary", "# HELP a \"A\" \\\\ .",
            "a{x=\"\\n\"}", "a", "h_bucket{le=\"+Inf\"}", "h_sum", "h_count", "s{quantile=\"0.5\"}", "s_sum", "b{y=\"1\"}",
        ];
        let text: String = lines.iter().map(|at| match NAMES[*at] {
            comment if comment.starts_with('#') => format!("{comment}\n"),
            name => format!("{name} {}\n", values[*at]),
        }).collect();
        if parse(&text).is_ok() {
            let again = written(&text);
            prop_assert_eq!(written(&again), again);
        }
    }
}
