//! The server as its clients see it: in process, on a port of its own, with a fake rest of chiron.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::alerts;
use crate::alerts::payload::{Notification, PayloadProblem};
use crate::base::clock::Clock;
use crate::journal::AuditEntry;
use crate::model::*;

use super::*;

mod api;
mod hostile;
mod openapi;
mod policy;
mod workspace;

const NOW: Timestamp = Timestamp::from_millis(1_763_862_896_000);

pub(super) fn report() -> Report {
    let mut health = Health::unknown("ai_model".into());
    health.status = Status::Critical;
    health.timestamp = NOW;
    let issue = Issue {
        issue_id: "ai_model_20251123_013456".into(),
        key: EpisodeKey { subsystem: "ai_model".into(), symbol: None, kind: "subsystem_status".into() },
        severity: Severity::Critical,
        timestamp: NOW,
        description: "ai_model is critical".to_owned(),
        symptoms: Vec::new(),
        root_cause: None,
        impacts_trading: false,
        affects_subsystems: Vec::new(),
        source: IssueSource::Check,
    };
    let recommendation = Recommendation {
        recommendation_id: "rec_1_ai_model_20251123_013456".to_owned(),
        issue_id: issue.issue_id.clone(),
        subsystem: "ai_model".into(),
        action: "disable_module".into(),
        priority: 1,
        description: "disable ai_model".to_owned(),
        expected_result: "the system goes on without it".to_owned(),
        risks: vec!["degraded functionality".to_owned()],
        can_auto_execute: true,
        requires_approval: false,
        state: RecommendationState::Waiting,
        reason: Reason::DryRun,
        not_before: None,
        approval: None,
    };
    Report {
        timestamp: NOW,
        overall_status: Status::Critical,
        current_safety_policy: Level::NoNewTrades,
        subsystem_health: BTreeMap::from([("ai_model".to_owned(), health)]),
        detected_issues: vec![issue],
        recovery_recommendations: vec![recommendation],
        trading_should_continue: false,
        requires_immediate_action: true,
        summary: Summary { critical: 1, ..Summary::default() },
        failure_points: Default::default(),
    }
}

pub(super) fn document(level: Level) -> PolicyDocument {
    PolicyDocument {
        sequence: 7,
        changed_at: NOW,
        issued_at: NOW,
        valid_until: NOW.plus(Duration::from_secs(30)),
        policy: level,
        restrictions: level.restrictions(),
        latched: false,
        reasons: vec![SourceHold {
            source: PolicySource::Evaluation,
            subject: "ai_model".to_owned(),
            level,
            reason: "ai_model is critical".to_owned(),
            since: NOW,
            until: None,
        }],
        reasons_omitted: 0,
    }
}

/// A rest of chiron that does as it is told and remembers what it was asked.
#[derive(Default)]
struct Fake {
    /// What every request that may be refused is refused with.
    refusal: Mutex<Option<Refusal>>,
    not_ready: AtomicBool,
    accepted: AtomicUsize,
    hook_tokens: Vec<String>,
    hook_hmac: Option<alerts::Hmac>,
    asked: Mutex<Vec<String>>,
    turned_away: Mutex<Vec<String>>,
    /// Never answers `accept`.
    hangs: AtomicBool,
    /// Meets a broken invariant when asked for the settings.
    panics: AtomicBool,
    policies: Policies,
    runs: Vec<Value>,
    ended: Vec<Value>,
    healings: Vec<Value>,
    subsystems: Vec<Value>,
    /// Further bytes of the metrics page, and whether it says that it waits.
    page_more: AtomicUsize,
    page_waits: AtomicBool,
}

/// The policy in force, `no_new_trades` until a test says otherwise.
struct Policies(watch::Sender<Arc<PolicyDocument>>);

impl Default for Policies {
    fn default() -> Self {
        Self(watch::channel(Arc::new(document(Level::NoNewTrades))).0)
    }
}

