//! Databases as the real program sees them: a real PostgreSQL, a real Redis and a bot that writes SQLite, healthy, gone,
//! hung, locked, damaged, and lying.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::common::{Authority, Chiron, Config, PASSWORD, Postgres, Redis, free_port, tool, wait_for, wait_for_within};

/// A chiron with these checks, by the names of their subsystems.
fn watching(dir: &Path, checks: &[(&str, String)]) -> Chiron {
    let list: String = checks.iter().map(|(name, check)| format!("  {name}: {{check: {check}}}\n")).collect();
    Chiron::with_config(dir, Config::new(dir).with(&format!("subsystems:\n{list}")).text()).start()
}

/// The health of a subsystem, found by a reading that began after this call.
fn health(chiron: &Chiron, name: &str) -> Value {
    let forced = chiron.post("/health/force-check", "").expect("chiron answers");
    assert_eq!(forced.status, 200, "{}", forced.body);
    chiron.get_json("/status")["subsystem_health"][name].clone()
}

/// Waits until a subsystem has this status and, among its details, these words.
fn wait_status(chiron: &Chiron, name: &str, status: &str, words: &str) -> Value {
    wait_for_within(&format!("`{name}` to be {status}, {words}"), Duration::from_secs(40), || {
        let found = health(chiron, name);
        let fits = found["status"] == status && found["details"].to_string().contains(words);
        if fits { Ok(found) } else { Err(found) }
    })
}

fn secret_file(dir: &Path, name: &str, content: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, content).expect("a file can be written");
    path
}

/// OBS-7, SEC-3: a PostgreSQL that serves, refuses, hangs, is gone and comes back, each told apart; no connection and no
/// process of it is left behind, and the password shows nowhere.
#[test]
fn a_real_postgres() {
    let mut postgres = Postgres::start(&["max_connections=30"]);
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let good = secret_file(dir.path(), "good", PASSWORD);
    let bad = secret_file(dir.path(), "bad", "not-the-canary-password");
    postgres.sql("trades", &format!("CREATE ROLE watcher LOGIN PASSWORD '{PASSWORD}'"));
    let (port, folder) = (postgres.port(), postgres.folder().display().to_string());
    let check = |database: &str, file: &Path, more: &str| {
        format!(
            "{{kind: postgres, url: \"postgres://bot@127.0.0.1:{port}/{database}\", password_file: {file:?}, timeout: 2s{more}}}"
        )
    };
    let chiron = watching(
        dir.path(),
        &[
            ("good", check("trades", &good, "")),
            (
                "socket",
                format!(
                    "{{kind: postgres, url: \"postgres://bot@/trades?host={folder}&port={port}\", password_file: {good:?}, timeout: 2s}}"
                ),
            ),
            ("password", check("trades", &bad, "")),
            ("nameless", check("treasure", &good, "")),
            ("slow", check("trades", &good, ", query: SELECT pg_sleep(60)")),
            ("flood", check("trades", &good, ", query: \"SELECT repeat('x', 1000000) FROM generate_series(1, 1000)\"")),
            ("writes", check("trades", &good, ", query: CREATE TABLE mine (id int)")),
            ("full", check("trades", &good, ", max_connections_percent: 1")),
            (
                "watched",
                format!(
                    "{{kind: postgres, url: \"postgres://watcher@127.0.0.1:{port}/trades\", password_file: {good:?}, timeout: 2s, max_connections_percent: 1}}"
                ),
            ),
            (
                "plain",
                format!(
                    "{{kind: postgres, url: \"postgres://bot@127.0.0.1:{port}/trades?sslmode=verify-full\", password_file: {good:?}, timeout: 2s}}"
                ),
            ),
        ],
    );
    let found = wait_status(&chiron, "good", "healthy", "server_version");
    let details = &found["details"];
    assert_eq!((&details["role"], &details["connections_max"]), (&"primary".into(), &30.into()), "{found}");
    assert!(details["latency_ms"].as_f64().is_some_and(|latency| latency > 0.0), "{found}");
    wait_status(&chiron, "socket", "healthy", "primary");
    wait_status(&chiron, "nameless", "critical", "unknown_database");
    wait_status(&chiron, "slow", "critical", "\"timeout\"");
    wait_status(&chiron, "flood", "critical", "sent more than 1048576 bytes");
    wait_status(&chiron, "writes", "critical", "read-only transaction");
    wait_status(&chiron, "full", "degraded", "of 30 connections are in use, expected at most 1 %");
    // A role without any right is told of the connections of others, too.
    wait_status(&chiron, "watched", "degraded", "of 30 connections are in use, expected at most 1 %");
    wait_status(&chiron, "plain", "critical", "\"tls\"");
    let refused = health(&chiron, "password");
    assert_eq!(refused["details"]["reason"], "login", "{refused}");
    assert!(["unknown", "critical"].contains(&refused["status"].as_str().unwrap_or_default()), "{refused}");
    assert_eq!(postgres.sql("trades", "SELECT count(*) FROM pg_tables WHERE tablename = 'mine'"), "0");

    // Every reading ends with its connection: there are never more than the checks that are under way.
    let open = || postgres.sql("trades", "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'chiron'");
    for _ in 0..20 {
        let open: u32 = open().parse().expect("a number");
        assert!(open <= 10, "{open} connections are open");
        health(&chiron, "good");
    }

    postgres.signal_all(Signal::STOP);
    wait_status(&chiron, "good", "critical", "accepts connections, but gave no answer within 2s");
    postgres.signal_all(Signal::CONT);
    wait_status(&chiron, "good", "healthy", "primary");
    postgres.stop();
    wait_status(&chiron, "good", "critical", "unreachable");
    wait_status(&chiron, "socket", "critical", "unreachable");
    postgres.resume();
    wait_status(&chiron, "good", "healthy", "primary");

    // With chiron gone nothing of it stays on the server.
    let pages = [
        chiron.get_json("/status").to_string(),
        chiron.metrics(),
        chiron.log(),
        chiron.get_json("/api/v1/config").to_string(),
    ];
    for page in pages {
        assert!(!page.contains(PASSWORD) && !page.contains("not-the-canary-password"), "{page}");
    }
    drop(chiron);
    wait_for("no connection of chiron's", || {
        let open = postgres.sql("trades", "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'chiron'");
        if open == "0" { Ok(()) } else { Err(open) }
    });
}

