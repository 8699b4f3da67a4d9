//! The engine's own word on the order: transactions replayed by sequence number must see exactly what they saw. Stronger than the
//! checker where the engine tells the truth; the checker does not need it to.

use std::collections::HashMap;

use crate::history::{Event, History, Model, Transaction, Variable, Version};
use crate::report::Numbered;

/// The first transaction that saw something else. Where numbers are shared (`is_shared`: by the commits of a slot of the shared log)
/// those of one number must not meet: each saw what was there before all of them.
pub fn replay(history: &History, is_shared: bool) -> Result<(), String> {
    let all = Numbered::new(history);
    let wrote = |transaction: &Transaction| transaction.committed() && transaction.writes().next().is_some();
    let mut order: Vec<_> = (0..).zip(&all.transactions).collect();
    // What wrote nothing belongs right behind its snapshot.
    let place = |transaction: &Transaction| (transaction.seq, !wrote(transaction));
    order.sort_by_key(|(_, transaction)| place(transaction));
    let mut state: HashMap<Variable, Vec<Version>> = HashMap::new();
    for group in order.chunk_by(|(_, one), (_, other)| place(one) == place(other)) {
        let mut writes = HashMap::new();
        for (node, transaction) in group {
            let written = apply(&state, history.model, transaction)
                .map_err(|expected| format!("{expected}: {}", all.describe(*node)))?;
            let meets =
                !writes.is_empty() && (!is_shared || written.keys().any(|key| writes.contains_key(key)));
            if wrote(transaction) && meets {
                return Err(format!("a second commit has the number of {}", all.describe(*node)));
            }
            if wrote(transaction) {
                writes.extend(written);
            }
        }
        state.extend(writes);
    }
    Ok(())
}

/// Gives what the transaction would leave behind; fails with what it should have seen.
fn apply(
    state: &HashMap<Variable, Vec<Version>>,
    model: Model,
    transaction: &Transaction,
) -> Result<HashMap<Variable, Vec<Version>>, String> {
    let mut writes: HashMap<Variable, Vec<Version>> = HashMap::new();
    for event in &transaction.events {
        match event {
            Event::Read { variable, seen } => {
                let there = writes.get(variable).or_else(|| state.get(variable));
                let there = there.map_or(&[][..], Vec::as_slice);
                if there != seen {
                    return Err(format!("{variable} is {there:?} at its place"));
                }
            }
            Event::Write { variable, version } => {
                let value = writes
                    .entry(*variable)
                    .or_insert_with(|| state.get(variable).cloned().unwrap_or_default());
                model.write(value, *version);
            }
        }
    }
    Ok(writes)
}
