//! The Authorization header, and the passwords of the web configuration file's users (SEC-1).
//!
//! Like the exporter-toolkit: bcrypt runs one at a time, its answers are remembered, and a user that does not exist takes
//! as long as one that does.
//!
//! **Invariant:** no password is kept; what is remembered are hashes, their number is bounded, and an answer belongs to
//! the very hash it was found against, so that a changed password counts at once.
#![expect(clippy::disallowed_methods, reason = "bcrypt would hold up an async thread")]

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use super::access::{Credential, Digest, digest};

/// Answers remembered.
const ANSWERS_MAX: usize = 100;

/// Passwords remembered with the peer they were right from.
const PROVEN_MAX: usize = 256;

/// Passwords that wait for their turn; beyond that they are refused, for each costs a tenth of a second.
const WAITING_MAX: usize = 32;

/// What users that do not exist are compared with; the toolkit has the same, of cost 10.
const NOBODY: &str = "$2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi";

/// What the Authorization header says.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Header {
    /// It can be judged as it is.
    Plain(Credential),
    /// A user and a password.
    Basic(String, String),
}

/// Reads the Authorization header.
pub(super) fn read(headers: &HeaderMap) -> Header {
    let wrong = |why| Header::Plain(Credential::Wrong(why));
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Header::Plain(Credential::None) };
    if values.next().is_some() {
        return wrong("there is more than one Authorization header");
    }
    let (scheme, rest) = match value.as_bytes().iter().position(|byte| *byte == b' ') {
        Some(at) => (&value.as_bytes()[..at], value.as_bytes()[at..].trim_ascii()),
        None => (value.as_bytes(), &b""[..]),
    };
    if scheme.eq_ignore_ascii_case(b"bearer") {
        return Header::Plain(Credential::Bearer(digest(rest)));
    }
    if scheme.eq_ignore_ascii_case(b"basic") {
        let decoded = STANDARD.decode(rest).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        return match decoded.as_deref().and_then(|text| text.split_once(':')) {
            Some((user, password)) => Header::Basic(user.to_owned(), password.to_owned()),
            None => wrong("the Authorization header has no user and password in base64"),
        };
    }
    wrong("the Authorization header is neither `Bearer TOKEN` nor `Basic CREDENTIALS`")
}

/// Looks at passwords, one at a time.
#[derive(Debug)]
pub(super) struct Passwords {
    turn: Arc<Semaphore>,
    waiting: Semaphore,
    answers: Mutex<HashMap<Digest, bool>>,
}

impl Default for Passwords {
    fn default() -> Self {
        Self { turn: Arc::new(Semaphore::new(1)), waiting: Semaphore::new(WAITING_MAX), answers: Mutex::default() }
    }
}

impl Passwords {
    /// The credential that a user's password makes; `None` if too many wait to be looked at.
    pub(super) async fn check(
        &self,
        user: String,
        password: String,
        users: &BTreeMap<String, String>,
    ) -> Option<Credential> {
        const WRONG: Credential = Credential::Wrong("the user or the password is wrong");
        if users.is_empty() {
            return Some(Credential::Wrong("there are no users here: a bearer token is needed"));
        }
        let known = users.get(&user).cloned();
        let exists = known.is_some();
        let hash = known.unwrap_or_else(|| NOBODY.to_owned());
        let key = Self::key(&user, &password, &hash);
        let remembered = self.answers.lock().unwrap_or_else(PoisonError::into_inner).get(&key).copied();
        let right = match remembered {
            Some(right) => right,
            None => {
                let _waiting = self.waiting.try_acquire().ok()?;
                let turn = Arc::clone(&self.turn).acquire_owned().await.ok()?;
                // The turn travels with the work: a client that hangs up does not let the next one begin beside it.
                let right = tokio::task::spawn_blocking(move || {
                    let _turn = turn;
                    bcrypt::verify(password, &hash).unwrap_or(false)
                });
                let right = right.await.unwrap_or(false) && exists;
                remember(&mut self.answers.lock().unwrap_or_else(PoisonError::into_inner), key, right);
                right
            }
        };
        Some(if right { Credential::User(user) } else { WRONG })
    }

    fn key(user: &str, password: &str, hash: &str) -> Digest {
        let mut digest = Sha256::new();
        for text in [user, password, hash] {
            digest.update((text.len() as u64).to_be_bytes());
            digest.update(text.as_bytes());
        }
        digest.finalize().into()
    }
}

/// Keeps an answer. Wrong ones never drive out right ones, of which there are more than fit only after many changes of
/// passwords.
fn remember(answers: &mut HashMap<Digest, bool>, key: Digest, right: bool) {
    if answers.len() >= ANSWERS_MAX {
        answers.retain(|_, right| *right);
    }
    if answers.len() >= ANSWERS_MAX {
        if !right {
            return;
        }
        answers.clear();
    }
    answers.insert(key, right);
}

/// Passwords that were right, each from the peer it came from. They are looked at however often that peer fails
/// otherwise, so that nobody beside a scraper, or behind the same proxy, can end its scrapes.
#[derive(Debug, Default)]
pub(super) struct Proven(Mutex<VecDeque<Digest>>);

impl Proven {
    fn key(peer: IpAddr, user: &str, password: &str) -> Digest {
        Passwords::key(&peer.to_string(), user, password)
    }