/// OBS-7, SEC-2: TLS with a certificate of the named authority is taken, any other one is refused.
#[test]
fn postgres_and_redis_over_tls() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).expect("a folder can be opened");
    let authority = Authority::new(dir.path(), "authority");
    let foreign = Authority::new(dir.path(), "foreign").certificate();
    let (certificate, key) = authority.issue("server", "IP:127.0.0.1");
    let ca = authority.certificate();
    if rustix::process::geteuid().is_root() {
        // PostgreSQL takes a key of root's only if its own group alone may read it.
        let mut chgrp = Command::new(tool("chgrp"));
        assert!(chgrp.arg("postgres").arg(&key).status().expect("chgrp runs").success());
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).expect("a mode can be set");
    }
    let (cert_setting, key_setting) =
        (format!("ssl_cert_file={}", certificate.display()), format!("ssl_key_file={}", key.display()));
    let postgres = Postgres::start(&["ssl=on", &cert_setting, &key_setting]);
    let tls_port = free_port().to_string();
    let text = |path: &Path| path.display().to_string();
    let _redis = Redis::start(&[
        "--tls-port",
        &tls_port,
        "--tls-cert-file",
        &text(&certificate),
        "--tls-key-file",
        &text(&key),
        "--tls-ca-cert-file",
        &text(&ca),
        "--tls-auth-clients",
        "no",
        "--requirepass",
        PASSWORD,
    ]);
    let password = secret_file(dir.path(), "password", PASSWORD);
    let sql = |ca: &Path| {
        format!(
            "{{kind: postgres, url: \"postgres://bot@127.0.0.1:{}/trades?sslmode=verify-full\", password_file: {password:?}, ca_file: {ca:?}}}",
            postgres.port()
        )
    };
    let cache = |ca: &Path| {
        format!("{{kind: redis, url: \"rediss://127.0.0.1:{tls_port}\", password_file: {password:?}, ca_file: {ca:?}}}")
    };
    let machine = format!("{{kind: redis, url: \"rediss://127.0.0.1:{tls_port}\", password_file: {password:?}}}");
    let chiron = watching(
        dir.path(),
        &[
            ("sql", sql(&ca)),
            ("cache", cache(&ca)),
            ("strange_sql", sql(&foreign)),
            ("strange_cache", cache(&foreign)),
            ("machine", machine),
        ],
    );
    wait_status(&chiron, "sql", "healthy", "primary");
    wait_status(&chiron, "cache", "healthy", "primary");
    wait_status(&chiron, "strange_sql", "critical", "\"tls\"");
    wait_status(&chiron, "strange_cache", "critical", "\"tls\"");
    wait_status(&chiron, "machine", "critical", "\"tls\"");
}

