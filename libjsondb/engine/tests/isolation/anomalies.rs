//! The checker against histories made by hand: each anomaly is found and named, and nothing is found where there is none.

use crate::checker::{Guarantee, check};
use crate::history::{Event, History, Model, Outcome, Session, Transaction, Variable, Version};
use crate::report::Kind;

const X: Variable = 1;
const Y: Variable = 2;
const Z: Variable = 3;

fn read(variable: Variable, seen: &[Version]) -> Event {
    Event::Read { variable, seen: seen.to_vec() }
}

fn write(variable: Variable, version: Version) -> Event {
    Event::Write { variable, version }
}

fn ended(outcome: Outcome, events: &[Event]) -> Transaction {
    Transaction { events: events.to_vec(), operations: 0, outcome, seq: 0, began: 0, ended: 0 }
}

fn committed(events: &[Event]) -> Transaction {
    ended(Outcome::Committed, events)
}

fn during(began: u64, ended: u64, events: &[Event]) -> Transaction {
    Transaction { began, ended, ..committed(events) }
}

fn kinds_of(model: Model, guarantee: Guarantee, sessions: Vec<Session>) -> Vec<Kind> {
    let report = check(&History { model, sessions }, guarantee);
    assert_eq!(report.count, report.anomalies.len() as u64, "{report}");
    report.anomalies.iter().map(|anomaly| anomaly.kind).collect()
}

/// What is found among transactions of as many sessions.
fn found(model: Model, transactions: &[Transaction]) -> Vec<Kind> {
    let sessions = transactions.iter().map(|transaction| vec![transaction.clone()]).collect();
    kinds_of(model, Guarantee::Serializable, sessions)
}

fn registers(transactions: &[Transaction]) -> Vec<Kind> {
    found(Model::Registers, transactions)
}

fn lists(transactions: &[Transaction]) -> Vec<Kind> {
    found(Model::Lists, transactions)
}

#[test]
fn serializable_histories_have_no_anomalies() {
    let chain = [
        committed(&[read(X, &[]), write(X, 1), read(X, &[1])]),
        committed(&[read(Y, &[]), read(X, &[1]), write(X, 2), write(Y, 3), write(Y, 4)]),
        ended(Outcome::Conflict, &[read(X, &[1]), write(X, 5), read(X, &[5])]),
        committed(&[read(X, &[2]), read(Y, &[4])]),
        committed(&[write(Z, 6)]),
        committed(&[read(X, &[1]), read(Y, &[])]),
    ];
    assert_eq!(registers(&chain), []);
    let appends = [
        committed(&[read(X, &[]), write(X, 1), write(X, 2), read(X, &[1, 2])]),
        committed(&[read(X, &[1, 2]), read(Y, &[]), write(Y, 3)]),
        ended(Outcome::RolledBack, &[read(Y, &[3]), write(Y, 7), read(Y, &[3, 7])]),
        committed(&[read(X, &[1, 2]), write(X, 4)]),
        committed(&[read(X, &[1, 2, 4]), read(Y, &[3])]),
        committed(&[read(X, &[1, 2]), read(Y, &[])]),
    ];
    assert_eq!(lists(&appends), []);
}

#[test]
fn removals_are_versions() {
    // 2 is a removal: whoever missed the key saw it, and comes before 3.
    let first = committed(&[read(X, &[]), write(X, 1)]);
    let removal = committed(&[read(X, &[1]), write(X, 2)]);
    let again = committed(&[read(X, &[2]), read(Y, &[]), write(X, 3), write(Y, 4)]);
    let missed = committed(&[read(X, &[2]), read(Y, &[])]);
    assert_eq!(registers(&[first.clone(), removal.clone(), again.clone(), missed]), []);
    let skewed = committed(&[read(X, &[2]), read(Y, &[4])]);
    assert_eq!(registers(&[first, removal, again, skewed]), [Kind::GSingle]);
}

#[test]
fn lost_updates_are_found() {
    let first = committed(&[read(X, &[]), write(X, 1)]);
    let one = committed(&[read(X, &[1]), write(X, 2)]);
    let other = committed(&[read(X, &[1]), write(X, 3)]);
    assert!(registers(&[first.clone(), one.clone(), other.clone()]).contains(&Kind::LostUpdate));
    assert!(lists(&[first.clone(), one.clone(), other.clone()]).contains(&Kind::LostUpdate));
    let refused = Transaction { outcome: Outcome::Conflict, ..other };
    assert_eq!(registers(&[first, one, refused]), []);
}

