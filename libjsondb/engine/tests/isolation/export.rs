//! Histories as JSON, for other checkers: an array of sessions, each an array of transactions, each
//! `{"events": [{"Write": {"variable": n, "version": n}}, {"Read": {"variable": n, "version": n or null}}], "committed": true}`.
//!
//! An append to a list is a write of its version, which no other write of that variable has; a read of a list is a read of its last
//! element. A removal of a register is a write like any other. A read of what was never written has the version null.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::history::{Event, History, Transaction, Variable, Version};

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exported {
    pub events: Vec<ExportedEvent>,
    pub committed: bool,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum ExportedEvent {
    Write { variable: Variable, version: Version },
    Read { variable: Variable, version: Option<Version> },
}

/// One file for several databases: they share no variable, so their sessions are one history.
pub fn export(path: &Path, histories: &[History]) {
    let count = histories.len() as u64;
    let sessions: Vec<Vec<Exported>> = (0..)
        .zip(histories)
        .flat_map(|(index, history)| history.sessions.iter().map(move |session| (index, session)))
        .map(|(index, session)| {
            let rename = |variable| variable * count + index;
            session.iter().map(|transaction| exported(transaction, rename)).collect()
        })
        .collect();
    let mut file = BufWriter::new(File::create(path).unwrap());
    serde_json::to_writer(&mut file, &sessions).unwrap();
    file.flush().unwrap();
}

fn exported(transaction: &Transaction, rename: impl Fn(Variable) -> Variable) -> Exported {
    let events = transaction.events.iter().map(|event| match event {
        Event::Read { variable, seen } => {
            ExportedEvent::Read { variable: rename(*variable), version: seen.last().copied() }
        }
        Event::Write { variable, version } => {
            ExportedEvent::Write { variable: rename(*variable), version: *version }
        }
    });
    Exported { events: events.collect(), committed: transaction.committed() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::{Guarantee, check};
    use crate::history::{Model, Outcome, Session};

    fn text_of(histories: &[History]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.json");
        export(&path, histories);
        std::fs::read_to_string(path).unwrap()
    }

    fn transaction(outcome: Outcome, events: &[Event]) -> Transaction {
        Transaction { events: events.to_vec(), operations: 1, outcome, seq: 1, began: 2, ended: 3 }
    }

    #[test]
    fn the_format_is_what_other_checkers_expect() {
        let events = [
            Event::Read { variable: 5, seen: vec![] },
            Event::Write { variable: 5, version: 8 },
            Event::Read { variable: 5, seen: vec![7, 8] },
        ];
        let lists = vec![vec![transaction(Outcome::Committed, &events), transaction(Outcome::Conflict, &[])]];
        let registers = vec![vec![], vec![transaction(Outcome::RolledBack, &events[1..2])]];
        let histories = [
            History { model: Model::Lists, sessions: lists },
            History { model: Model::Registers, sessions: registers },
        ];
        let events = [
            r#"{"Read":{"variable":10,"version":null}}"#,
            r#"{"Write":{"variable":10,"version":8}}"#,
            r#"{"Read":{"variable":10,"version":8}}"#,
        ];
        let expected = format!(
            r#"[[{{"events":[{}],"committed":true}},{{"events":[],"committed":false}}],[],[{{"events":[{}],"committed":false}}]]"#,
            events.join(","),
            r#"{"Write":{"variable":11,"version":8}}"#,
        );
        assert_eq!(text_of(&histories), expected);
    }

    /// What a reader of the file knows: no lists, no times, no numbers of the engine.
    fn imported(text: &str) -> History {
        let sessions: Vec<Vec<Exported>> = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&sessions).unwrap(), text, "nothing else is in the file");
        let event = |event| match event {
            ExportedEvent::Read { variable, version } => {
                Event::Read { variable, seen: version.into_iter().collect() }
            }
            ExportedEvent::Write { variable, version } => Event::Write { variable, version },
        };
        let session = |session: Vec<Exported>| -> Session {
            let transactions = session.into_iter().map(|exported| {
                let outcome = if exported.committed { Outcome::Committed } else { Outcome::RolledBack };
                transaction(outcome, &exported.events.into_iter().map(event).collect::<Vec<_>>())
            });
            transactions.collect()
        };
        History { model: Model::Registers, sessions: sessions.into_iter().map(session).collect() }
    }

    #[test]
    fn exported_histories_can_be_checked_elsewhere() {
        let runs = [(Model::Lists, 1, 4), (Model::Registers, 2, 2)];
        let histories = runs.map(|run| crate::record(run, 2_000, crate::common::seed()));
        let imported = imported(&text_of(&histories));
        let count = |history: &History| history.transactions().count();
        assert_eq!(count(&imported), histories.iter().map(count).sum::<usize>());
        let report = check(&imported, Guarantee::Serializable);
        assert_eq!(report.count, 0, "{report}");
        assert!(report.edges > 2_000, "{} edges", report.edges);
    }
}
