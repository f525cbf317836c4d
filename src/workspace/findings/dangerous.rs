//! What only a person may put right: positions against portfolio, fills, duplicates, impossible numbers (WSP-3).
//!
//! ```text
//!  positions file:  open_positions (list or mapping), closed_positions, trades, orders     or the list itself
//!  portfolio file:  open_position_count, positions or open_positions (list, mapping, count), trades, orders
//! ```
//! **Invariant:** pure; never with a remedy; numbers are compared as they are written, never as floats.

use std::collections::{BTreeMap, BTreeSet};

use super::decimal::Decimal;
use super::json::{self, Node};
use super::{bounded, count, finding, short};
use crate::model::{FindingCode, Severity, WorkspaceFinding};
use crate::workspace::layout::{Layout, RelPath, Role};
use crate::workspace::scan::{Entry, Scan};

/// One dangerous finding and every file that it is about.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::workspace) struct Danger {
    /// What was found.
    pub(in crate::workspace) finding: WorkspaceFinding,
    /// None of these is written.
    pub(in crate::workspace) files: Vec<RelPath>,
}

/// Every dangerous finding of the files that hold JSON; what is corrupt has its own finding.
pub(in crate::workspace) fn dangers(layout: &Layout, scan: &Scan) -> Vec<Danger> {
    let mut books: BTreeMap<&RelPath, Book> = BTreeMap::new();
    for spec in layout.files.iter().filter(|spec| spec.role.holds_money()) {
        let Some(Entry::File(seen)) = scan.entries.get(&spec.path) else { continue };
        // As a bot reads it: a byte order mark or a key that stands twice makes no record less dangerous.
        let Some(content) = seen.content.as_deref().and_then(super::readable) else { continue };
        if let Some(node) = json::parse(content) {
            books.entry(&spec.path).or_insert_with(|| Book::read(spec.role, &node));
        }
    }
    let mut dangers = Vec::new();
    for (path, book) in &books {
        dangers.extend(book.problems.findings(path));
        dangers.extend(book.open.as_deref().and_then(|open| conflicts(path, open)));
    }
    dangers.extend(
        pairs(&books).into_iter().filter_map(|(positions, portfolio)| {
            mismatch((positions, &books[positions]), (portfolio, &books[portfolio]))
        }),
    );
    dangers
}

/// Which portfolio the positions of a file belong to: the one beside it whose name differs by that word alone, or the
/// only one there is.
fn pairs<'a>(books: &BTreeMap<&'a RelPath, Book>) -> Vec<(&'a RelPath, &'a RelPath)> {
    let of = |role| books.iter().filter(move |(_, book)| book.role == role).map(|(path, _)| *path).collect::<Vec<_>>();
    let (positions, portfolios) = (of(Role::Positions), of(Role::Portfolio));
    if let ([position], [portfolio]) = (positions.as_slice(), portfolios.as_slice()) {
        return vec![(*position, *portfolio)];
    }
    let named = positions.into_iter().filter_map(|position| {
        let name = position.as_str().replace("positions", "portfolio");
        let portfolio = portfolios.iter().find(|portfolio| portfolio.as_str() == name)?;
        Some((position, *portfolio))
    });
    named.collect()
}

/// What a file says, as far as it is judged.
struct Book {
    role: Role,
    /// Open positions, and the place of each; `None` if the file does not list them.
    open: Option<Vec<Record>>,
    /// How many open positions it counts.
    counted: Option<(String, Decimal)>,
    problems: Problems,
}

/// One position, order or trade.
struct Record {
    name: String,
    node: Node,
}

#[derive(Default)]
struct Problems {
    integrity: Vec<(String, String)>,
    fills: Vec<(String, String)>,
}

impl Problems {
    fn findings(&self, path: &RelPath) -> Vec<Danger> {
        let kinds = [(FindingCode::DataIntegrity, &self.integrity), (FindingCode::PartialFill, &self.fills)];
        let found = kinds.into_iter().filter_map(|(code, problems)| {
            let (name, what) = problems.first()?;
            let names: BTreeSet<&String> = problems.iter().map(|(name, _)| name).collect();
            let all =
                if names.len() > 1 { format!("; {} in all", count(names.len(), "record")) } else { String::new() };
            let description = format!("`{name}` {what}{all}");
            // In the order of the file: the first one is the one in the description.
            let mut records: Vec<String> = problems.iter().map(|(name, _)| name.clone()).collect();
            records.dedup();
            Some(danger(code, vec![path.clone()], description, records))
        });
        found.collect()
    }

    fn integrity(&mut self, name: &str, what: String) {
        self.integrity.push((name.to_owned(), what));
    }
}