impl Fake {
    fn ask(&self, what: impl Into<String>) -> Result<(), Refusal> {
        self.asked.lock().unwrap().push(what.into());
        self.refusal.lock().unwrap().clone().map_or(Ok(()), Err)
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

#[async_trait]
impl Handle for Fake {
    fn metrics_page(&self, format: PageFormat, out: &mut Vec<u8>) {
        let thread = std::thread::current().name().unwrap_or_default().to_owned();
        self.asked.lock().unwrap().push(format!("page on {thread}"));
        out.extend_from_slice(b"# HELP up Up.\n# TYPE up gauge\nup 1\n");
        out.resize(out.len() + self.page_more.load(Ordering::SeqCst), b'#');
        if format == PageFormat::OpenMetrics {
            out.extend_from_slice(b"# EOF\n");
        }
    }
    fn metrics_page_waits(&self) -> bool {
        self.page_waits.load(Ordering::SeqCst)
    }
    fn report(&self) -> Arc<Report> {
        Arc::new(report())
    }
    fn policy(&self) -> Arc<PolicyDocument> {
        Arc::clone(&self.policies.0.borrow())
    }
    fn failure_points(&self) -> Vec<Value> {
        vec![json!({"category": "kill_switch"})]
    }
    fn subsystems(&self) -> Vec<Value> {
        self.subsystems.clone()
    }
    fn bindings(&self) -> Vec<Value> {
        ["b", "a"].map(|name| json!({"action": "clear_cache", "subsystem": name})).into()
    }
    fn active_alerts(&self) -> Vec<Value> {
        vec![json!({"alertname": "A"})]
    }
    fn runs(&self, wanted: &WantedRuns<'_>) -> Vec<Value> {
        let is = |found: &Value, wanted: Option<&str>| wanted.is_none_or(|wanted| found == wanted);
        let of = |run: &&Value| {
            let issue = wanted.issue.is_none_or(|issue| run["key"].as_str().unwrap().starts_with(&format!("{issue}/")));
            issue
                && is(&run["target"], wanted.subsystem)
                && is(&run["outcome"], wanted.outcome.map(crate::model::Outcome::as_str))
        };
        self.runs.iter().filter(of).cloned().collect()
    }
    async fn story(&self, id: String) -> Result<Value, Refusal> {
        if id == "none" { Err(Refusal::NotFound("no such action".to_owned())) } else { Ok(json!({"id": id})) }
    }
    fn ready(&self) -> Result<(), String> {
        if self.not_ready.load(Ordering::SeqCst) { Err("the journal is being replayed".to_owned()) } else { Ok(()) }
    }
    fn dry_run(&self) -> bool {
        true
    }
    fn webhook_settings(&self) -> Arc<alerts::Settings> {
        Arc::new(alerts::Settings {
            bearer_tokens: self.hook_tokens.clone(),
            hmac: self.hook_hmac.clone(),
            ..alerts::Settings::default()
        })
    }
    fn refused(&self, code: &'static str) {
        self.asked.lock().unwrap().push(format!("refused {code}"));
    }
    fn policies(&self) -> watch::Receiver<Arc<PolicyDocument>> {
        self.policies.0.subscribe()
    }
    fn ended_issues(&self) -> Vec<Value> {
        self.ended.clone()
    }
    fn config(&self) -> Arc<Value> {
        assert!(!self.panics.load(Ordering::SeqCst), "a broken invariant");
        Arc::new(json!({"mode": "paper"}))
    }
    fn turned_away(&self, group: Group, code: &'static str) {
        self.turned_away.lock().unwrap().push(format!("{} {code}", group.as_str()));
    }
    fn push(&self, pushed: Pushed) -> Result<(), Refusal> {
        self.ask(format!("push {} {}", pushed.name, pushed.vitals.len()))
    }
    fn vitals(&self) -> Value {
        json!({"bot": {"error_rate": 0.5}})
    }
    async fn restart(&self, by: Caller, reason: String) -> Result<(), Refusal> {
        self.ask(format!("restart `{}` `{reason}`", by.name))
    }
    async fn approve(&self, id: String, digest: String, by: Caller, reason: String) -> Result<Value, Refusal> {
        self.ask(format!("approve {id} {digest} `{}` `{reason}`", by.name)).map(|()| json!({"run": "x/1/1"}))
    }
    async fn reject(&self, id: String, digest: String, by: Caller, reason: String) -> Result<(), Refusal> {
        self.ask(format!("reject {id} {digest} `{}` `{reason}`", by.name))
    }
    async fn drill(&self, subsystem: String, by: Caller, reason: String) -> Result<String, Refusal> {
        self.ask(format!("drill {subsystem} `{}` `{reason}`", by.name)).map(|()| format!("{subsystem}_drill"))
    }
    async fn audit(&self, after: u64, limit: usize) -> Result<Vec<AuditEntry>, Refusal> {
        self.ask(format!("audit {after} {limit}")).map(|()| Vec::new())
    }
    async fn accept(&self, alerts: Vec<IntakeAlert>, truncated: u64) -> Result<(), Refusal> {
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        self.ask(format!("accept {} {truncated}", alerts.len()))?;
        self.accepted.fetch_add(alerts.len(), Ordering::SeqCst);
        Ok(())
    }
    async fn force_check(&self) -> Result<Arc<Report>, Refusal> {
        self.ask("force_check").map(|()| self.report())
    }
    async fn reload(&self, _: Caller) -> Result<(), String> {
        self.ask("reload").map_err(|refusal| refusal.to_string())
    }
    async fn set_policy(
        &self,
        level: Level,
        reason: String,
        by: Caller,
        until: Option<Timestamp>,
    ) -> Result<(), Refusal> {
        let until = until.map(|until| until.since(NOW).as_secs());
        self.ask(format!("set_policy {level} `{reason}` `{}` {until:?}", by.name))
    }
    async fn release_policy(&self, by: Caller, reason: String) -> Result<(), Refusal> {
        self.ask(format!("release_policy `{}` `{reason}`", by.name))
    }
    fn maintenance(&self) -> Value {
        json!({"windows": [], "announced": []})
    }
    async fn announce(
        &self,
        subsystems: Vec<String>,
        actions: Vec<String>,
        until: Timestamp,
        by: Caller,
        reason: String,
    ) -> Result<String, Refusal> {
        let wish = format!("announce {subsystems:?} {actions:?} {until} `{}` `{reason}`", by.name);
        self.ask(wish).map(|()| "maintenance_1".to_owned())
    }
    async fn end_maintenance(&self, id: String, by: Caller, reason: String) -> Result<(), Refusal> {
        self.ask(format!("end_maintenance {id} `{}` `{reason}`", by.name))
    }
    fn workspace(&self) -> Value {
        json!({"enabled": true, "busy": false, "held_back": null, "report": null, "error": null, "latest_healings": []})
    }
    async fn healings(&self) -> Result<Vec<Value>, Refusal> {
        self.ask("healings").map(|()| self.healings.clone())
    }
    async fn healing(&self, id: String) -> Result<Value, Refusal> {
        self.ask(format!("healing {id}")).map(|()| json!({"id": id}))
    }
    async fn heal(&self, dry_run: bool, by: Caller) -> Result<Option<Value>, Refusal> {
        let goes_on = self.hangs.load(Ordering::SeqCst);
        self.ask(format!("heal {dry_run} `{}`", by.name)).map(|()| (!goes_on).then(|| json!({"healed": 2})))
    }
    async fn undo_healing(&self, id: String, force: bool, by: Caller) -> Result<Option<Value>, Refusal> {
        self.ask(format!("undo {id} {force} `{}`", by.name)).map(|()| Some(json!({"healed": 1})))
    }
    async fn history(&self, after: u64, limit: usize) -> Result<Value, Refusal> {
        self.ask(format!("history {after} {limit}")).map(|()| json!({"entries": []}))
    }
}

/// Understands `{"n": NUMBER}` as that many alerts.
fn fake_parse(body: &[u8], now: Timestamp, _: &alerts::Settings) -> Result<Notification, PayloadProblem> {
    let problem = |code, detail: &str| PayloadProblem { code, detail: detail.to_owned() };
    let read: Value = serde_json::from_slice(body).map_err(|error| problem("not_json", &error.to_string()))?;
    let count = read["n"].as_u64().ok_or_else(|| problem("wrong_version", "found no n"))?;
    if count > 100 {
        return Err(problem("too_large", "more than 100 alerts"));
    }
    let alert = IntakeAlert {
        received_at: now,
        receiver: "chiron".into(),
        status: AlertStatus::Firing,
        fingerprint: "f".into(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        starts_at: now,
        ends_at: None,
        truncated: false,
    };
    let alerts = vec![alert; usize::try_from(count).unwrap()];
    Ok(Notification { receiver: "chiron".into(), group_key: "g".to_owned(), truncated: 2, alerts })
}

fn settings() -> Settings {
    Settings {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        bearer_tokens: vec!["operator".to_owned()],
        body_max: 64 * 1024,
        connections_max: 8,
        ..Settings::default()
    }
}

/// A server that runs, and what it talks to.
struct Running {
    address: SocketAddr,
    fake: Arc<Fake>,
    clock: Clock,
    client: reqwest::Client,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Running {
    async fn with(fake: Fake, settings: Settings) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let fake = Arc::new(fake);
        let handle = Arc::clone(&fake) as Arc<dyn Handle>;
        let clock = Clock::manual(NOW);
        let server = bind_with(&settings, handle, clock.clone(), fake_parse).await.unwrap();
        let (address, stop) = (server.addresses()[0], CancellationToken::new());
        let mut tasks = JoinSet::new();
        tasks.spawn(server.run(stop.clone()));
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { address, fake, clock, client, stop, tasks }
    }

    async fn new() -> Self {
        Self::with(Fake::default(), settings()).await
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("http://{}{path}", self.address))
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        answer(self.request(Method::GET, path)).await
    }

    async fn post(&self, path: &str, body: &str) -> (StatusCode, Value) {
        answer(self.request(Method::POST, path).body(body.to_owned())).await
    }

    /// Writes bytes, and reads until the server closes the connection.
    async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }
}

async fn answer(request: reqwest::RequestBuilder) -> (StatusCode, Value) {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    let text = response.text().await.unwrap();
    let body: Value = serde_json::from_str(&text).unwrap_or(Value::String(text));
    assert_eq!(headers["x-content-type-options"], "nosniff");
    let id = headers["x-request-id"].to_str().unwrap();
    if status.is_client_error() || status.is_server_error() {
        let gate = body.get("allowed").is_some();
        assert!(gate || headers["content-type"] == "application/problem+json", "{status} {body}");
        assert!(gate || body["status"] == status.as_u16(), "{body}");
        assert!(gate || body["type"] == format!("urn:chiron:problem:{}", body["code"].as_str().unwrap()), "{body}");
        assert!(gate || body["instance"] == format!("urn:chiron:request:{id}"), "{body}");
    }
    (status, body)
}

/// SPEC 12: every route of the table answers its methods, GET also HEAD; with another method 405 and what is answered;
/// what is not there 404.
#[tokio::test]
async fn every_path_has_its_status() {
    let subsystems = vec![json!({"subsystem": "ai_model"})];
    let server = Running::with(Fake { subsystems, ..Fake::default() }, settings()).await;
    let fill = |path: &str| {
        let path = path.replace("{name}", "ai_model").replace("{issue_id}", "ai_model_20251123_013456");
        let path = path.replace("{category}", "kill_switch");
        let id = if path.contains("maintenance") { "maintenance_1" } else { "x~1~1" };
        path.replace("{intent}", "close_position").replace("{recommendation_id}", "rec_1_x").replace("{id}", id)
    };
    for route in router::ROUTES.iter().filter(|route| !route.path.ends_with("/stream")) {
        let path = fill(route.path);
        if route.method == Method::GET {
            assert_eq!(server.get(&path).await.0, 200, "GET {path}");
            let head = server.request(Method::HEAD, &path).send().await.unwrap();
            assert_eq!(head.status(), 200, "HEAD {path}");
            assert!(head.bytes().await.unwrap().is_empty());
        } else {
            let (status, _) = answer(server.request(route.method.clone(), &path)).await;
            assert!(status != 404 && status != 405, "{} {path}: {status}", route.method);
        }
        let mut allowed: Vec<&str> =
            router::ROUTES.iter().filter(|one| one.path == route.path).map(|one| one.method.as_str()).collect();
        if allowed.contains(&"GET") {
            allowed.push("HEAD");
        }
        allowed.sort_unstable();
        let others = [Method::DELETE, Method::OPTIONS, Method::PATCH].into_iter();
        for method in others.filter(|method| !allowed.contains(&method.as_str())) {
            let response = server.request(method.clone(), &path).send().await.unwrap();
            assert_eq!(response.status(), 405, "{method} {path}");
            let mut found: Vec<&str> = response.headers()["allow"].to_str().unwrap().split(',').collect();
            found.sort_unstable();
            assert_eq!(found, allowed, "{method} {path}");
        }
    }
    for path in ["/nothing", "/metrics/", "/api/v1", "/api/v1/gate", "/api/v1/gate/a/b", "/%00", "/api/v2/policy"] {
        assert_eq!(server.get(path).await.1["code"], "unknown_path", "GET {path}");
    }
    for path in ["/api/v1/subsystems/none", "/api/v1/issues/none", "/api/v1/actions/none"] {
        assert_eq!(server.get(path).await.1["code"], "not_found", "GET {path}");
    }
}

#[tokio::test]
async fn readiness_says_why_not() {
    let server = Running::new().await;
    server.fake.not_ready.store(true, Ordering::SeqCst);
    let (status, body) = server.get("/-/ready").await;
    assert_eq!((status.as_u16(), body["detail"].as_str()), (503, Some("the journal is being replayed")));
    assert_eq!(server.get("/-/healthy").await.0, 200);
}

/// SPEC 12: the keys that scripts rely on.
#[tokio::test]
async fn health_and_report_have_their_keys() {
    let server = Running::new().await;
    for path in ["/health", "/health/system"] {
        assert_eq!(
            server.get(path).await.1,
            json!({
                "overall_status": "critical",
                "safety_policy": "no_new_trades",
                "trading_allowed": false,
                "issues": 1,
                "critical_issues": 1,
                "summary": {"healthy": 0, "degraded": 0, "critical": 1, "failed": 0, "unknown": 0},
            })
        );
    }
    let (_, status) = server.get("/status").await;
    assert_eq!(status, serde_json::to_value(report()).unwrap());
    assert_eq!(server.get("/api/v1/report").await.1, status);
    assert_eq!(
        server.post("/health/force-check", "").await.1,
        json!({
            "timestamp": "2025-11-23T01:54:56Z",
            "status": "critical",
            "issues": [{"subsystem": "ai_model", "severity": "critical", "description": "ai_model is critical"}],
        })
    );
    for path in ["/alerts", "/api/v1/alerts"] {
        assert_eq!(server.get(path).await.1, json!({"alerts": [{"alertname": "A"}]}));
    }
    assert_eq!(server.get("/api/v1/recommendations").await.1["recommendations"], status["recovery_recommendations"]);
}

/// EXP-2: format and coding by negotiation; the same headers for HEAD; caches are told what the answer depends on.
#[tokio::test]
async fn the_metrics_page_is_negotiated() {
    let server = Running::new().await;
    const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
    const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let page = "# HELP up Up.\n# TYPE up gauge\nup 1\n";
    for (accept, encoding, content_type, gzip, expected) in [
        ("*/*", "identity", TEXT, false, page.to_owned()),
        ("application/openmetrics-text;version=1.0.0", "gzip;q=0", OPENMETRICS, false, format!("{page}# EOF\n")),
        ("application/openmetrics-text;version=1.0.0", "gzip", OPENMETRICS, true, format!("{page}# EOF\n")),
        ("image/png", "deflate, gzip", TEXT, true, page.to_owned()),
    ] {
        for method in [Method::GET, Method::HEAD, Method::GET] {
            let request = server.request(method.clone(), "/metrics");
            let response = request.header("accept", accept).header("accept-encoding", encoding).send().await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
            let headers = response.headers().clone();
            assert_eq!(headers["content-type"], content_type, "{accept}");
            assert_eq!(headers["vary"], "Accept, Accept-Encoding");
            assert_eq!(headers.get("content-encoding").map(|value| value.as_bytes()), gzip.then_some(&b"gzip"[..]));
            let body = response.bytes().await.unwrap();
            if method == Method::HEAD {
                assert!(body.is_empty() && headers["content-length"] != "0", "{headers:?}");
                continue;
            }
            let mut read = String::new();
            if gzip {
                flate2::read::GzDecoder::new(&*body).read_to_string(&mut read).unwrap();
            } else {
                read = String::from_utf8(body.to_vec()).unwrap();
            }
            assert_eq!(read, expected, "{accept} {encoding}");
        }
    }
}

/// A page that is large, or waits for files, is made off the async threads; the first large one is not known as such.
#[tokio::test]
async fn long_pages_are_made_elsewhere() {
    let server = Running::new().await;
    let here = format!("page on {}", std::thread::current().name().unwrap_or_default());
    let scrape = async |encoding: &'static str| {
        let response = server.request(Method::GET, "/metrics").header("accept-encoding", encoding).send().await;
        response.unwrap().bytes().await.unwrap();
        server.fake.asked() == [here.clone()]
    };
    assert!(scrape("identity").await, "a small page is made at once");
    server.fake.page_waits.store(true, Ordering::SeqCst);
    assert!(!scrape("identity").await, "it may wait");
    server.fake.page_waits.store(false, Ordering::SeqCst);
    server.fake.page_more.store(300_000, Ordering::SeqCst);
    assert!(scrape("gzip").await, "its size is not known yet");
    assert!(!scrape("gzip").await, "too large to compress at once");
    assert!(scrape("identity").await, "not too large to write");
    server.fake.page_more.store(3_000_000, Ordering::SeqCst);
    assert!(scrape("identity").await, "its size is not known yet");
    assert!(!scrape("identity").await, "too large to write at once");
}

