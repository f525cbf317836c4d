//! An HTTP server that writes down every request it receives and answers as it is told, also badly.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// A request as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    /// The method.
    pub(crate) method: String,
    /// Path and query, undecoded.
    pub(crate) path: String,
    headers: Vec<(String, String)>,
    /// The body.
    pub(crate) body: String,
}

impl Received {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// What the server does with a request that it has received and counted.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// A whole answer.
    Status(u16, String),
    /// A whole answer with a further header line.
    With(u16, String, String),
    /// A whole answer after this time.
    Late(Duration, u16),
    /// None, with the connection kept open.
    Never,
    /// The connection is closed at once.
    Close,
    /// A status line, half a body, and the connection is closed.
    Torn,
    /// 200 and a body without end.
    Endless,
    /// These bytes and nothing else, headers included.
    Raw(String),
    /// 200 and a body of which a byte comes in each such time.
    Slowly(Duration),
    /// 200, a header line, and a body of this block so many times, and then of this end.
    Blocks(String, String, usize, String),
}

/// How replies are chosen.
type Choose = dyn Fn(&Received) -> Reply + Send + Sync;

/// A server on loopback. Dropped, it takes no further connection; its threads end with their connections.
pub(crate) struct HttpServer {
    address: String,
    received: Arc<Mutex<Vec<Received>>>,
    connections: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl HttpServer {
    /// Starts one that answers 200 with the body `ok` to everything.
    pub(crate) fn start() -> Self {
        Self::answering(|_| Reply::Status(200, "ok".to_owned()))
    }

    /// Starts one that answers as `choose` says.
    pub(crate) fn answering(choose: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address").to_string();
        let (received, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let connections = Arc::new(AtomicUsize::new(0));
        let thread = {
            let (received, stop, connections) = (Arc::clone(&received), Arc::clone(&stop), Arc::clone(&connections));
            let choose: Arc<Choose> = Arc::new(choose);
            std::thread::spawn(move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    connections.fetch_add(1, Ordering::SeqCst);
                    let (received, stop, choose) = (Arc::clone(&received), Arc::clone(&stop), Arc::clone(&choose));
                    std::thread::spawn(move || drop(serve(stream, &received, &stop, &*choose)));
                }
            })
        };
        Self { address, received, connections, stop, thread: Some(thread) }
    }

    /// `HOST:PORT`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// `http://HOST:PORT` and this path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Every request received whole so far, in order.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Connections taken so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Its thread waits for a connection, so it gets one.
        let _ = TcpStream::connect(&self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(stream: TcpStream, received: &Mutex<Vec<Received>>, stop: &AtomicBool, choose: &Choose) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let request = read(&mut BufReader::new(&stream))?;
    let reply = choose(&request);
    received.lock().unwrap_or_else(PoisonError::into_inner).push(request);
    let mut out = &stream;
    let whole = |mut out: &TcpStream, status: u16, line: &str, body: &str| {
        let head = format!(
            "HTTP/1.1 {status} Said\r\n{line}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        out.write_all(head.as_bytes())
    };
    let idle = |time: Duration| {
        let mut left = time;
        let step = Duration::from_millis(20);
        while !left.is_zero() && !stop.load(Ordering::SeqCst) {
            std::thread::sleep(step.min(left));
            left = left.saturating_sub(step);
        }
    };
    match reply {
        Reply::Status(status, body) => whole(&stream, status, "", &body),
        Reply::With(status, line, body) => whole(&stream, status, &format!("{line}\r\n"), &body),
        Reply::Late(time, status) => {
            idle(time);
            whole(&stream, status, "", "late")
        }
        Reply::Never => {
            idle(Duration::from_secs(600));
            Ok(())
        }
        Reply::Close => Ok(()),
        Reply::Torn => out.write_all(b"HTTP/1.1 200 Said\r\nContent-Length: 1000\r\n\r\nhalf"),
        Reply::Raw(bytes) => out.write_all(bytes.as_bytes()),
        Reply::Slowly(step) => {
            out.write_all(b"HTTP/1.1 200 Said\r\nContent-Length: 4000000000\r\n\r\n")?;
            while !stop.load(Ordering::SeqCst) {
                out.write_all(b"x")?;
                idle(step);
            }
            Ok(())
        }
        Reply::Blocks(line, block, times, end) => {
            let length = block.len() * times + end.len();
            write!(out, "HTTP/1.1 200 Said\r\n{line}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")?;
            for _ in 0..times {
                out.write_all(block.as_bytes())?;
            }
            out.write_all(end.as_bytes())
        }
        Reply::Endless => {
            out.write_all(b"HTTP/1.1 200 Said\r\nContent-Length: 4000000000\r\n\r\n")?;
            let block = vec![b'x'; 64 * 1024];
            while !stop.load(Ordering::SeqCst) {
                out.write_all(&block)?;
            }
            Ok(())
        }
    }
}

fn read(stream: &mut impl BufRead) -> io::Result<Received> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else {
        return Err(io::ErrorKind::UnexpectedEof.into());
    };
    let mut headers = Vec::new();
    loop {
        line.clear();
        stream.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let mut request = Received { method, path, headers, body: String::new() };
    let length = request.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    request.body = String::from_utf8_lossy(&body).into_owned();
    Ok(request)
}