fn danger(code: FindingCode, files: Vec<RelPath>, description: String, records: Vec<String>) -> Danger {
    let mut finding = finding(code, Severity::Critical, files[0].as_str(), description);
    finding.records = bounded(records);
    Danger { finding, files }
}

impl Book {
    fn read(role: Role, node: &Node) -> Self {
        let mut book = Self { role, open: None, counted: None, problems: Problems::default() };
        match (node, role) {
            (Node::List(_), Role::Positions) => {
                book.open = book.list("", node);
                book.judge(true);
            }
            (Node::Object(_), Role::Positions) => {
                book.open = node.get("open_positions").and_then(|open| book.list("open_positions", open));
                book.judge(true);
                let closed = node.get("closed_positions").and_then(|closed| book.list("closed_positions", closed));
                book.fills(closed.as_deref());
            }
            (Node::Object(_), _) => {
                book.portfolio(node);
                book.judge(false);
            }
            (Node::List(_), _) => {}
            (other, _) => {
                book.problems.integrity("the file", format!("is {}, expected an object", other.kind()));
            }
        }
        for key in ["trades", "orders"] {
            let trades = node.get(key).and_then(|trades| book.list(key, trades));
            book.fills(trades.as_deref());
        }
        book
    }

    /// A portfolio counts its positions, lists them, or both.
    fn portfolio(&mut self, node: &Node) {
        if let Some(value) = node.get("open_position_count") {
            self.count("open_position_count", value);
        }
        for key in ["open_positions", "positions"] {
            match node.get(key) {
                None => {}
                Some(value @ (Node::List(_) | Node::Object(_))) => {
                    let open = self.open.take();
                    self.open = open.or_else(|| self.list(key, value));
                }
                Some(value) if self.counted.is_none() => self.count(key, value),
                Some(_) => {}
            }
        }
    }

    fn count(&mut self, key: &str, value: &Node) {
        match number(value) {
            Some(counted) => self.counted = Some((value_text(value), counted)),
            None => self.problems.integrity(key, format!("is {}, expected a number", value.shown())),
        }
    }

    /// The records of a list or mapping; what is neither is wrong by itself.
    fn list(&mut self, key: &str, node: &Node) -> Option<Vec<Record>> {
        let items: Vec<(String, &Node)> = match node {
            Node::List(items) => items.iter().enumerate().map(|(index, item)| (index.to_string(), item)).collect(),
            Node::Object(members) => nested(members),
            other => {
                self.problems.integrity(key, format!("is {}, expected a list or an object", other.shown()));
                return None;
            }
        };
        let records = items.into_iter().map(|(index, node)| Record {
            name: name(node).unwrap_or_else(|| format!("{key}[{}]", short(&index))),
            node: node.clone(),
        });
        Some(records.collect())
    }

    /// Entry price and size of every open position; where a portfolio only lists them, as far as it tells them.
    fn judge(&mut self, must_have: bool) {
        let open = self.open.take();
        for record in open.iter().flatten() {
            if !matches!(record.node, Node::Object(_)) {
                if must_have {
                    let what = format!("is {}, expected an object", record.node.shown());
                    self.problems.integrity(&record.name, what);
                }
                continue;
            }
            for key in ["entry_price", "size"] {
                let wrong = match record.node.get(key) {
                    None if must_have => format!("has no {key}, expected a number above zero"),
                    None => continue,
                    Some(value) if number(value).is_some_and(|number| number.is_positive()) => continue,
                    Some(value) => format!("has {key} {}, expected a number above zero", value.shown()),
                };
                self.problems.integrity(&record.name, wrong);
            }
        }
        self.fills(open.as_deref());
        self.open = open;
    }

    /// Records that are marked filled, but not in the size of their order.
    fn fills(&mut self, records: Option<&[Record]>) {
        for record in records.into_iter().flatten() {
            if let Some(what) = partial(&record.node) {
                self.problems.fills.push((record.name.clone(), what));
            }
        }
    }
}

/// The values of a mapping; one of mappings (by symbol, then by direction) is looked into.
fn nested(members: &[(String, Node)]) -> Vec<(String, &Node)> {
    let mut items = Vec::new();
    for (key, node) in members {
        match node {
            Node::Object(inner) if !inner.is_empty() && inner.iter().all(|(_, v)| matches!(v, Node::Object(_))) => {
                items.extend(inner.iter().map(|(direction, node)| (format!("{key}.{direction}"), node)));
            }
            _ => items.push((key.clone(), node)),
        }
    }
    items
}