#[tokio::test]
async fn the_landing_page_is_locked_down() {
    let server = Running::new().await;
    let response = server.request(Method::GET, "/").send().await.unwrap();
    assert!(response.headers()["content-security-policy"].to_str().unwrap().starts_with("default-src 'none';"));
    let page = response.text().await.unwrap();
    for text in ["Dry-run", "ai_model is critical", "disable_module", "no_new_trades", "href=\"metrics\""] {
        assert!(page.contains(text), "{text} is missing: {page}");
    }
}

/// ALR-1: 2xx only when the alert is durable; 4xx only when it can never be accepted; else 5xx; never 429.
#[tokio::test]
async fn the_webhook_answers_as_alertmanager_needs_it() {
    let server = Running::new().await;
    let hook = "/api/v1/alerts/webhook";
    assert_eq!(server.post(hook, r#"{"n":3}"#).await, (StatusCode::OK, json!({"accepted": 3})));
    assert_eq!(server.fake.asked(), ["accept 3 2"]);
    for (body, status, code) in [
        ("{", 400, "not_json"),
        ("", 400, "not_json"),
        ("{}", 400, "wrong_version"),
        (r#"{"n":101}"#, 413, "too_large"),
        (&"[".repeat(60_000), 400, "not_json"),
        (&" ".repeat(70_000), 413, "too_large"),
    ] {
        let (found, answer) = server.post(hook, body).await;
        assert_eq!((found.as_u16(), answer["code"].as_str()), (status, Some(code)));
        assert_eq!(server.fake.asked(), [format!("refused {code}")]);
    }
    for (refusal, status) in [
        (Refusal::Unavailable("the disk is full".to_owned()), 503),
        (Refusal::Invalid("no".to_owned()), 400),
        (Refusal::Conflict("no".to_owned()), 409),
    ] {
        *server.fake.refusal.lock().unwrap() = Some(refusal);
        let response = server.request(Method::POST, hook).body(r#"{"n":1}"#).send().await.unwrap();
        assert_eq!(response.status(), status);
        assert_eq!(response.headers().contains_key("retry-after"), status == 503);
    }
    assert_eq!(server.fake.accepted.load(Ordering::SeqCst), 3);
}

/// ALR-1: a store that hangs is answered with 503 before Alertmanager gives up.
#[tokio::test(start_paused = true)]
async fn a_hanging_store_gives_503_in_time() {
    let server = Running::new().await;
    server.fake.hangs.store(true, Ordering::SeqCst);
    let answer = server.raw(b"POST /api/v1/alerts/webhook HTTP/1.1\r\nhost: localhost\r\ncontent-length: 7\r\nconnection: close\r\n\r\n{\"n\":1}");
    assert!(answer.await.starts_with("HTTP/1.1 503 "));
}

/// SEC-1 at the socket: the pure matrix is in `access`; this shows that every changing path is behind it.
#[tokio::test]
async fn every_change_is_behind_the_guard() {
    let server = Running::with(Fake { hook_tokens: vec!["hook".to_owned()], ..Fake::default() }, settings()).await;
    let body = r#"{"level":"no_new_trades","reason":"r"}"#;
    for path in ["/-/reload", "/health/force-check", "/api/v1/policy", "/api/v1/policy/release"] {
        let post = || server.request(Method::POST, path).body(body);
        for (request, status, code) in [
            (post().bearer_auth("wrong"), 401, "unauthenticated"),
            (post().bearer_auth("hook"), 401, "unauthenticated"),
            (post().header("x-forwarded-for", "192.0.2.1"), 401, "unauthenticated"),
            (post().header("origin", "http://evil.example"), 403, "foreign_origin"),
            (post().header("host", "evil.example"), 421, "foreign_host"),
        ] {
            let response = request.send().await.unwrap();
            assert_eq!(response.status(), status, "{path}");
            assert_eq!(response.headers().contains_key("www-authenticate"), status == 401);
            assert_eq!(response.json::<Value>().await.unwrap()["code"], code, "{path}");
        }
    }
    assert_eq!(server.fake.asked(), [""; 0], "a refused change reached the rest");
    let hook = || server.request(Method::POST, "/api/v1/alerts/webhook").body(r#"{"n":1}"#);
    assert_eq!(answer(hook()).await.0, 401);
    assert_eq!(answer(hook().bearer_auth("operator")).await.0, 401);
    assert_eq!(answer(hook().bearer_auth("hook").header("origin", "null")).await.0, 403);
    let counted = ["unauthenticated", "unauthenticated", "foreign_origin"].map(|code| format!("refused {code}"));
    assert_eq!(server.fake.asked(), counted);
    assert_eq!(answer(hook().bearer_auth("hook")).await.0, 200);
}

/// A reload changes the tokens of a server that runs.
#[tokio::test]
async fn tokens_can_be_replaced() {
    let fake = Arc::new(Fake::default());
    let server = bind(&settings(), fake, Clock::manual(NOW)).await.unwrap();
    let access = server.access();
    let before = Arc::clone(&access.0.access.load());
    access.replace(&Settings { bearer_tokens: vec!["new".to_owned()], ..settings() });
    assert!(!Arc::ptr_eq(&before, &access.0.access.load()));
}

#[tokio::test]
async fn the_policy_is_set_and_released_by_a_person() {
    let server = Running::new().await;
    let full = r#"{"level":"defensive_exit","reason":" news ","expires_in_seconds":60}"#;
    assert_eq!(server.post("/api/v1/policy", full).await.1["sequence"], 7);
    let plain = r#"{"level":"emergency_shutdown","reason":"over"}"#;
    let post = server.request(Method::POST, "/api/v1/policy").bearer_auth("operator").body(plain);
    assert_eq!(answer(post).await.0, 200);
    assert_eq!(server.post("/api/v1/policy/release", r#"{"reason":"seen to it"}"#).await.0, 200);
    assert_eq!(
        server.fake.asked(),
        [
            "set_policy defensive_exit `news` `127.0.0.1 (loopback)` Some(60)",
            "set_policy emergency_shutdown `over` `token web` None",
            "release_policy `127.0.0.1 (loopback)` `seen to it`",
        ]
    );
    for (body, part) in [
        ("", "does not fit"),
        (r#"{"level":"panic","reason":"r"}"#, "expected one of allow_all, safe_risk_profile"),
        (r#"{"level":"allow_all"}"#, "missing field `reason`"),
        (r#"{"level":"allow_all","reason":"  "}"#, "a reason of 0 characters"),
        (r#"{"level":"no_new_trades","reason":"r"}"#, "found no expires_in_seconds, expected 1 to 2678400"),
        (r#"{"level":"allow_all","reason":"r"}"#, "found no expires_in_seconds"),
        (r#"{"level":"allow_all","reason":"r","expires_in_seconds":null}"#, "found no expires_in_seconds"),
        (r#"{"level":"allow_all","reason":"r","expires_in_seconds":0}"#, "found expires_in_seconds 0"),
        (r#"{"level":"allow_all","reason":"r","expires_in_seconds":-1}"#, "found expires_in_seconds -1"),
        (r#"{"level":"allow_all","reason":"r","expires_in_seconds":1.5}"#, "found expires_in_seconds 1.5"),
        (r#"{"level":"allow_all","reason":"r","expires_in_seconds":"60"}"#, "does not fit"),
        (r#"{"level":"allow_all","reason":"r","until":"x"}"#, "unknown field `until`"),
        (&format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000)), "more than 64 levels"),
    ] {
        let (status, answer) = server.post("/api/v1/policy", body).await;
        assert_eq!(status, 400, "{body}");
        assert!(answer["detail"].as_str().unwrap().contains(part), "{answer}");
    }
    assert_eq!(server.fake.asked(), [""; 0]);
    *server.fake.refusal.lock().unwrap() = Some(Refusal::Conflict("nothing is held".to_owned()));
    assert_eq!(server.post("/api/v1/policy/release", r#"{"reason":"r"}"#).await.0, 409);
}

#[tokio::test]
async fn a_failed_reload_says_why() {
    let server = Running::new().await;
    assert_eq!(server.post("/-/reload", "").await.0, 200);
    assert_eq!(answer(server.request(Method::PUT, "/-/reload")).await.0, 200);
    *server.fake.refusal.lock().unwrap() = Some(Refusal::Invalid("chiron.yml:3:1: unknown key `mod`".to_owned()));
    let (status, body) = server.post("/-/reload", "").await;
    assert_eq!((status.as_u16(), body["detail"].as_str()), (500, Some("chiron.yml:3:1: unknown key `mod`")));
}

/// POL-5: the gate at the socket; its table is beside the pure function.
#[tokio::test]
async fn the_gate_answers_200_or_403() {
    let server = Running::new().await;
    let (status, body) = server.get("/api/v1/gate/close_position?symbol=BTCUSDT&leverage=20").await;
    assert_eq!((status.as_u16(), &body["allowed"], &body["policy"]), (200, &json!(true), &json!("no_new_trades")));
    let (status, body) = server.get("/api/v1/gate/open_position").await;
    let keys: Vec<_> = body.as_object().unwrap().keys().cloned().collect();
    assert_eq!((status.as_u16(), keys.join(" ")), (403, "allowed policy reason".to_owned()));
    let (status, body) = server.get("/api/v1/gate/fly").await;
    assert_eq!((status.as_u16(), body["code"].as_str()), (404, Some("unknown_intent")));
    assert!(body["detail"].as_str().unwrap().contains("open_position, increase_position"));
    for leverage in ["NaN", "-1", "inf", "x", "", "1&leverage=2", "1&side=long"] {
        let (status, _) = server.get(&format!("/api/v1/gate/open_position?leverage={leverage}")).await;
        assert_eq!(status, 400, "{leverage}");
    }
}

/// Nobody holds a connection by saying nothing, half a preface, half a header or half a body.
#[tokio::test(start_paused = true)]
async fn slow_clients_are_let_go() {
    let server = Running::new().await;
    for (bytes, start) in [
        ("", ""),
        ("PRI * HTTP/2.0\r\n", ""),
        ("GET /metrics HTTP/1.1\r\nhost:", ""),
        ("POST /-/reload HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n\r\n", "HTTP/1.1 200 "),
        ("POST /api/v1/policy HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n\r\n{", "HTTP/1.1 408 "),
        ("POST /api/v1/alerts/webhook HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n\r\n{", "HTTP/1.1 503 "),
    ] {
        let answer = server.raw(bytes.as_bytes()).await;
        assert!(answer.starts_with(start) && (!start.is_empty() || answer.is_empty()), "{bytes}: {answer}");
    }
}

#[tokio::test]
async fn large_headers_are_refused() {
    let server = Running::new().await;
    let request = format!("GET /metrics HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "y".repeat(20_000));
    let answer = server.raw(request.as_bytes()).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let chunked = "POST /api/v1/policy HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
                   transfer-encoding: chunked\r\n\r\n18000\r\n";
    let request = format!("{chunked}{}\r\n0\r\n\r\n", "y".repeat(0x18000));
    assert!(server.raw(request.as_bytes()).await.contains("HTTP/1.1 413 "), "a chunked body has a limit too");
}

/// SEC-2: beyond the limit of connections the longest idle makes room; with nobody idle the newcomer is let go.
#[tokio::test]
async fn connections_are_limited() {
    let server = Running::with(Fake::default(), Settings { connections_max: 2, ..settings() }).await;
    let ask = async |path: &str| {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let request = format!("{path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut first = [0; 15];
        let read = stream.read_exact(&mut first).await;
        (stream, read.is_ok_and(|_| &first == b"HTTP/1.1 200 OK"))
    };
    let (mut first, served) = ask("GET /-/healthy").await;
    assert!(served);
    let (_second, served) = ask("GET /-/healthy").await;
    assert!(served);
    assert!(ask("GET /-/healthy").await.1, "the third is served at once");
    let _ = tokio::time::timeout(Duration::from_secs(5), first.read_to_end(&mut Vec::new())).await.expect("let go");
    server.fake.hangs.store(true, Ordering::SeqCst);
    let mut hanging = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let request = "POST /api/v1/alerts/webhook HTTP/1.1\r\nhost: localhost\r\ncontent-length: 7\r\n\r\n{\"n\":1}";
        stream.write_all(request.as_bytes()).await.unwrap();
        hanging.push(stream);
    }
    let turned = async {
        // Until both have arrived a newcomer still finds room.
        while ask("GET /-/healthy").await.1 {}
    };
    tokio::time::timeout(Duration::from_secs(5), turned).await.expect("both places are taken by requests under way");
}

/// A stop ends idle connections at once, lets a request under way finish, and cuts off what hangs at the deadline.
#[tokio::test(start_paused = true)]
async fn a_stop_drains_and_then_ends() {
    let mut server = Running::new().await;
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    idle.write_all(b"GET /-/healthy HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut first = [0; 15];
    idle.read_exact(&mut first).await.unwrap();
    server.fake.hangs.store(true, Ordering::SeqCst);
    let mut hanging = TcpStream::connect(server.address).await.unwrap();
    let request = "POST /api/v1/alerts/webhook HTTP/1.1\r\nhost: localhost\r\ncontent-length: 7\r\n\r\n{\"n\":1}";
    hanging.write_all(request.as_bytes()).await.unwrap();
    server.stop.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(6), server.tasks.join_next()).await;
    ended.expect("the server ends within its deadline").unwrap().unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let server = Running::new().await;
    let taken = Settings { listen: vec![server.address], ..settings() };
    let error = bind(&taken, Arc::new(Fake::default()), Clock::manual(NOW)).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "cannot listen on `{}`: the port is in use; stop what holds it, or choose another with --web.listen-address",
            server.address
        )
    );
}

#[tokio::test]
async fn settings_that_cannot_be_served_are_told() {
    for (path, good) in [
        ("/m", true),
        ("/a/b.txt", true),
        ("metrics", false),
        ("/", false),
        ("/status", false),
        ("/{x}", false),
        ("", false),
    ] {
        let odd = Settings { telemetry_path: path.to_owned(), ..settings() };
        let bound = bind(&odd, Arc::new(Fake::default()), Clock::manual(NOW)).await;
        assert_eq!(bound.is_ok(), good, "{path}");
    }
    let nowhere = Settings { listen: Vec::new(), ..settings() };
    assert!(bind(&nowhere, Arc::new(Fake::default()), Clock::manual(NOW)).await.is_err());
}
