//! What the coordinator says of a server that is there, and of one that is not.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cluster::{Error, Redis};
use common::RedisServer;
use engine::{CachedBlob, Coordinator, Seq};
use redis::Commands;
use uuid::Uuid;

const ONE: Uuid = Uuid::from_u128(1);
const TWO: Uuid = Uuid::from_u128(2);
const BLOB: CachedBlob = CachedBlob { segment: (3, 4), offset: 5 };
const LONG: Duration = Duration::from_secs(600);

/// However busy this machine is.
fn connected(server: &RedisServer) -> Redis {
    let redis = Redis::answering_within(Duration::from_secs(60));
    redis.open(&server.url()).unwrap();
    redis
}

/// Announces, and waits until the server knows: it answers in the order in which it was asked.
fn announce(redis: &Redis, slot: Seq) {
    redis.announce(ONE, slot);
    assert_eq!(redis.head(ONE), Some(slot));
}

#[test]
fn what_one_process_tells_another_one_hears() {
    let server = RedisServer::start();
    let (one, other) = (connected(&server), connected(&server));
    assert_eq!(other.head(ONE), None);
    announce(&one, Seq(7));
    assert_eq!(other.head(ONE), Some(Seq(7)));
    one.cache(ONE, BLOB, b"bytes", LONG);
    assert_eq!(other.cached(ONE, BLOB).as_deref(), Some(&b"bytes"[..]));
    assert_eq!(other.cached(ONE, CachedBlob { offset: 6, ..BLOB }), None);
}

#[test]
fn databases_never_mix() {
    let server = RedisServer::start();
    let redis = connected(&server);
    redis.announce(ONE, Seq(7));
    redis.cache(ONE, BLOB, b"bytes", LONG);
    redis.note_conflict(ONE, 9);
    let turn = redis.queue(ONE, 9, &|| true);
    assert!(turn.is_some());
    let prefix = format!("sop:{ONE}:");
    let keys = server.keys();
    assert_eq!(keys.len(), 4, "{keys:?}");
    assert!(keys.iter().all(|key| key.starts_with(&prefix)), "{keys:?}");
    assert_eq!(redis.head(TWO), None);
    assert_eq!(redis.cached(TWO, BLOB), None);
    assert!(!redis.is_hot(TWO, 9));
    // Its own queue: nobody is before it.
    assert!(connected(&server).queue(TWO, 9, &|| panic!("nobody is waited for")).is_some());
}

#[test]
fn everything_in_the_server_ends_by_itself() {
    let server = RedisServer::start();
    let (redis, waits) = (connected(&server), AtomicBool::new(false));
    redis.announce(ONE, Seq(7));
    redis.cache(ONE, BLOB, b"bytes", LONG);
    redis.note_conflict(ONE, 9);
    let turn = redis.queue(ONE, 9, &|| true);
    // Another process queues up, and gives up.
    assert!(connected(&server).queue(ONE, 9, &|| !waits.swap(true, Ordering::SeqCst)).is_some());
    drop(turn);
    let mut connection = server.connection();
    for key in server.keys() {
        let left: i64 = connection.pttl(&key).unwrap();
        assert!(left != -1, "{key} stays for ever");
    }
}

#[test]
fn a_conflict_of_one_process_makes_the_key_hot_for_all() {
    let server = RedisServer::start();
    let (loser, winner, beginner) = (connected(&server), connected(&server), connected(&server));
    loser.note_conflict(ONE, 9);
    announce(&winner, Seq(1));
    assert!(!winner.is_hot(ONE, 9), "nobody told it yet");
    // A key is hot for seconds; this test may sleep for longer.
    let deadline = Instant::now() + Duration::from_secs(60);
    while !(loser.is_hot(ONE, 9) && winner.is_hot(ONE, 9) && beginner.is_hot(ONE, 9)) {
        assert!(Instant::now() < deadline);
        loser.note_conflict(ONE, 9);
        drop(loser.queue(ONE, 9, &|| true));
        winner.announce(ONE, Seq(2));
        assert!(beginner.head(ONE).is_some());
    }
}

#[test]
fn an_announcement_is_not_waited_for_and_its_answer_is_nobody_elses() {
    let server = RedisServer::start();
    let patience = Duration::from_secs(60);
    let redis = Redis::answering_within(patience);
    redis.open(&server.url()).unwrap();
    server.pause();
    let began = Instant::now();
    redis.announce(ONE, Seq(1));
    assert!(began.elapsed() < patience);
    server.go_on();
    redis.cache(ONE, BLOB, b"bytes", LONG);
    for slot in 2..20 {
        redis.announce(ONE, Seq(slot));
        if slot % 3 == 0 {
            redis.keep(ONE, BLOB, LONG);
            assert_eq!(redis.cached(ONE, BLOB).as_deref(), Some(&b"bytes"[..]));
        }
    }
    assert_eq!(redis.head(ONE), Some(Seq(19)));
}

