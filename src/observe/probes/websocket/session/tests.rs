//! The sockets against servers that behave, and ones that do not.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_tungstenite::accept_async;

use super::super::protocol::{Phase, Plan};
use super::*;

fn link(url: String) -> Arc<Link> {
    let target = Target {
        url,
        headers: Vec::new(),
        token_file: None,
        ca_file: None,
        insecure_skip_verify: false,
        connect_timeout: Duration::from_secs(2),
    };
    Arc::new(Link::new(target, Machine::new(Arc::new(Plan::default()), 1), Clock::system()))
}

/// What `serve` leads to: the loss that the first connection ends with.
async fn loss_by(serve: impl AsyncFnOnce(TcpStream)) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let link = link(format!("ws://{}/feed?key=in-the-query", listener.local_addr().unwrap()));
    let lost = Arc::new(tokio::sync::Notify::new());
    let told = (Arc::clone(&lost), Arc::clone(&link));
    let wake = Wake::new(move || {
        if matches!(told.1.read().facts.phase, Phase::Waiting(_)) {
            told.0.notify_one();
        }
    });
    let server = async {
        let (stream, _) = listener.accept().await.unwrap();
        serve(stream).await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = keep(Arc::clone(&link), wake) => unreachable!("it is kept"),
        () = server => unreachable!("it stays"),
        done = timeout(Duration::from_secs(20), lost.notified()) => done.expect("the connection is lost in time"),
    }
    let error = link.read().facts.last_error.unwrap();
    assert!(!error.contains("in-the-query") && error.chars().count() <= TOLD_MAX + 3, "{error}");
    error
}

/// The raw bytes below an accepted upgrade.
async fn upgraded(stream: TcpStream) -> TcpStream {
    accept_async(stream).await.unwrap().into_inner()
}