/// OBS-7, SEC-3: a Redis that serves, refuses, hangs, is gone and comes back, and a replica without its primary.
#[test]
fn a_real_redis() {
    let mut redis = Redis::start(&["--requirepass", PASSWORD]);
    let replica_of = format!("127.0.0.1 {}", redis.port());
    let replica = Redis::start(&["--replicaof", &replica_of, "--masterauth", PASSWORD]);
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let good = secret_file(dir.path(), "good", PASSWORD);
    let bad = secret_file(dir.path(), "bad", "not-the-canary-password");
    let check =
        |port: u16, more: &str| format!("{{kind: redis, url: \"redis://127.0.0.1:{port}\", timeout: 2s{more}}}");
    let chiron = watching(
        dir.path(),
        &[
            ("good", check(redis.port(), &format!(", password_file: {good:?}"))),
            ("password", check(redis.port(), &format!(", password_file: {bad:?}"))),
            ("without", check(redis.port(), "")),
            ("full", check(redis.port(), &format!(", password_file: {good:?}, max_memory_bytes: 1000"))),
            ("replica", check(replica.port(), "")),
        ],
    );
    let found = wait_status(&chiron, "good", "healthy", "server_version");
    assert_eq!(found["details"]["role"], "primary", "{found}");
    assert!(found["details"]["used_memory_bytes"].as_u64().is_some_and(|bytes| bytes > 100_000), "{found}");
    wait_status(&chiron, "replica", "healthy", "\"primary_link\":\"up\"");
    wait_status(&chiron, "full", "degraded", "bytes of memory are in use, expected at most 1000");
    for name in ["password", "without"] {
        assert_eq!(health(&chiron, name)["details"]["reason"], "login", "{name}");
    }
    redis.signal(Signal::STOP);
    wait_status(&chiron, "good", "critical", "accepts connections, but gave no answer within 2s");
    redis.signal(Signal::CONT);
    wait_status(&chiron, "good", "healthy", "primary");
    redis.kill9();
    wait_status(&chiron, "good", "critical", "unreachable");
    wait_status(&chiron, "replica", "degraded", "the link to its primary is down");
    redis.resume();
    wait_status(&chiron, "good", "healthy", "primary");
    wait_status(&chiron, "replica", "healthy", "\"primary_link\":\"up\"");
    for page in [chiron.get_json("/status").to_string(), chiron.metrics(), chiron.log()] {
        assert!(!page.contains(PASSWORD) && !page.contains("not-the-canary-password"), "{page}");
    }
}

/// OBS-5, OBS-7: servers that send nonsense, send without end, announce giants or say nothing cost neither memory nor the
/// other checks.
#[test]
fn servers_that_lie() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let mut checks = Vec::new();
    let behaviours: [(&str, &'static [u8], bool); 4] = [
        ("garbage", b"\x00\xff\x13\x37 no such protocol\r\n\r\n", false),
        ("flood", b"R\x7f\xff\xff\xff", true),
        ("bulk", b"$1073741824\r\n", true),
        ("mute", b"", false),
    ];
    let mut names = Vec::new();
    for (name, first, endless) in behaviours {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                std::thread::spawn(move || {
                    let _ = stream.read(&mut [0; 512]);
                    let mut alive = stream.write_all(first).is_ok();
                    let more = vec![b'x'; 1 << 20];
                    while alive && endless {
                        alive = stream.write_all(&more).is_ok();
                    }
                    // Stays open until the other side goes.
                    let _ = stream.read_to_end(&mut Vec::new());
                });
            }
        });
        checks.push((
            format!("sql_{name}"),
            format!("{{kind: postgres, url: \"postgres://bot@127.0.0.1:{port}/t\", timeout: 1s}}"),
        ));
        checks.push((
            format!("cache_{name}"),
            format!("{{kind: redis, url: \"redis://127.0.0.1:{port}\", timeout: 1s}}"),
        ));
        names.extend([format!("sql_{name}"), format!("cache_{name}")]);
    }
    let checks: Vec<(&str, String)> = checks.iter().map(|(name, check)| (name.as_str(), check.clone())).collect();
    let chiron = watching(dir.path(), &checks);
    for name in &names {
        wait_status(&chiron, name, "critical", "127.0.0.1:");
    }
    let memory = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", chiron.pid())).expect("it runs");
        let line =
            status.lines().find(|line| line.starts_with("VmHWM:")).expect("the kernel tells the peak").to_owned();
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number")
    };
    let before = memory();
    let begun = Instant::now();
    for _ in 0..10 {
        health(&chiron, "sql_flood");
    }
    assert!(begun.elapsed() < Duration::from_secs(40), "{:?}", begun.elapsed());
    let after = memory();
    assert!(after < before + 32 * 1024, "{before} KiB, then {after} KiB");
}