#[test]
fn the_first_write_may_be_lost_too() {
    let transactions = [committed(&[read(X, &[]), write(X, 1)]), committed(&[read(X, &[]), write(X, 2)])];
    assert!(registers(&transactions).contains(&Kind::LostUpdate));
    assert!(lists(&transactions).contains(&Kind::LostUpdate));
}

#[test]
fn cycles_of_writes_are_g0() {
    let transactions = [
        committed(&[write(X, 1), write(Y, 1)]),
        committed(&[write(X, 2), write(Y, 2)]),
        committed(&[read(X, &[1, 2])]),
        committed(&[read(Y, &[2, 1])]),
    ];
    assert_eq!(lists(&transactions), [Kind::G0]);
}

#[test]
fn aborted_reads_are_g1a() {
    for outcome in [Outcome::RolledBack, Outcome::Conflict, Outcome::SnapshotTooOld] {
        let aborted = ended(outcome, &[write(X, 1)]);
        assert_eq!(registers(&[aborted.clone(), committed(&[read(X, &[1])])]), [Kind::AbortedRead]);
        // Also when a later element covers it.
        let above = committed(&[write(X, 2)]);
        assert_eq!(lists(&[aborted, above, committed(&[read(X, &[1, 2])])]), [Kind::AbortedRead]);
    }
}

#[test]
fn intermediate_reads_are_g1b() {
    let writer = committed(&[read(X, &[]), write(X, 1), write(X, 2)]);
    for model in [Model::Lists, Model::Registers] {
        let kinds = found(model, &[writer.clone(), committed(&[read(X, &[1])])]);
        assert!(kinds.contains(&Kind::IntermediateRead), "{kinds:?}");
    }
}

#[test]
fn transactions_that_see_each_other_are_g1c() {
    let transactions = [committed(&[write(X, 1), read(Y, &[1])]), committed(&[write(Y, 1), read(X, &[1])])];
    assert_eq!(registers(&transactions), [Kind::G1c]);
    assert_eq!(lists(&transactions), [Kind::G1c]);
}

#[test]
fn read_skew_is_g_single() {
    let first = committed(&[read(X, &[]), read(Y, &[]), write(X, 1), write(Y, 1)]);
    let second = committed(&[read(X, &[1]), read(Y, &[1]), write(X, 2), write(Y, 2)]);
    let skewed = |ys: &[Version], xs: &[Version]| [read(X, xs), read(Y, ys)];
    let reader = committed(&skewed(&[2], &[1]));
    assert_eq!(registers(&[first.clone(), second.clone(), reader]), [Kind::GSingle]);
    // What did not commit saw one snapshot all the same.
    let refused = ended(Outcome::Conflict, &skewed(&[2], &[1]));
    assert_eq!(registers(&[first, second, refused]), [Kind::GSingle]);
    let first = committed(&[write(X, 1), write(Y, 1)]);
    let second = committed(&[read(X, &[1]), read(Y, &[1]), write(X, 2), write(Y, 2)]);
    let reader = committed(&skewed(&[1, 2], &[1]));
    assert_eq!(lists(&[first, second, reader]), [Kind::GSingle]);
}

#[test]
fn write_skew_is_g2() {
    let transactions = [
        committed(&[read(X, &[]), read(Y, &[]), write(X, 1)]),
        committed(&[read(X, &[]), read(Y, &[]), write(Y, 1)]),
    ];
    assert_eq!(registers(&transactions), [Kind::G2]);
    assert_eq!(lists(&transactions), [Kind::G2]);
}

#[test]
fn phantoms_are_write_skew() {
    // Each scanned X, Y and Z, found nothing or one key, and added another one.
    let scan = |seen: &[Version]| [read(X, seen), read(Y, &[]), read(Z, &[])];
    let with = |write: Event| committed(&[&scan(&[1])[..], &[write]].concat());
    let first = committed(&[read(X, &[]), write(X, 1)]);
    assert_eq!(registers(&[first, with(write(Y, 2)), with(write(Z, 3))]), [Kind::G2]);
}