/// A frame of the server: first byte, and the payload with its length before it.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..=125 => frame.push(u8::try_from(length).unwrap()),
        length => {
            frame.push(127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame
}

/// EXC-1: frames that break the protocol or a limit end the connection, with a word on why.
#[tokio::test]
async fn hostile_frames() {
    let huge = [&[0x82, 127][..], &(1u64 << 62).to_be_bytes()].concat();
    let mut fragments = frame(0x02, &[0; 1024 * 1024]);
    (0..5).for_each(|_| fragments.extend(frame(0x00, &[0; 1024 * 1024])));
    let close = [&4001u16.to_be_bytes()[..], "bad\tmood ".as_bytes(), &[b'a'; 90]].concat();
    for (bytes, error) in [
        (huge, "more than the limit of 4194304"),
        (fragments, "more than the limit of 4194304"),
        (frame(0x81, b"\xff\xfe"), "no UTF-8"),
        (frame(0xc1, b"\x02\x00"), "compressed frame, though no compression was agreed"),
        (vec![0x81, 0x82, 1, 2, 3, 4, 0, 0], "masked frame"),
        (frame(0x83, b"x"), "breaks the protocol"),
        (frame(0x80, b"x"), "breaks the protocol"),
        (frame(0x09, b""), "breaks the protocol"),
        (frame(0x88, &close), "code 4001: bad mood aaa"),
        (frame(0x88, b""), "without a code"),
        (frame(0x88, b"x"), "breaks the protocol"),
    ] {
        let shown = bytes[..bytes.len().min(12)].to_vec();
        let told = loss_by(async |stream| {
            let mut raw = upgraded(stream).await;
            let _ = raw.write_all(&bytes).await;
            let _ = raw.read(&mut [0; 1024]).await;
        })
        .await;
        assert!(told.contains(error), "{shown:x?}: {told}");
    }
    let ended = loss_by(async |stream| drop(upgraded(stream).await)).await;
    assert!(ended.contains("without a close frame"), "{ended}");
}

/// EXC-1: answers to the upgrade that are none: told with their status, never followed.
#[tokio::test]
async fn no_upgrade() {
    for (answer, errors) in [
        (
            "302 Found\r\nlocation: wss://evil.example:9/x?token=abc",
            ["status 302", "leads to wss://evil.example:9/x, redirects are not followed"],
        ),
        ("401 Unauthorized", ["status 401", "check the credentials"]),
        ("403 Forbidden\r\ncontent-length: 9\r\n\r\nno access", ["status 403", "no access"]),
        ("429 Too Many Requests\r\nretry-after: 7", ["status 429", "asks to wait 7s"]),
        ("200 OK", ["status 200", "expected 101"]),
        ("101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade", ["breaks the protocol", "ccept"]),
    ] {
        let told = loss_by(async |mut stream| {
            let _ = stream.read(&mut [0; 4096]).await;
            stream.write_all(format!("HTTP/1.1 {answer}\r\n\r\n").as_bytes()).await.unwrap();
        })
        .await;
        for error in errors {
            assert!(told.contains(error) && !told.contains("abc"), "{answer}: {told}");
        }
    }
}

/// EXC-1: a server that never answers, one that answers byte by byte and one that answers without end cost the timeout at
/// most; the word says what was waited for.
#[tokio::test]
async fn slow_and_endless_upgrades() {
    let silent = loss_by(async |stream| std::mem::forget(stream)).await;
    assert_eq!(silent, "no connection within 2s, waited for the answer to the upgrade");
    let slow = loss_by(async |mut stream| {
        for byte in b"HTTP/1.1 101 Switching Protocols\r\n".iter().cycle() {
            if stream.write_all(&[*byte]).await.is_err() {
                return;
            }
            sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    assert_eq!(slow, "no connection within 2s, waited for the answer to the upgrade");
    let endless = loss_by(async |mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\n").await;
        while stream.write_all(&b"x-more: and more\r\n".repeat(1_000)).await.is_ok() {}
    })
    .await;
    assert!(endless.contains("too long"), "{endless}");
}

/// SEC-3: a secret is put where it belongs, escaped for its place, and is in nothing that is told.
#[test]
fn secrets_are_filled_in_and_not_told() {
    let token = Secret::new(r#"a"b &c"#);
    assert_eq!(in_message(r#"{"t":"{{token}}"}"#, Some(&token)), r#"{"t":"a\"b &c"}"#);
    assert_eq!(in_message("AUTH {{token}}", Some(&token)), r#"AUTH a"b &c"#);
    assert_eq!(filled("ws://h/?t={{token}}", Some(&token), in_query), "ws://h/?t=a%22b%20%26c");
    assert_eq!(filled("ws://h/?t={{token}}", None, in_query), "ws://h/?t={{token}}");
    assert_eq!(told("bad a\"b &c\nindeed", Some(&token)), "bad <redacted> indeed");
    let long = told(&format!("{}a\"b &c", "x".repeat(TOLD_MAX - 2)), Some(&token));
    assert!(!long.contains("a\"") && long.ends_with("<r..."), "{long}");
}

/// SEC-3: nor is any form of it that a server may echo.
#[test]
fn no_form_of_a_secret_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let token_file = folder.path().join("token");
    std::fs::write(&token_file, "c+n\"ry/of=forms").unwrap();
    let target = Target {
        url: "ws://h/?t={{token}}".to_owned(),
        headers: Vec::new(),
        token_file: Some(token_file),
        ca_file: None,
        insecure_skip_verify: false,
        connect_timeout: Duration::from_secs(2),
    };
    let (token, _) = read_files(&target, false).unwrap();
    for form in [
        "c+n\"ry/of=forms",
        "c%2Bn%22ry%2Fof%3Dforms",
        "c%2bn%22ry%2fof%3dforms",
        r#"c+n\"ry/of=forms"#,
        r#"c+n\"ry\/of=forms"#,
    ] {
        let said = format!("no key {form}!");
        assert_eq!(told(&said, token.as_ref()), "no key <redacted>!");
        assert_eq!(redact::text(&said), "no key <redacted>!", "from wherever it comes");
        assert_eq!(told("x%2By", Some(&Secret::new("x+y"))), "<redacted>", "however short");
    }
}

/// EXC-1: a server that is back soon is not kept waiting by what it asked for when it went; one that counts requests is.
#[test]
fn what_a_server_asks_to_wait() {
    for (status, asked, granted) in
        [(503, 30, 30), (503, 3_600, 300), (502, 301, 300), (401, 900, 300), (429, 3_600, 3_600), (418, 900, 900)]
    {
        let response = Response::new(None);
        let (mut parts, body) = response.into_parts();
        parts.status = status.try_into().unwrap();
        parts.headers.insert("retry-after", asked.into());
        let loss = refused_by(&Response::from_parts(parts, body));
        assert_eq!(loss.retry_after, Some(Duration::from_secs(granted)), "{status} {asked}");
    }
}