/// Why a record that is marked filled is not; `None` if it is, or does not say.
fn partial(record: &Node) -> Option<String> {
    let first = |keys: &[&str]| keys.iter().find_map(|key| record.get(key).map(|value| ((*key).to_owned(), value)));
    let Some(Node::Text(status)) = record.get("status") else { return None };
    let status = status.trim().to_lowercase();
    if !matches!(status.as_str(), "filled" | "closed") {
        return None;
    }
    let has_order = record.get("order_size").is_some();
    let filled = first(&["filled_size", "filled"]).or_else(|| first(&["size"]).filter(|_| has_order));
    let ((_, filled), (_, order)) = (filled?, first(&["order_size", "size"])?);
    // `"filled": true` repeats the status and is no size.
    if matches!(filled, Node::Bool(_)) {
        return None;
    }
    let is_whole = number(filled).is_some_and(|filled| number(order) == Some(filled));
    (!is_whole).then(|| format!("is marked {status} with {} of {}", filled.shown(), order.shown()))
}

/// A number, written as one or as a text.
fn number(node: &Node) -> Option<Decimal> {
    match node {
        Node::Number(text) | Node::Text(text) => Decimal::parse(text),
        _ => None,
    }
}

fn value_text(node: &Node) -> String {
    match node {
        Node::Number(text) | Node::Text(text) => short(text.trim()),
        _ => String::new(),
    }
}

/// A field that names something: text, or a number as an id.
fn named(record: &Node, keys: &[&str]) -> Option<String> {
    let texts = keys.iter().filter_map(|key| match record.get(key)? {
        Node::Text(text) | Node::Number(text) => Some(short(text)),
        _ => None,
    });
    texts.into_iter().find(|text| !text.is_empty())
}

/// The record's id, else its symbol and direction.
fn name(record: &Node) -> Option<String> {
    named(record, &["id", "position_id", "trade_id", "order_id"]).or_else(|| {
        let symbol = named(record, &["symbol"])?;
        Some(direction(record).map_or_else(|| symbol.clone(), |direction| format!("{symbol} {direction}")))
    })
}

/// `long` or `short`, whatever the word; another word as it is.
fn direction(record: &Node) -> Option<String> {
    let word = named(record, &["direction", "side", "position_side"])?.trim().to_lowercase();
    Some(match word.as_str() {
        "buy" => "long".to_owned(),
        "sell" => "short".to_owned(),
        _ => word,
    })
}

/// Open positions of one symbol and direction. Two without any direction are of the same one: a bot that trades one way.
fn conflicts(path: &RelPath, open: &[Record]) -> Option<Danger> {
    let mut groups: BTreeMap<(String, Option<String>), Vec<&Record>> = BTreeMap::new();
    for record in open {
        if let Some(symbol) = named(&record.node, &["symbol"]) {
            let key = (symbol.trim().to_uppercase(), direction(&record.node));
            groups.entry(key).or_default().push(record);
        }
    }
    groups.retain(|_, records| records.len() > 1);
    let ((symbol, direction), first) = groups.first_key_value()?;
    let side = direction.as_ref().map(|direction| format!(" {direction}")).unwrap_or_default();
    let more = if groups.len() > 1 { format!("; {} pairs in all", groups.len()) } else { String::new() };
    let description = format!("`{symbol}{side}` is open {} times, expected once{more}", first.len());
    let records = groups.values().flatten().map(|record| record.name.clone()).collect();
    Some(danger(FindingCode::PositionConflict, vec![path.clone()], description, records))
}

/// Whether a portfolio counts and lists as many positions as there are.
fn mismatch((positions, book): (&RelPath, &Book), (portfolio, other): (&RelPath, &Book)) -> Option<Danger> {
    let open = book.open.as_ref()?;
    let held = open.len().to_string();
    let counts = other.counted.as_ref().filter(|(_, counted)| Decimal::parse(&held).as_ref() != Some(counted));
    let lists = other.open.as_ref().filter(|listed| listed.len() != open.len());
    let said = match (counts, lists) {
        (None, None) => return None,
        (Some((counted, _)), None) => format!("counts {counted}"),
        (None, Some(listed)) => format!("lists {}", listed.len()),
        (Some((counted, _)), Some(listed)) => format!("counts {counted} and lists {}", listed.len()),
    };
    let held = count(open.len(), "open position");
    let description = format!("the file holds {held}, the portfolio `{portfolio}` {said}");
    let listed = other.open.iter().flatten().map(|record| &record.name).collect::<BTreeSet<_>>();
    let names: BTreeSet<&String> = open.iter().map(|record| &record.name).collect();
    // Those that only one of them has say most; if they cannot be told apart, all.
    let apart: Vec<String> = names.symmetric_difference(&listed).map(|name| (*name).clone()).collect();
    let all = || open.iter().map(|record| record.name.clone()).collect();
    let records = if other.open.is_none() || apart.is_empty() { all() } else { apart };
    Some(danger(FindingCode::StateMismatch, vec![positions.clone(), portfolio.clone()], description, records))
}
