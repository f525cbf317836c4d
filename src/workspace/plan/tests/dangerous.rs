//! WSP-3 over shapes of positions and portfolios that bots write.

use super::fixture::*;
use crate::workspace::findings::dangerous::dangers;

fn told(positions: &str, portfolio: &str) -> Vec<String> {
    let scan = fixture(&[(POSITIONS, positions.as_bytes(), OLD), (PORTFOLIO, portfolio.as_bytes(), OLD)]);
    let dangers = dangers(&layout(), &scan);
    assert!(dangers.iter().all(|danger| danger.finding.code.is_dangerous() && !danger.files.is_empty()));
    let short = dangers.iter().map(|danger| {
        let finding = &danger.finding;
        format!("{} {}: {} {:?}", finding.code.as_str(), finding.path, finding.description, finding.records)
    });
    short.collect()
}

/// WSP-3: what is right in any spelling gives no finding.
#[test]
fn nothing_is_wrong() {
    let right = [
        ("{}", "{}"),
        ("[]", "[]"),
        ("{\"open_positions\": []}", "{\"open_position_count\": 0}"),
        ("{\"open_positions\": {}}", "{\"open_position_count\": \"0\", \"positions\": {}}"),
        (r#"[{"symbol": "A", "size": "1e-9", "entry_price": "0.5"}]"#, r#"{"open_positions": 1}"#),
        (
            r#"{"open_positions": {"A": {"LONG": {"size": 1, "entry_price": 2}, "SHORT": {"size": 1, "entry_price": 2}}}}"#,
            r#"{"positions": ["A", "B"]}"#,
        ),
        (
            r#"{"open_positions": [{"symbol": "A", "side": "buy", "size": 1, "entry_price": 2}, {"symbol": "A", "side": "sell", "size": 1, "entry_price": 2}]}"#,
            "{}",
        ),
        (
            "{}",
            r#"{"trades": [{"status": "open", "order_size": 2, "filled_size": 1}, {"status": "filled"}, {"status": "filled", "size": 3}, {"status": "filled", "filled": true, "size": 3}, 7, {"status": 5}]}"#,
        ),
        ("{}", r#"{"trades": {"t": {"status": "Closed ", "size": 0.1, "filled": "0.10"}}, "orders": []}"#),
        (r#"{"closed_positions": [{"size": 0}]}"#, "{}"),
        (TWO_POSITIONS, TWO_COUNTED),
    ];
    for (positions, portfolio) in right {
        assert_eq!(told(positions, portfolio), Vec::<String>::new(), "{positions} {portfolio}");
    }
}

/// WSP-3: what is wrong is told with the numbers and the records.
#[test]
fn everything_is_told() {
    let cases: &[(&str, &str, &[&str])] = &[
        (
            "{\"open_positions\": []}",
            "{\"open_position_count\": 2.5}",
            &[
                "state_mismatch logs/positions_futures.json: the file holds 0 open positions, the portfolio `logs/portfolio_futures.json` counts 2.5 []",
            ],
        ),
        (
            r#"{"open_positions": {"a": {"size": 1, "entry_price": 1}}}"#,
            r#"{"open_position_count": 1, "positions": []}"#,
            &[
                "state_mismatch logs/positions_futures.json: the file holds 1 open position, the portfolio `logs/portfolio_futures.json` lists 0 [\"open_positions[a]\"]",
            ],
        ),
        (
            "{}",
            "{\"open_position_count\": null}",
            &[
                "data_integrity logs/portfolio_futures.json: `open_position_count` is `null`, expected a number [\"open_position_count\"]",
            ],
        ),
        (
            "{}",
            "{\"open_position_count\": \"NaN\"}",
            &[
                "data_integrity logs/portfolio_futures.json: `open_position_count` is `\"NaN\"`, expected a number [\"open_position_count\"]",
            ],
        ),
        (
            "7",
            "{}",
            &["data_integrity logs/positions_futures.json: `the file` is a number, expected an object [\"the file\"]"],
        ),
        (
            "{\"closed_positions\": 5}",
            "{\"trades\": \"x\"}",
            &[
                "data_integrity logs/portfolio_futures.json: `trades` is `\"x\"`, expected a list or an object [\"trades\"]",
                "data_integrity logs/positions_futures.json: `closed_positions` is `5`, expected a list or an object [\"closed_positions\"]",
            ],
        ),
        (
            r#"{"open_positions": [{"id": 7, "size": -0.0, "entry_price": "NaN"}, {"symbol": "B", "direction": "SELL", "entry_price": 1, "size": null}, "x", {"size": 1e-400, "entry_price": true}, {}]}"#,
            "{}",
            &[
                "data_integrity logs/positions_futures.json: `7` has entry_price `\"NaN\"`, expected a number above zero; 5 records in all [\"7\", \"B short\", \"open_positions[2]\", \"open_positions[3]\", \"open_positions[4]\"]",
            ],
        ),
        (
            r#"[{"symbol": "btcusdt", "direction": "Long", "size": 1, "entry_price": 1}, {"id": "x", "symbol": "BTCUSDT ", "side": "BUY", "size": 1, "entry_price": 1}]"#,
            "{}",
            &[
                "position_conflict logs/positions_futures.json: `BTCUSDT long` is open 2 times, expected once [\"btcusdt long\", \"x\"]",
            ],
        ),
        (
            r#"{"open_positions": []}"#,
            r#"{"orders": [{"order_id": "a", "status": "filled", "order_size": 1, "size": 0.5}], "trades": [{"trade_id": "b", "status": "CLOSED", "size": 1, "filled": "1.0000000000000000001"}]}"#,
            &[
                "partial_fill logs/portfolio_futures.json: `b` is marked closed with `\"1.0000000000000000001\"` of `1`; 2 records in all [\"b\", \"a\"]",
            ],
        ),
    ];
    for (positions, portfolio, expected) in cases {
        assert_eq!(told(positions, portfolio), *expected, "{positions} {portfolio}");
    }
}

/// WSP-3: what is judged cannot bring chiron down or fill its log: 20,000 bad records are told by 100 names.
#[test]
fn much_is_bounded() {
    let records: Vec<String> = (0..20_000).map(|n| format!("{{\"id\": \"p-{n}\\n\", \"size\": 0}}")).collect();
    let positions = format!("[{}]", records.join(","));
    let scan = fixture(&[(POSITIONS, positions.as_bytes(), OLD)]);
    let dangers = dangers(&layout(), &scan);
    assert_eq!(dangers.len(), 1);
    let finding = &dangers[0].finding;
    assert_eq!((finding.records.len(), finding.records[99].as_str()), (100, "p-99"));
    assert_eq!(finding.description, "`p-0` has no entry_price, expected a number above zero; 20000 records in all");
    let deep = format!("{{\"open_positions\": {}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(told(&deep, "{}").len(), 1);
}

/// WSP-3: of several books each positions file is compared with the portfolio of its own name.
#[test]
fn books_are_paired_by_name() {
    use crate::workspace::layout::Role;
    let mut layout = layout();
    layout.files.push(spec("logs/positions_spot.json", Role::Positions, None, &[]));
    layout.files.push(spec("logs/portfolio_spot.json", Role::Portfolio, None, &[]));
    let scan = fixture(&[
        (POSITIONS, TWO_POSITIONS.as_bytes(), OLD),
        (PORTFOLIO, TWO_COUNTED.as_bytes(), OLD),
        ("logs/positions_spot.json", b"[]", OLD),
        ("logs/portfolio_spot.json", b"{\"open_position_count\": 1}", OLD),
    ]);
    let dangers = dangers(&layout, &scan);
    assert_eq!(dangers.len(), 1);
    assert_eq!(dangers[0].files, ["logs/positions_spot.json", "logs/portfolio_spot.json"].map(path));
}
