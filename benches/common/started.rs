//! A command that tells when it began: the first thing it does is to read the clock; then it sends that to a loopback
//! port, and exits.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// When a command began.
#[derive(Clone, Copy)]
pub struct Start {
    /// Which of the commands.
    pub index: usize,
    /// By the wall clock, since 1970.
    pub at: Duration,
}

/// The time by the wall clock, since 1970; the only clock that files, commands and this process share.
pub fn now() -> Duration {
    let time = clock_gettime(ClockId::Realtime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Compiles the command into `folder`; its path. Linked statically where that works, so that little is measured but
/// the starting itself.
pub fn compile(folder: &Path) -> String {
    let source = folder.join("command.rs");
    std::fs::write(&source, include_str!("command.rs")).expect("space for a file");
    let program = folder.join("command");
    let built = |options: &[&str]| {
        let mut rustc = Command::new("rustc");
        rustc.args(["--edition=2024", "-O", "-C", "strip=symbols"]).args(options).arg("-o").arg(&program).arg(&source);
        rustc.output().expect("rustc is there where cargo is").status.success()
    };
    let right = built(&["-C", "target-feature=+crt-static", "-C", "relocation-model=static"]) || built(&[]);
    assert!(right, "the command can be compiled");
    program.display().to_string()
}

/// Where commands tell.
pub struct Starts(UdpSocket);

impl Starts {
    /// On a free port.
    pub fn listen() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback has a free port");
        socket.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket takes options");
        Self(socket)
    }

    /// The command line of the command number `index`, whose program is `program`.
    pub fn command(&self, program: &str, index: usize) -> [String; 3] {
        let port = self.0.local_addr().expect("a bound socket has an address").port();
        [program.to_owned(), port.to_string(), index.to_string()]
    }

    /// The next one to have told.
    pub fn next(&self) -> Start {
        let mut bytes = [0; 64];
        let length = loop {
            match self.0.recv(&mut bytes) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                received => break received.expect("a command begins within a minute"),
            }
        };
        let text = std::str::from_utf8(&bytes[..length]).expect("a command tells text");
        let mut words = text.split(' ').map(|word| word.parse::<u64>().expect("a command tells numbers"));
        let mut word = || words.next().expect("a command tells two numbers");
        Start { index: usize::try_from(word()).expect("an index is small"), at: Duration::from_nanos(word()) }
    }
}