/// What a bot does with its database, told to it line by line; it never waits for a lock.
const BOT: &str = r#"
import os, random, sqlite3, sys
path, mode = sys.argv[1], sys.argv[2]
db = sqlite3.connect(path, timeout=0, isolation_level=None)
db.execute(f"PRAGMA journal_mode={mode}")
db.execute("PRAGMA synchronous=OFF")
db.execute("PRAGMA wal_autocheckpoint=50")
db.execute("CREATE TABLE IF NOT EXISTS trades (id INTEGER PRIMARY KEY, symbol TEXT, note BLOB)")
db.execute("CREATE INDEX IF NOT EXISTS by_symbol ON trades (symbol)")
db.execute("BEGIN")
db.executemany("INSERT INTO trades (symbol, note) VALUES (?, ?)", ((f"S{i % 97}", os.urandom(60)) for i in range(30000)))
db.execute("COMMIT")
print("ready", flush=True)
for line in sys.stdin:
    word, count = line.split()
    busy = 0
    for i in range(int(count)):
        try:
            if word == "write":
                db.execute("BEGIN IMMEDIATE")
                db.execute("INSERT INTO trades (symbol, note) SELECT symbol, randomblob(60) FROM trades WHERE id % 1000 = ?", (i % 1000,))
                db.execute("DELETE FROM trades WHERE id % 1100 = ?", (i % 1100,))
                db.execute("COMMIT")
            elif word == "hold":
                db.execute("BEGIN IMMEDIATE")
            elif word == "checkpoint":
                db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            elif word == "update":
                db.execute("PRAGMA wal_autocheckpoint=0")
                db.execute("UPDATE trades SET symbol = symbol || 'x', note = randomblob(61)")
            else:
                db.execute("ROLLBACK")
        except sqlite3.OperationalError as error:
            busy += 1
            print(error, file=sys.stderr, flush=True)
            if db.in_transaction: db.execute("ROLLBACK")
    print("done", busy, flush=True)
"#;

struct SqliteBot {
    child: std::process::Child,
    answers: std::io::Lines<std::io::BufReader<std::process::ChildStdout>>,
}

impl SqliteBot {
    fn start(path: &Path, mode: &str) -> Self {
        use std::io::BufRead as _;
        let mut command = Command::new(tool("python3"));
        command.args(["-c", BOT]).arg(path).arg(mode).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("python3 runs");
        let answers = std::io::BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let mut bot = Self { child, answers };
        assert_eq!(bot.answer(), "ready");
        bot
    }

    fn begin(&mut self, word: &str, count: u32) {
        let stdin = self.child.stdin.as_mut().expect("it is piped");
        writeln!(stdin, "{word} {count}").expect("the bot listens");
    }

    fn answer(&mut self) -> String {
        self.answers.next().expect("the bot answers").expect("the bot answers in UTF-8")
    }

    /// Does something and tells how often the database was busy.
    fn go(&mut self, word: &str, count: u32) -> String {
        self.begin(word, count);
        self.answer()
    }
}

