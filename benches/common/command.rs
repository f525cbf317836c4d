//! The command that the benchmarks have started: reads the clock first, tells a loopback port, ends. Compiled by
//! `started.rs` without any library but std, so that it starts about as fast as `true` does.

fn main() {
    let at = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let mut words = std::env::args().skip(1);
    let (port, index) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if let Ok(socket) = std::net::UdpSocket::bind("127.0.0.1:0") {
        let _ = socket.send_to(format!("{index} {}", at.as_nanos()).as_bytes(), format!("127.0.0.1:{port}"));
    }
}
