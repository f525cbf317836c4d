//! Settings, outcomes and questions of `http`.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::super::ActuatorContext;
use super::*;
use crate::base::tree::{Problems, Section, parse};
use crate::execute::About;
use crate::model::{Class, RunKey};

fn context(class: Class) -> ActuatorContext {
    ActuatorContext {
        environment: crate::execute::Environment::default(),
        workspace: "/w".into(),
        probe: None,
        folder: "/nowhere".into(),
        class,
        warnings: Default::default(),
    }
}

/// What is built of a text, the problems in it, and the warnings.
fn built(text: &str, class: Class) -> (Option<Arc<dyn Actuator>>, Vec<String>, Vec<String>) {
    let problems = Problems::new("");
    let node = parse(text, &problems).unwrap_or_else(|| panic!("{text}"));
    let mut section = Section::open(&node, "http", &problems).unwrap();
    let context = context(class);
    let actuator = settings::build(&mut section, &context);
    section.finish();
    let problems = problems.into_vec().iter().map(ToString::to_string).collect();
    (actuator, problems, context.warnings.take().into_iter().map(|(_, path, text)| format!("{path}: {text}")).collect())
}

fn order(evidence: Option<String>) -> Order {
    Order {
        key: RunKey { episode: "feed_1".into(), rung: 1, attempt: 1 },
        action: "restart_subsystem".into(),
        target: "feed".into(),
        epoch: 7,
        timeout: Duration::from_secs(5),
        about: About { issue_type: "sta\"le".to_owned(), ..About::default() },
        evidence,
    }
}

/// SEC-5: what cannot work is refused when the settings load, each with its rule.
#[test]
fn mistakes_are_told() {
    let table = [
        ("{}", "http.url: missing, expected a text"),
        ("url: ftp://a/", "http.url: found `ftp://a/`, expected a URL that begins with http:// or https://"),
        (
            "url: \"http://{{subsystem}}.example/\"",
            "expected `{{...}}` in the path or the query only, never in the host",
        ),
        ("url: \"{{action}}://a/\"", "expected `{{...}}` in the path or the query only, never in the host"),
        ("url: \"http://a:{{epoch}}/\"", "expected `{{...}}` in the path or the query only, never in the host"),
        ("url: \"http://u:secret-canary@a/\"", "expected a URL without credentials"),
        (
            "url: \"http://a/{{subsytem}}\"",
            "expected known fields only, but there is `{{subsytem}}` (hint: did you mean",
        ),
        ("{url: \"http://a/\", method: FETCH}", "expected one of POST, PUT, PATCH, DELETE, GET"),
        ("{url: \"http://a/\", headers: {Host: b}}", "http.headers.Host: expected the name of a header that"),
        ("{url: \"http://a/\", headers: {Authorization: Bearer x}}", "expected a secret to come from a file"),
        ("{url: \"http://a/\", headers: {A: \"{{nope}}\"}}", "http.headers.A: expected known fields only"),
        (
            "{url: \"http://a/\", headers: {A: {fil: x}}}",
            "http.headers.A.fil: unknown key (hint: did you mean `file`?)",
        ),
        ("{url: \"http://a/\", headers: {A: b, a: c}}", "expected each header once"),
        ("{url: \"http://a/\", body: x, json: {}}", "expected either `body` or `json`"),
        ("{url: \"http://a/\", json: {a: [\"{{labels}}\"]}}", "http.json.a[0]: expected known fields only"),
        ("{url: \"http://a/\", json: {\"{{action}}\": 1}}", "expected `{{...}}` in values only"),
        (
            "{url: \"http://a/\", headers: {Content-Type: application/json}, body: '{\"a\": {{action}}}'}",
            "expected JSON, as",
        ),
        ("{url: \"http://a/\", expect_status: 6xx}", "expected a status such as 200, a class such as 2xx, or a list"),
        ("{url: \"http://a/\", expect_status: []}", "expected a status such as 200, a class such as 2xx, or a list"),
        ("{url: \"http://a/\", bearer_token_file: x, basic_auth: {username: a, password_file: b}}", "expected either"),
        (
            "{url: \"http://a/\", bearer_token_file: x, headers: {Authorization: {file: y}}}",
            "expected no header `Author",
        ),
        ("{url: \"http://a/\", basic_auth: {username: \"a:b\", password_file: c}}", "expected a name without `:`"),
        ("{url: \"http://a/\", basic_auth: {username: a}}", "password_file: missing, expected a path"),
        (
            "{url: \"http://a/\", idempotency_key_header: \"a b\"}",
            "expected the name of a header such as Idempotency-Key",
        ),
        ("{url: \"http://a/\", preflight: {url: \"http://a/{{action}}\"}}", "it is asked about no order"),
        ("{url: \"http://a/\", preflight: {url: \"http://a/\", expect_body: x}}", "preflight.expect_body: unknown key"),
        ("{url: \"http://a/\", tls: {ca_fil: x}}", "http.tls.ca_fil: unknown key"),
    ];
    for (text, told) in table {
        let (actuator, problems, _) = built(text, Class::OneShot);
        assert!(actuator.is_none() || told.contains("unknown key"), "{text}");
        assert_eq!(problems.len(), 1, "{text}: {problems:?}");
        assert!(problems[0].contains(told), "{text}: {problems:?}");
        assert!(!problems[0].contains("canary"), "{problems:?}");
    }
}