impl Drop for SqliteBot {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Name, time of change and content of every file in a folder.
fn everything(folder: &Path) -> BTreeMap<PathBuf, (std::time::SystemTime, Vec<u8>)> {
    let entries = std::fs::read_dir(folder).expect("a folder can be listed").flatten().map(|entry| entry.path());
    entries
        .map(|path| {
            let changed = path.metadata().and_then(|metadata| metadata.modified()).expect("a file has a date");
            (path.clone(), (changed, std::fs::read(&path).expect("a file can be read")))
        })
        .collect()
}

fn watching_sqlite(dir: &Path, path: &Path) -> Chiron {
    // As often as the runner looks at all, so that a reading always meets the bot.
    let check = format!("{{kind: sqlite, path: {path:?}, integrity_every: 1ms, locked_after: 2s}}");
    let text = Config::new(dir).with(&format!("subsystems:\n  trades: {{check: {check}, interval: 100ms}}\n"));
    Chiron::with_config(dir, text.text()).start()
}

/// OBS-3, OBS-7: in every journal mode a bot that never waits for a lock writes without one refusal while its database is
/// checked ten times a second; the check tells no damage; at rest no file of the bot appears or changes.
#[test]
fn a_bot_writes_while_its_database_is_checked() {
    for mode in ["DELETE", "TRUNCATE", "PERSIST", "WAL"] {
        let dir = tempfile::tempdir().expect("a temporary folder can be made");
        let bots = dir.path().join("bot");
        std::fs::create_dir(&bots).expect("a folder can be made");
        let path = bots.join("trades.db");
        let mut bot = SqliteBot::start(&path, mode);
        let before = everything(&bots);
        let chiron = watching_sqlite(dir.path(), &path);
        let found = wait_status(&chiron, "trades", "healthy", "\"integrity\":\"sound\"");
        assert_eq!(found["details"]["journal_mode"], if mode == "WAL" { "wal" } else { "rollback" });
        for _ in 0..5 {
            health(&chiron, "trades");
        }
        assert!(everything(&bots) == before, "{mode}: a file of the bot has changed");

        bot.begin("write", 1500);
        let mut seen = 0;
        let begun = Instant::now();
        let answer = std::thread::scope(|scope| {
            let answer = scope.spawn(|| bot.answer());
            while !answer.is_finished() && begun.elapsed() < Duration::from_secs(120) {
                let found = health(&chiron, "trades");
                assert_eq!(found["status"], "healthy", "{mode}: {found}");
                seen += 1;
            }
            answer.join().expect("the bot answers")
        });
        assert_eq!(answer, "done 0", "{mode}: the bot was refused");
        assert!(seen > 2, "{mode}: {seen}");
        let found = wait_status(&chiron, "trades", "healthy", "\"integrity\":\"sound\"");
        assert!(found["details"].get("integrity_note").is_none(), "{mode}: once it rests it is checked: {found}");
    }
}

/// OBS-3, OBS-7: a transaction that hangs is degraded with the process that holds it, a damaged file critical, a repaired one
/// healthy; what a checkpoint left half done is no damage; a bot that was killed leaves a sound database.
#[test]
fn locked_damaged_and_torn() {
    for mode in ["DELETE", "WAL"] {
        let dir = tempfile::tempdir().expect("a temporary folder can be made");
        let bots = dir.path().join("bot");
        std::fs::create_dir(&bots).expect("a folder can be made");
        let path = bots.join("trades.db");
        let mut bot = SqliteBot::start(&path, mode);
        let chiron = watching_sqlite(dir.path(), &path);
        wait_status(&chiron, "trades", "healthy", "sound");
        assert_eq!(bot.go("hold", 1), "done 0");
        let holder = format!("locked by process {} for", bot.child.id());
        wait_status(&chiron, "trades", "degraded", &holder);
        assert_eq!(bot.go("release", 1), "done 0");
        wait_status(&chiron, "trades", "healthy", "sound");

        if mode == "WAL" {
            // Everything is in the WAL now; what stands in the file may be half of it.
            bot.go("checkpoint", 1);
            assert_eq!(bot.go("update", 1), "done 0");
            let kept = std::fs::read(&path).expect("a file can be read");
            overwrite(&path, kept.len() / 4, 8000);
            let before = everything(&bots);
            for _ in 0..5 {
                let found = health(&chiron, "trades");
                assert_eq!(found["status"], "healthy", "{found}");
            }
            assert!(everything(&bots) == before, "a file of the bot has changed");
            std::fs::write(&path, kept).expect("a file can be written");
            bot.go("checkpoint", 1);
        }
        drop(bot);
        let good = std::fs::read(&path).expect("a file can be read");
        for ending in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{ending}", path.display()));
        }
        wait_status(&chiron, "trades", "healthy", "sound");
        overwrite(&path, good.len() / 2, 20_000);
        let found = wait_status(&chiron, "trades", "critical", "damaged, SQLite found: ");
        assert_eq!(found["details"]["integrity"], "damaged", "{found}");
        std::fs::write(&path, good).expect("a file can be written");
        wait_status(&chiron, "trades", "healthy", "sound");
        std::fs::remove_file(&path).expect("a file can be removed");
        wait_status(&chiron, "trades", "unknown", "missing");
        let left: Vec<PathBuf> = everything(&bots).into_keys().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

/// Spoils a part of a file in its place.
fn overwrite(path: &Path, at: usize, length: usize) {
    use std::os::unix::fs::FileExt as _;
    let file = std::fs::File::options().write(true).open(path).expect("a file can be opened");
    file.write_all_at(&vec![0xa5; length], at as u64).expect("a file can be written");
}