#[test]
fn what_is_kept_for_longer_ends_later_and_what_is_not_there_stays_away() {
    let server = RedisServer::start();
    let redis = connected(&server);
    redis.cache(ONE, BLOB, b"bytes", LONG);
    redis.keep(ONE, BLOB, 10 * LONG);
    redis.keep(ONE, CachedBlob { offset: 6, ..BLOB }, LONG);
    // Answered after the others.
    assert_eq!(redis.cached(ONE, CachedBlob { offset: 6, ..BLOB }), None);
    let [name] = &server.keys()[..] else { panic!("{:?}", server.keys()) };
    let left: i64 = server.connection().pttl(name).unwrap();
    assert!(left > 5 * LONG.as_millis() as i64, "{left} ms");
}

#[test]
fn a_thread_that_has_the_turn_does_not_wait_for_itself() {
    let server = RedisServer::start();
    let redis = connected(&server);
    let turn = redis.queue(ONE, 9, &|| true);
    assert!(turn.is_some());
    assert!(redis.queue(ONE, 9, &|| panic!("it waits")).is_none());
}

#[test]
fn of_threads_and_processes_one_has_the_turn() {
    let server = RedisServer::start();
    let (inside, met) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let process = connected(&server);
                std::thread::scope(|scope| {
                    for _ in 0..2 {
                        scope.spawn(|| {
                            for _ in 0..50 {
                                let _turn = process.queue(ONE, 9, &|| true);
                                met.fetch_add(inside.fetch_add(1, Ordering::SeqCst), Ordering::SeqCst);
                                inside.fetch_sub(1, Ordering::SeqCst);
                            }
                        });
                    }
                });
            });
        }
    });
    // A lease may end, and a server be too busy to answer: then two have a turn, which decides nothing.
    assert!(met.load(Ordering::SeqCst) <= 30, "{met:?} of 300 met somebody");
    assert!(server.keys().iter().all(|key| key.ends_with(":hot")), "{:?}", server.keys());
}

#[test]
fn without_a_server_nothing_is_known_and_nothing_fails() {
    let mut server = RedisServer::start();
    let (none, lost, closed) = (Redis::default(), connected(&server), connected(&server));
    closed.close();
    server.kill();
    for redis in [none, lost, closed] {
        redis.announce(ONE, Seq(7));
        redis.cache(ONE, BLOB, b"bytes", LONG);
        assert_eq!(redis.head(ONE), None);
        assert_eq!(redis.cached(ONE, BLOB), None);
        redis.note_conflict(ONE, 9);
        assert!(redis.is_hot(ONE, 9));
        // Threads of the process still queue.
        assert!(redis.queue(ONE, 9, &|| true).is_some());
    }
}

/// A server that did not answer is left alone for a while.
fn announce_until_heard(redis: &Redis, server: &RedisServer) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while server.keys().is_empty() {
        assert!(Instant::now() < deadline, "the server is not used again");
        redis.announce(ONE, Seq(7));
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_server_that_comes_back_is_used_again() {
    let mut server = RedisServer::start();
    let redis = Redis::default();
    redis.open(&server.url()).unwrap();
    announce_until_heard(&redis, &server);
    server.call("FLUSHALL");
    announce_until_heard(&redis, &server);
    server.pause();
    assert_eq!(redis.head(ONE), None, "a server that is paused is not waited for");
    server.go_on();
    server.call("FLUSHALL");
    announce_until_heard(&redis, &server);
    server.kill();
    assert_eq!(redis.head(ONE), None);
    server.restart();
    announce_until_heard(&redis, &server);
}

#[test]
fn password_and_database_number_are_used() {
    let server = RedisServer::start_with("secret", &[]);
    let address = server.url().replace("/0", "/3");
    let redis = Redis::answering_within(Duration::from_secs(60));
    redis.open(&address).unwrap();
    announce(&redis, Seq(7));
    assert!(server.keys().is_empty());
    let mut connection = server.connection();
    redis::cmd("SELECT").arg(3).exec(&mut connection).unwrap();
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut connection).unwrap();
    assert_eq!(keys, [format!("sop:{ONE}:head")]);
    let refused = redis.open(&address.replace("secret", "wrong")).unwrap_err();
    assert!(matches!(refused, Error::Unreachable { .. }), "{refused}");
    assert!(!refused.to_string().contains("wrong:"), "{refused}");
    assert_eq!(redis.head(ONE), Some(Seq(7)), "the server before stays");
}

#[test]
fn what_is_wrong_with_an_address_is_told() {
    let redis = Redis::default();
    let told = |address: &str| redis.open(address).unwrap_err().to_string();
    assert!(told("garbage").contains("redis://"));
    assert!(told("http://localhost").contains("redis://"));
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let unreachable = told(&format!("redis://:secret@127.0.0.1:{port}/0"));
    assert!(unreachable.contains(&format!("127.0.0.1:{port}")) && unreachable.contains("redis-server"));
    assert!(!unreachable.contains("secret"));
}
