//! The machine as timelines, and under events in any order.

use proptest::prelude::*;

use super::super::pattern::Pattern;
use super::*;

fn at(millis: u64) -> Duration {
    Duration::from_millis(1_000_000 + millis)
}

fn field(pointer: &str, value: &str) -> Patterns {
    Patterns(vec![Pattern::Fields(vec![(pointer.to_owned(), value.to_owned())])])
}

fn plan() -> Plan {
    Plan {
        auth: Some(Auth {
            send: vec!["login".to_owned()],
            expect: field("/login", "ok"),
            reject: field("/login", "no"),
            within: Duration::from_secs(2),
        }),
        subscribe: vec!["subscribe".to_owned()],
        ignore: field("/channel", "heartbeat"),
        ping: Ping::default(),
        stale_after: Some(Duration::from_secs(5)),
    }
}

fn machine(plan: Plan) -> Machine {
    let mut machine = Machine::new(Arc::new(plan), 7);
    machine.connecting(at(0));
    machine
}

fn text(machine: &mut Machine, text: &str, millis: u64) -> Vec<Action> {
    machine.message(Body::Text(text), at(millis))
}

fn send(text: &str) -> Action {
    Action::Send(text.to_owned())
}

/// A machine whose connection stands since 0 ms and has been accepted.
fn open(plan: Plan) -> Machine {
    let mut machine = machine(plan);
    machine.connected(at(0));
    text(&mut machine, r#"{"login":"ok"}"#, 0);
    assert_eq!(machine.facts().phase, Phase::Open);
    machine
}

/// EXC-1: credentials first, then subscriptions; usable only once accepted; the check looks at each step that matters.
#[test]
fn from_connection_to_data() {
    let mut machine = machine(plan());
    assert_eq!(machine.connected(at(10)), [send("login")]);
    assert_eq!((machine.facts().phase, machine.facts().authenticated), (Phase::Authenticating, Some(false)));
    assert_eq!(machine.deadline(), at(2_010));
    assert_eq!(text(&mut machine, r#"{"channel":"status"}"#, 20), []);
    assert_eq!(machine.facts().data_at, None);
    let opened = text(&mut machine, r#"{"login":"ok"}"#, 30);
    assert_eq!(opened, [send("subscribe"), Action::Wake, Action::Ping(b"chiron 7 1".to_vec())]);
    let facts = machine.facts();
    assert_eq!((facts.phase, facts.authenticated, facts.down_since), (Phase::Open, Some(true), None));
    assert_eq!(machine.pong(b"chiron 7 1", at(42)), [Action::Wake]);
    assert_eq!(machine.facts().latency, Some(Duration::from_millis(12)));
    assert_eq!(text(&mut machine, r#"{"channel":"trade"}"#, 50), [Action::Wake]);
    assert_eq!(text(&mut machine, r#"{"channel":"trade"}"#, 500), []);
    assert_eq!(machine.facts().data_at, Some(at(500)));
}

/// EXC-1: a refusal and an answer that never comes are told apart; who was refused waits, and is not asked every second.
#[test]
fn refused_or_unanswered() {
    let mut refused = machine(plan());
    refused.connected(at(0));
    let actions = text(&mut refused, r#"{"login":"no"}"#, 100);
    let [Action::Drop(loss)] = actions.as_slice() else { panic!("{actions:?}") };
    assert!(loss.refused && loss.text.contains("does not accept"), "{loss:?}");
    let pause = refused.lost(loss.clone(), at(100)) - at(100);
    assert!(pause >= Duration::from_secs(12), "{pause:?}");
    assert!(refused.facts().refused.is_some());

    let mut silent = machine(plan());
    silent.connected(at(0));
    assert_eq!(silent.tick(at(1_999)), []);
    let actions = silent.tick(at(2_000));
    let [Action::Drop(loss)] = actions.as_slice() else { panic!("{actions:?}") };
    assert!(!loss.refused && loss.text.contains("within 2s"), "{loss:?}");
    assert!(silent.lost(loss.clone(), at(2_000)) - at(2_000) < Duration::from_secs(2));
}

/// EXC-1: 2^n s, a quarter more or less, at most a minute and a quarter; a connection that lasted begins anew; one that
/// breaks at once does not; what the server asks for is granted, within reason.
#[test]
fn pauses_rise_and_are_bounded() {
    let mut machine = machine(Plan { auth: None, ..plan() });
    let mut now = 0;
    let mut attempt = |machine: &mut Machine, lasted: Option<u64>, loss: Loss| {
        machine.connecting(at(now));
        if let Some(lasted) = lasted {
            machine.connected(at(now));
            now += lasted;
            machine.tick(at(now));
        }
        let next = machine.lost(loss, at(now));
        let pause = (next - at(now)).as_secs_f64();
        now += u64::try_from((next - at(now)).as_millis()).unwrap();
        pause
    };
    for (nth, lasted) in [None, None, Some(10), None, Some(4_999), None, None, None, None].into_iter().enumerate() {
        let expected = 2f64.powi(i32::try_from(nth).unwrap()).min(60.0);
        let pause = attempt(&mut machine, lasted, Loss::new("refused"));
        assert!((expected * 0.75..expected * 1.25).contains(&pause), "{nth}: {pause}");
    }
    let after_good = attempt(&mut machine, Some(5_000), Loss::new("closed"));
    assert!(after_good < 1.25, "{after_good}");
    let asked = Loss { retry_after: Some(Duration::from_secs(300)), ..Loss::new("status 429") };
    assert_eq!(attempt(&mut machine, None, asked.clone()), 300.0);
    let forever = Loss { retry_after: Some(Duration::MAX), ..asked };
    assert_eq!(attempt(&mut machine, None, forever), 3_600.0);
}

/// EXC-1: a server that accepts and drops, again and again, is down all the time; one good connection ends that.
#[test]
fn what_breaks_at_once_is_not_usable() {
    let mut machine = machine(Plan { auth: None, ..plan() });
    machine.connected(at(0));
    assert_eq!(machine.facts().down_since, None, "the first one is believed");
    let mut now = 1_000;
    machine.lost(Loss::new("closed"), at(now));
    let since = machine.facts().down_since;
    assert_eq!(since, Some(at(1_000)));
    for _ in 0..5 {
        now += 2_000;
        machine.connecting(at(now));
        machine.connected(at(now));
        now += 4_000;
        machine.tick(at(now));
        assert_eq!(machine.facts().down_since, since, "{now}");
        machine.lost(Loss::new("closed"), at(now));
    }
    machine.connecting(at(now));
    machine.connected(at(now));
    machine.pong(b"chiron 7 7", at(now + 1));
    assert_eq!(machine.deadline(), at(now + 5_000));
    assert!(machine.tick(at(now + 5_000)).contains(&Action::Wake));
    assert_eq!(machine.facts().down_since, None);
}

/// EXC-1: a pong, a heartbeat and a ping of the server are no data; the end of a silence wakes the check.
#[test]
fn only_data_is_data() {
    let mut machine = open(plan());
    for step in 0..40 {
        let now = 200 * step;
        text(&mut machine, r#"{"channel":"heartbeat"}"#, now);
        machine.pong(b"chiron 7 1", at(now));
        machine.pong(b"unasked", at(now));
        machine.heard();
        machine.tick(at(now));
    }
    assert_eq!(machine.facts().data_at, None);
    assert!(machine.facts().is_stale(at(5_000)) && !machine.facts().is_stale(at(4_999)));
    assert_eq!(text(&mut machine, r#"{"channel":"trade"}"#, 9_000), [Action::Wake]);
    assert!(!machine.facts().is_stale(at(9_001)));
    machine.message(Body::Binary, at(9_100));
    assert_eq!(machine.facts().data_at, Some(at(9_100)), "binary messages are data");
    assert_eq!(text(&mut machine, r#"{"channel":"trade"}"#, 14_100), [Action::Wake], "it was stale for a moment");
}

/// EXC-1: a new connection is no data: the silence goes on where the loss cut it off, without the time away; data ends it.
#[test]
fn a_new_connection_revives_no_feed() {
    for (lost_at, stale_at) in [(3_000, 62_000), (6_000, 60_000)] {
        let mut machine = open(Plan { auth: None, ..plan() });
        machine.lost(Loss::new("closed"), at(lost_at));
        machine.connecting(at(60_000));
        machine.connected(at(60_000));
        let stale = |millis| machine.facts().is_stale(at(millis));
        assert!(stale(stale_at) && (stale_at == 60_000 || !stale(stale_at - 1)), "{lost_at}");
        text(&mut machine, "{}", 64_000);
        machine.lost(Loss::new("closed"), at(64_000));
        machine.connecting(at(65_000));
        machine.connected(at(65_000));
        assert!(machine.facts().is_stale(at(70_000)) && !machine.facts().is_stale(at(69_999)), "{lost_at}");
    }
}

/// EXC-1: a dead feed behind a server that ends idle connections is told as dead, learnt or not; and a quiet one behind
/// such a server is learnt across the losses.
#[test]
fn an_idle_timeout_hides_no_silence() {
    let reconnect = |machine: &mut Machine, millis: u64| {
        machine.lost(Loss::new("idle"), at(millis));
        machine.connecting(at(millis + 1_000));
        machine.connected(at(millis + 1_000));
    };
    for stale_after in [Some(Duration::from_secs(50)), None] {
        let mut machine = open(Plan { auth: None, stale_after, ..plan() });
        for minute in 1..4 {
            reconnect(&mut machine, minute * 31_000 - 1_000);
        }
        assert!(machine.facts().is_stale(at(93_000)), "{stale_after:?}: {:?}", machine.facts());
    }
    let mut quiet = open(Plan { auth: None, stale_after: None, ..plan() });
    let mut now = 0;
    for _ in 0..100 {
        text(&mut quiet, "{}", now);
        for _ in 0..3 {
            now += 30_000;
            reconnect(&mut quiet, now);
            now += 1_000;
        }
    }
    let Expected::Learnt(limit) = quiet.facts().expected else { panic!("{:?}", quiet.facts()) };
    assert!((Duration::from_secs(180)..Duration::from_secs(600)).contains(&limit), "{limit:?}");
}

/// EXC-1: before its rhythm is known a feed is given a minute, or four times its longest gap; a feed that never began is
/// known as one.
#[test]
fn a_feed_that_never_begins() {
    let mut machine = machine(Plan { auth: None, stale_after: None, ..plan() });
    machine.connected(at(0));
    assert!(machine.facts().is_rhythm_unknown());
    assert!(machine.facts().is_stale(at(60_000)) && !machine.facts().is_stale(at(59_999)));
    text(&mut machine, "{}", 1_000);
    assert!(!machine.facts().is_rhythm_unknown());
    text(&mut machine, "{}", 41_000);
    assert_eq!(machine.facts().expected, Expected::Learning(Duration::from_secs(160)));
    let set = self::machine(Plan { auth: None, ..plan() });
    assert!(!set.facts().is_rhythm_unknown(), "its rhythm is in the settings");
}

/// EXC-1: an answer in a message of its own, as Kraken's `{"method":"ping"}`; late and lost answers.
#[test]
fn pings_by_message() {
    let ping = Ping { message: Some("ping".to_owned()), expect: field("/method", "pong"), ..Ping::default() };
    let mut machine = open(Plan { auth: None, ping, ..plan() });
    assert_eq!(machine.facts().pinged_at, Some(at(0)));
    // Data just before does not hide it.
    text(&mut machine, "{}", 80);
    assert_eq!(text(&mut machine, r#"{"method":"pong"}"#, 90), [Action::Wake]);
    assert_eq!(machine.facts().latency, Some(Duration::from_millis(90)));
    assert_eq!(machine.facts().data_at, Some(at(80)));
    assert_eq!(machine.tick(at(10_000)), [send("ping")]);
    text(&mut machine, "{}", 15_000);
    assert_eq!(machine.tick(at(20_000)), [send("ping")], "given up, since other things were heard, and tried again");
    assert_eq!(machine.facts().latency, None);
    assert_eq!(text(&mut machine, r#"{"method":"pong"}"#, 20_300), [Action::Wake]);
    text(&mut machine, r#"{"method":"pong"}"#, 21_000);
    assert_eq!(machine.facts().data_at, Some(at(15_000)), "one more answer is no data");
    machine.tick(at(30_000));
    let actions = machine.tick(at(40_000));
    let [Action::Drop(loss)] = actions.as_slice() else { panic!("{actions:?}") };
    assert!(loss.text.contains("nothing else either"), "{loss:?}");
}

/// EXC-1: of a flood only so much is looked into.
#[test]
fn a_flood_is_not_read_to_the_end() {
    let mut machine = open(plan());
    let heartbeat = r#"{"channel":"heartbeat"}"#;
    (0..10_000).for_each(|_| drop(text(&mut machine, heartbeat, 10)));
    assert!(machine.looks.1 > LOOKS_MAX);
    assert_eq!(machine.facts().data_at, None, "what is not looked into is no data");
    assert_eq!(text(&mut machine, "{}", 200), [Action::Wake]);
}

/// EXC-1: the rhythm is learnt from the feed itself, and a limit that is set is not changed by it.
#[test]
fn the_limit_is_learnt_unless_it_is_set() {
    for (stale_after, expected) in [
        (None, Expected::Learnt(Duration::from_secs(5))),
        (Some(Duration::from_secs(9)), Expected::Set(Duration::from_secs(9))),
    ] {
        let mut machine = open(Plan { auth: None, stale_after, ..plan() });
        for second in 0..100 {
            text(&mut machine, "{}", second * 1_000);
            if second == 20 && stale_after.is_none() {
                assert_eq!(machine.facts().expected, Expected::Learning(Duration::from_secs(60)));
            }
        }
        assert_eq!(machine.facts().expected, expected);
        assert!(machine.facts().is_stale(at(99_000) + expected.limit()));
    }
}

proptest! {
    /// EXC-1: whatever comes in whatever order, there is always something to wait for, time never runs out, and nothing
    /// but data is data.
    #[test]
    fn any_order_of_events(steps in prop::collection::vec((0u8..9, 0u64..4_000), 0..200), auth: bool) {
        let mut machine = machine(Plan { auth: plan().auth.filter(|_| auth), ..plan() });
        let (mut now, mut data) = (0, None);
        for (event, passed) in steps {
            now += passed;
            let was_open = machine.facts().phase == Phase::Open;
            let actions = match event {
                0 => { machine.connecting(at(now)); Vec::new() }
                1 if machine.facts().phase == Phase::Connecting => machine.connected(at(now)),
                2 => text(&mut machine, r#"{"login":"ok"}"#, now),
                3 => text(&mut machine, r#"{"channel":"heartbeat"}"#, now),
                4 => { data = if was_open { Some(at(now)) } else { data }; machine.message(Body::Binary, at(now)) }
                5 => { let payload = machine.payload(); machine.pong(&payload, at(now)) }
                6 => machine.tick(at(now)),
                7 => { machine.lost(Loss::new("closed"), at(now)); Vec::new() }
                _ => text(&mut machine, r#"{"login":"no"}"#, now),
            };
            data = if was_open && matches!(event, 1 | 2 | 8) { Some(at(now)) } else { data };
            for action in actions {
                if let Action::Drop(loss) = action {
                    let next = machine.lost(loss, at(now));
                    prop_assert!(next > at(now) && next <= at(now) + Duration::from_secs(75));
                }
            }
            if matches!(machine.facts().phase, Phase::Open | Phase::Authenticating) {
                machine.tick(at(now));
                prop_assert!(machine.deadline() < Duration::MAX);
            }
            let facts = machine.facts();
            prop_assert!(facts.data_at <= data && data.is_none_or(|data| facts.data_at.is_some_and(|at| data - at < SKIM)));
            prop_assert_eq!(facts.phase == Phase::Open && facts.authenticated == Some(false), false);
        }
    }
}
