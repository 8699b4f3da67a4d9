//! The engine's own word on the order: transactions replayed by sequence number must see exactly what they saw. Stronger than the
//! checker where the engine tells the truth; the checker does not need it to.

use std::collections::{HashMap, HashSet};

use crate::history::{Event, History, Model, Transaction, Variable, Version};
use crate::report::Numbered;

/// The first transaction that saw something else.
pub fn replay(history: &History) -> Result<(), String> {
    let all = Numbered::new(history);
    let wrote = |transaction: &Transaction| transaction.committed() && transaction.writes().next().is_some();
    let mut order: Vec<_> = (0..).zip(&all.transactions).collect();
    // What wrote nothing belongs right behind its snapshot.
    order.sort_by_key(|(_, transaction)| (transaction.seq, !wrote(transaction)));
    let mut state: HashMap<Variable, Vec<Version>> = HashMap::new();
    let mut taken = HashSet::new();
    for (node, transaction) in order {
        let writes = apply(&state, history.model, transaction)
            .map_err(|expected| format!("{expected}: {}", all.describe(node)))?;
        if wrote(transaction) {
            if !taken.insert(transaction.seq) {
                return Err(format!("a second commit has the number of {}", all.describe(node)));
            }
            state.extend(writes);
        }
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