#[test]
fn a_cycle_of_three_is_shown_with_three() {
    let sessions = vec![
        vec![committed(&[read(X, &[]), read(Y, &[]), write(X, 1)])],
        vec![committed(&[read(Y, &[]), read(Z, &[]), write(Y, 1)])],
        vec![committed(&[read(Z, &[]), read(X, &[]), write(Z, 1)])],
        vec![committed(&[read(X, &[1]), read(Y, &[1]), read(Z, &[1])])],
    ];
    let report = check(&History { model: Model::Registers, sessions }, Guarantee::Serializable);
    let [anomaly] = report.anomalies.as_slice() else { panic!("{report}") };
    assert_eq!(anomaly.kind, Kind::G2);
    assert!(anomaly.text.starts_with("a cycle of 3 transactions"), "{report}");
    for session in 0..3 {
        assert!(anomaly.text.contains(&format!("session {session} transaction 0 (Committed")), "{report}");
    }
}

#[test]
fn versions_are_written_once_and_by_somebody() {
    let twice = [committed(&[write(X, 1)]), committed(&[write(X, 1)])];
    assert_eq!(registers(&twice), [Kind::DuplicateVersion]);
    let repeated = [committed(&[write(X, 1)]), committed(&[read(X, &[1, 1])])];
    assert_eq!(lists(&repeated), [Kind::DuplicateVersion]);
    let unknown = [committed(&[read(X, &[7])])];
    assert_eq!(registers(&unknown), [Kind::UnknownVersion]);
    assert_eq!(lists(&unknown), [Kind::UnknownVersion]);
}

#[test]
fn lists_that_disagree_are_found() {
    let writers = [committed(&[write(X, 1)]), committed(&[write(X, 2)])];
    let readers = [committed(&[read(X, &[1, 2])]), committed(&[read(X, &[2])])];
    assert!(lists(&[writers, readers].concat()).contains(&Kind::IncompatibleOrder));
}

#[test]
fn transactions_see_their_own_writes_and_one_state() {
    let first = committed(&[write(X, 1)]);
    let forgetful = committed(&[read(X, &[1]), write(X, 2), read(X, &[1])]);
    assert!(registers(&[first.clone(), forgetful]).contains(&Kind::Internal));
    let changed = committed(&[read(X, &[]), read(X, &[1])]);
    assert_eq!(registers(&[first.clone(), changed]), [Kind::Internal]);
    let foresight = committed(&[read(X, &[1]), write(X, 1)]);
    assert!(registers(&[foresight]).contains(&Kind::Internal));
    let shortened = committed(&[read(X, &[1]), write(X, 2), read(X, &[2])]);
    assert_eq!(lists(&[first, shortened]), [Kind::Internal]);
}

#[test]
fn stale_reads_are_found_by_real_time_alone() {
    let sessions = |began| {
        vec![
            vec![during(0, 10, &[read(X, &[]), write(X, 1)])],
            vec![during(2, 12, &[read(Y, &[])])],
            vec![during(began, 30, &[read(X, &[])])],
        ]
    };
    assert_eq!(kinds_of(Model::Registers, Guarantee::Serializable, sessions(20)), []);
    assert_eq!(kinds_of(Model::Registers, Guarantee::Strict, sessions(20)), [Kind::RealTime]);
    // Not over before it began.
    assert_eq!(kinds_of(Model::Registers, Guarantee::Strict, sessions(10)), []);
}

#[test]
fn real_time_reaches_over_what_lies_between() {
    let sessions = vec![
        vec![during(0, 1, &[read(X, &[]), write(X, 1)])],
        vec![during(2, 3, &[read(Y, &[])])],
        vec![during(4, 5, &[read(X, &[])])],
    ];
    assert_eq!(kinds_of(Model::Registers, Guarantee::Strict, sessions), [Kind::RealTime]);
}

#[test]
fn sessions_do_not_go_back() {
    let writer = vec![committed(&[read(X, &[]), write(X, 1)])];
    let reader = vec![committed(&[read(X, &[1])]), committed(&[read(X, &[])])];
    let sessions = vec![writer, reader];
    assert_eq!(kinds_of(Model::Registers, Guarantee::Serializable, sessions.clone()), []);
    assert_eq!(kinds_of(Model::Registers, Guarantee::Strict, sessions), [Kind::RealTime]);
}