    /// Whether it was right from there when it was looked at last.
    pub(super) fn has(&self, peer: IpAddr, user: &str, password: &str) -> bool {
        let key = Self::key(peer, user, password);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&key)
    }

    /// Notes whether it was right.
    pub(super) fn note(&self, peer: IpAddr, user: &str, password: &str, right: bool) {
        let key = Self::key(peer, user, password);
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match keys.iter().position(|known| *known == key) {
            Some(at) if !right => drop(keys.remove(at)),
            None if right => {
                if keys.len() >= PROVEN_MAX {
                    keys.pop_front();
                }
                keys.push_back(key);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn header(values: &[&'static str]) -> Header {
        let mut map = HeaderMap::new();
        for value in values {
            map.append(header::AUTHORIZATION, HeaderValue::from_static(value));
        }
        read(&map)
    }

    /// SEC-1: the forms of an Authorization header.
    #[test]
    fn the_header_is_read() {
        let basic = |user: &str, password: &str| Header::Basic(user.to_owned(), password.to_owned());
        assert!(header(&[]) == Header::Plain(Credential::None));
        assert!(header(&["Bearer abc"]) == Header::Plain(Credential::Bearer(digest(b"abc"))));
        assert!(header(&["bEARER   abc "]) == Header::Plain(Credential::Bearer(digest(b"abc"))));
        assert!(header(&["Basic YWxpY2U6YTpi"]) == basic("alice", "a:b"));
        assert!(header(&["basic Og=="]) == basic("", ""));
        let wrong = ["Basic", "Basic YWxpY2U=", "Basic !", "Basic /w==", "Digest x", "", "B"];
        for value in wrong {
            assert!(matches!(header(&[value]), Header::Plain(Credential::Wrong(_))), "{value}");
        }
        assert!(matches!(header(&["Bearer a", "Bearer a"]), Header::Plain(Credential::Wrong(_))));
    }

    /// SEC-1: right user, right password; an answer is remembered, and does not outlive the hash it belongs to.
    #[tokio::test]
    async fn passwords_are_looked_at() {
        let hash = |password: &str| bcrypt::hash(password, 4).unwrap();
        let mut users = BTreeMap::from([("alice".to_owned(), hash("pass")), ("bob".to_owned(), hash("word"))]);
        let passwords = Passwords::default();
        let alice = Some(Credential::User("alice".to_owned()));
        for _ in 0..2 {
            let check = |user: &str, password: &str| passwords.check(user.to_owned(), password.to_owned(), &users);
            assert_eq!(check("alice", "pass").await, alice);
            for (user, password) in [("alice", "word"), ("bob", "pass"), ("carol", "pass"), ("", ""), ("alice", "")] {
                assert!(matches!(check(user, password).await, Some(Credential::Wrong(_))), "{user} {password}");
            }
            assert_eq!(passwords.answers.lock().unwrap().len(), 6);
        }
        users.insert("alice".to_owned(), hash("new"));
        assert_ne!(passwords.check("alice".to_owned(), "pass".to_owned(), &users).await, alice);
        assert_eq!(passwords.check("alice".to_owned(), "new".to_owned(), &users).await, alice);
        for n in 0..200 {
            let _ = passwords.check("alice".to_owned(), n.to_string(), &users).await;
        }
        assert!(passwords.answers.lock().unwrap().len() <= ANSWERS_MAX);
    }

    /// SEC-1: the password behind the hash of nobody opens nothing, and is remembered as wrong.
    #[tokio::test]
    async fn nobody_is_nobody() {
        let users = BTreeMap::from([("alice".to_owned(), bcrypt::hash("pass", 4).unwrap())]);
        let passwords = Passwords::default();
        let found = passwords.check("nobody".to_owned(), "fakepassword".to_owned(), &users).await;
        assert!(matches!(found, Some(Credential::Wrong(_))));
        assert!(passwords.answers.lock().unwrap().values().all(|right| !right), "remembered as right");
        assert!(NOBODY.parse::<bcrypt::HashParts>().is_ok());
    }

    /// SEC-2: wrong answers never drive out right ones, and the number of all stays bounded.
    #[test]
    fn guesses_drive_out_nobody() {
        let mut answers = HashMap::new();
        let key = |n: usize| digest(&n.to_be_bytes());
        for n in 0..ANSWERS_MAX {
            remember(&mut answers, key(n), true);
        }
        for n in 0..1_000 {
            remember(&mut answers, key(10_000 + n), false);
        }
        assert!((0..ANSWERS_MAX).all(|n| answers.get(&key(n)) == Some(&true)));
        remember(&mut answers, key(5_000), true);
        assert!(answers.len() <= ANSWERS_MAX && answers.get(&key(5_000)) == Some(&true));
    }

    /// SEC-2: what was right is known by peer, user and password, until it is wrong; the oldest makes room.
    #[test]
    fn what_was_right_is_known() {
        let (proven, here, there) = (Proven::default(), IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        proven.note(here, "alice", "pass", true);
        proven.note(there, "alice", "pass", false);
        for (peer, user, password, known) in [
            (here, "alice", "pass", true),
            (there, "alice", "pass", false),
            (here, "bob", "pass", false),
            (here, "alice", "word", false),
            (here, "alicep", "ass", false),
        ] {
            assert_eq!(proven.has(peer, user, password), known, "{peer} {user} {password}");
        }
        proven.note(here, "alice", "pass", false);
        assert!(!proven.has(here, "alice", "pass"));
        for n in 0..=PROVEN_MAX {
            proven.note(here, "alice", &n.to_string(), true);
            proven.note(here, "alice", &n.to_string(), true);
        }
        assert!(!proven.has(here, "alice", "0") && proven.has(here, "alice", "1"));
    }
}