/// SEC-2: what works, but probably not as meant, is told.
#[test]
fn doubts_are_told() {
    let url = "url: \"http://127.0.0.1/\"";
    let table = [
        (format!("{{{url}}}"), Class::Keyed, "http.idempotency_key_header: class `keyed` without"),
        (
            format!("{{{url}, tls: {{insecure_skip_verify: true}}}}"),
            Class::OneShot,
            "the certificate of this server is not",
        ),
        ("{url: \"http://a/\", bearer_token_file: x}".to_owned(), Class::OneShot, "secrets are sent without TLS"),
    ];
    for (text, class, told) in table {
        let (actuator, problems, warnings) = built(&text, class);
        assert!(actuator.is_some() && problems.is_empty(), "{problems:?}");
        assert!(warnings.len() == 1 && warnings[0].contains(told), "{text}: {warnings:?}");
    }
    let verifies = |text: &str| built(text, Class::OneShot).0.unwrap().verifies_tls();
    assert_eq!(verifies("url: \"http://a/\""), None);
    assert_eq!(verifies("url: \"https://a/\""), Some(true));
    assert_eq!(verifies("{url: \"https://a/\", tls: {insecure_skip_verify: true}}"), Some(false));
    let quiet = format!("{{{url}, bearer_token_file: x, idempotency_key_header: Idempotency-Key}}");
    assert_eq!(built(&quiet, Class::Keyed).2, [] as [String; 0]);
}

/// SEC-3: neither the query nor anything of a header or body is described.
#[test]
fn it_is_described_without_secrets() {
    let text = "{method: PUT, url: \"http://a:81/b/{{subsystem}}?token=canary\", headers: {A: canary}, body: canary}";
    let (actuator, problems, _) = built(text, Class::OneShot);
    let actuator = actuator.unwrap_or_else(|| panic!("{problems:?}"));
    assert_eq!(actuator.describe(), "PUT http://a:81/b/{{subsystem}}");
    assert_eq!(actuator.means(), Means::Http);
}

/// Answers one request with these bytes; tells what it was asked.
async fn answered<T>(answer: &str, more: &str, ask: impl AsyncFnOnce(Arc<dyn Actuator>) -> T) -> (T, String) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let (actuator, problems, _) =
        built(&format!("{{url: \"{base}/do\", {}}}", more.replace("BASE", &base)), Class::OneShot);
    let actuator = actuator.unwrap_or_else(|| panic!("{problems:?}"));
    let serve = async {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = vec![0; 4096];
            let count = stream.read(&mut asked).await.unwrap();
            // A connection that was only made asks nothing.
            if count > 0 {
                let _ = stream.write_all(answer.as_bytes()).await;
                return String::from_utf8_lossy(&asked[..count]).into_owned();
            }
        }
    };
    tokio::join!(ask(actuator), serve)
}

