//! What became of a request is known in every case.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

async fn post(url: &str, until: Instant) -> Result<Heard, Fault> {
    send(&Reach::default(), |client| client.post(url).body("x").build(), until, 8).await
}

/// Answers the first request with these bytes and hangs up; tells what was received.
async fn answered(answer: &'static [u8]) -> (Result<Heard, Fault>, Vec<u8>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = vec![0; 4096];
        let count = stream.read(&mut asked).await.unwrap();
        asked.truncate(count);
        let _ = stream.write_all(answer).await;
        asked
    };
    tokio::join!(post(&url, soon()), serve)
}

/// ACT-3: an answer is whole, cut or torn, and a connection that breaks before one is no proof of anything.
#[tokio::test]
async fn answers_and_their_ends() {
    let heard = |body: &str, end| Ok(Heard { status: StatusCode::OK, body: body.as_bytes().to_vec(), end });
    assert_eq!(
        answered(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n12345678").await.0,
        heard("12345678", End::Whole)
    );
    assert_eq!(answered(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n123456789").await.0, heard("12345678", End::Cut));
    let torn = answered(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n12").await.0.unwrap();
    assert!(matches!(torn.end, End::Torn(_)), "{torn:?}");
    let (broken, asked) = answered(b"").await;
    assert!(matches!(broken, Err(Fault::Broken(_))), "{broken:?}");
    assert!(asked.starts_with(b"POST / HTTP/1.1"));
    let (nonsense, _) = answered(b"\x00\x01\x02 nonsense\r\n\r\n").await;
    assert!(matches!(nonsense, Err(Fault::Broken(_))), "{nonsense:?}");
}

/// ACT-3: what was never sent is told from what was not answered.
#[tokio::test]
async fn sent_or_not_is_known() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    // The backlog takes the connection, and nobody answers.
    let silent = post(&url, Instant::now() + Duration::from_millis(300)).await;
    assert_eq!(silent, Err(Fault::Silent));
    drop(listener);
    let refused = post(&url, soon()).await;
    assert!(matches!(&refused, Err(Fault::NotSent(why)) if why.contains("refused")), "{refused:?}");
    let reach = Reach { ca_file: Some("/nowhere/ca.pem".into()), ..Reach::default() };
    let missing = send(&reach, |client| client.get(&url).build(), soon(), 8).await;
    assert_eq!(missing, Err(Fault::NotSent("`/nowhere/ca.pem`: missing".to_owned())));
    let reach = Reach { socket: Some("/nowhere/socket".into()), ..Reach::default() };
    let nowhere = send(&reach, |client| client.get("http://x/").build(), soon(), 8).await;
    assert!(matches!(&nowhere, Err(Fault::NotSent(why)) if why.contains("No such file")), "{nowhere:?}");
}

/// ACT-3: a peer that takes the connection and is then silent in the TLS handshake was sent nothing.
#[tokio::test]
async fn a_handshake_without_end_sends_nothing() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let silent = post(&url, Instant::now() + Duration::from_millis(300)).await;
    assert_eq!(silent, Err(Fault::NotSent("no connection in time".to_owned())));
}

/// A look at whether a peer can be reached connects and sends nothing.
#[tokio::test]
async fn to_connect_sends_nothing() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = Vec::new();
        stream.read_to_end(&mut asked).await.unwrap();
        asked
    };
    let reach = Reach::default();
    let (reached, asked) = tokio::join!(connect(&reach, &url, soon()), serve);
    assert_eq!((reached, asked), (Ok(()), Vec::new()));
    drop(listener);
    let refused = connect(&Reach::default(), &url, soon()).await;
    assert!(refused.as_ref().is_err_and(|why| why.contains("refused")), "{refused:?}");
}