fn said(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// SEC-5: a body that is JSON by its header is filled with escaped values.
#[tokio::test]
async fn values_are_escaped_in_a_body() {
    let more = "headers: {Content-Type: application/json}, body: '{\"why\": \"{{issue_type}}\", \"epoch\": {{epoch}}}'";
    let ask = async |actuator: Arc<dyn Actuator>| actuator.apply(&order(None)).await;
    let (answer, asked) = answered(&said("200 OK", "fine"), more, ask).await;
    assert_eq!((answer.ending, answer.output.as_str()), (Ending::Ok, "fine"), "{answer:?}");
    assert!(asked.ends_with("\r\n\r\n{\"why\": \"sta\\\"le\", \"epoch\": 7}"), "{asked}");
}

/// ACT-3: each answer of a probe means what it means, and one that tells nothing is no no.
#[tokio::test]
async fn a_probe_is_no_guess() {
    use ProbeAnswer::{DidNotHappen, Happened, Unknown};
    let table = [
        (said("200 OK", "job done"), Happened),
        (said("200 OK", "job open"), DidNotHappen),
        (said("404 Not Found", ""), DidNotHappen),
        (said("410 Gone", ""), DidNotHappen),
        (said("202 Accepted", "done"), Happened),
        (said("302 Found", ""), Unknown),
        (said("400 Bad Request", ""), Unknown),
        (said("405 Method Not Allowed", ""), Unknown),
        (said("401 Unauthorized", ""), Unknown),
        (said("429 Too Many Requests", ""), Unknown),
        (said("503 Service Unavailable", "done"), Unknown),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\njob".to_owned(), Unknown),
        (String::new(), Unknown),
    ];
    for (answer, meant) in table {
        let more =
            "probe: {url: \"BASE/jobs/{{run_key}}\", expect_body: done}, idempotency_key_header: Idempotency-Key";
        // Its time is over at once, so that its first answer counts.
        let order = Order { timeout: Duration::ZERO, ..order(None) };
        let ask = async |actuator: Arc<dyn Actuator>| actuator.probe(&order).await;
        let (found, asked) = answered(&answer, more, ask).await;
        assert_eq!(found, meant, "{answer}");
        assert!(asked.starts_with("GET /jobs/feed_1%2F1%2F1 HTTP/1.1\r\n"), "{asked}");
        assert!(!asked.to_lowercase().contains("idempotency-key"), "{asked}");
    }
    let (actuator, ..) = built("url: \"http://127.0.0.1:1/\"", Class::Probeable);
    assert_eq!(actuator.unwrap().probe(&order(None)).await, ProbeAnswer::AskCheck);
}

/// SPEC 6: a preflight has no effect, and names what would keep the action from working.
#[tokio::test]
async fn a_preflight_asks_without_an_effect() {
    let more = "preflight: {url: \"BASE/ping?a=1\"}";
    let ask = async |actuator: Arc<dyn Actuator>| actuator.preflight().await;
    for (answer, told) in [
        (said("200 OK", ""), None),
        (said("401 Unauthorized", ""), Some("refuses the credentials: it answered 401 Unauthorized, expected 2xx")),
        (said("500 Oh", ""), Some("answered 500 Internal Server Error, expected 2xx")),
    ] {
        let (warnings, asked) = answered(&answer, more, ask).await;
        assert!(asked.starts_with("GET /ping?a=1 HTTP/1.1\r\n"), "{asked}");
        match told {
            None => assert_eq!(warnings, [] as [String; 0]),
            Some(told) => assert!(warnings.len() == 1 && warnings[0].ends_with(told), "{warnings:?}"),
        }
    }
    let (actuator, ..) = built("{url: \"http://127.0.0.1:1/x\", bearer_token_file: gone}", Class::OneShot);
    let warnings = actuator.unwrap().preflight().await;
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert_eq!(warnings[0], "`/nowhere/gone`: missing");
    assert!(warnings[1].starts_with("`http://127.0.0.1:1` cannot be reached: Connection refused"), "{warnings:?}");
}

/// SEC-3: a secret that the end of what is kept cuts in two is gone as a whole.
#[test]
fn secrets_go_before_the_end_is_cut() {
    let _secret = Secret::new("http-output-canary-0123456789");
    let body = format!("{}http-output-canary-0123456789{}", "x".repeat(OUTPUT_MAX - 10), "y".repeat(100));
    let kept = output(body.as_bytes());
    assert!(kept.len() <= OUTPUT_MAX && !kept.contains("canary"), "{kept}");
    assert_eq!(output("é".repeat(OUTPUT_MAX).as_bytes()).len(), OUTPUT_MAX);
}

#[test]
fn statuses_are_shown_as_they_are_written() {
    let statuses = Statuses(vec![(200, 299), (409, 409)]);
    assert_eq!(statuses.to_string(), "2xx or 409");
    assert!(statuses.hold(299) && statuses.hold(409) && !statuses.hold(300) && !statuses.hold(199));
}

/// ACT-3: as long as the request of before may be at work, "not done" is not believed; "done" ends the asking at once.
#[tokio::test]
async fn a_probe_believes_no_only_when_nothing_can_be_at_work() {
    // Answers `open` for the first `late` questions, `done` from then on; counts them.
    async fn ask(late: u32, timeout: Duration) -> (ProbeAnswer, u32, Duration) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let text = format!("{{url: \"{base}/\", probe: {{url: \"{base}/\", expect_body: done}}}}");
        let actuator = built(&text, Class::Probeable).0.unwrap();
        let mut questions = 0;
        let serve = async {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.read(&mut [0; 4096]).await;
                questions += 1;
                let body = if questions > late { "done" } else { "open" };
                stream.write_all(said("200 OK", body).as_bytes()).await.unwrap();
            }
        };
        let order = Order { timeout, ..order(None) };
        let begun = Instant::now();
        let told = tokio::select! {
            told = actuator.probe(&order) => told,
            () = serve => unreachable!(),
        };
        (told, questions, begun.elapsed())
    }
    let (told, questions, _) = ask(2, Duration::from_secs(60)).await;
    assert_eq!((told, questions), (ProbeAnswer::Happened, 3), "it was at work, and is done");
    let (told, questions, took) = ask(u32::MAX, Duration::from_millis(700)).await;
    assert_eq!(told, ProbeAnswer::DidNotHappen);
    assert!(questions >= 2 && took >= Duration::from_millis(700), "{questions} {took:?}");
    assert_eq!(ask(0, Duration::from_secs(60)).await.1, 1);
}
