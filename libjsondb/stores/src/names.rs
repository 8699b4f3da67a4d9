//! Names of stores. A prefix per kind keeps a B-tree and a vector store of one name apart in the engine.

use crate::{Error, ErrorCode, Result};

/// Longest name of a store, in characters.
const NAME_CHARS_MAX: usize = 128;

/// Kind of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoreKind {
    Btree,
    Vector,
    Model,
}

impl StoreKind {
    pub(crate) const ALL: [StoreKind; 3] = [StoreKind::Btree, StoreKind::Vector, StoreKind::Model];

    fn prefix(self) -> &'static str {
        match self {
            StoreKind::Btree => "b/",
            StoreKind::Vector => "v/",
            StoreKind::Model => "m/",
        }
    }

    /// As programs know it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            StoreKind::Btree => "btree",
            StoreKind::Vector => "vector",
            StoreKind::Model => "model",
        }
    }

    /// As messages call it.
    pub(crate) fn noun(self) -> &'static str {
        match self {
            StoreKind::Btree => "B-tree",
            StoreKind::Vector => "vector store",
            StoreKind::Model => "model store",
        }
    }
}

/// The engine's name of the user's store `name`: checked, with the prefix of its kind.
pub(crate) fn engine_name(kind: StoreKind, name: &str) -> Result<String> {
    check(name)?;
    Ok(format!("{}{name}", kind.prefix()))
}

/// Kind and user's name of an engine store; None for one that this version does not know.
pub(crate) fn kind_of(engine_name: &str) -> Option<(StoreKind, &str)> {
    StoreKind::ALL.into_iter().find_map(|kind| Some((kind, engine_name.strip_prefix(kind.prefix())?)))
}

/// The user's name of an engine store.
pub(crate) fn user_name(engine_name: &str) -> &str {
    kind_of(engine_name).map_or(engine_name, |(_, name)| name)
}

fn check(name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(Error::new(ErrorCode::Validation, "a store name can't be an empty string"));
    }
    let count = name.chars().count();
    if count > NAME_CHARS_MAX {
        let message = format!("a store name has at most {NAME_CHARS_MAX} characters, this one has {count}");
        return Err(Error::new(ErrorCode::Validation, message));
    }
    if name.chars().any(char::is_control) {
        let message = format!("a store name has no control characters, this one does: {name:?}");
        return Err(Error::new(ErrorCode::Validation, message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_never_collide() {
        assert_eq!(engine_name(StoreKind::Btree, "x").unwrap(), "b/x");
        assert_eq!(engine_name(StoreKind::Vector, "x").unwrap(), "v/x");
        assert_eq!(engine_name(StoreKind::Model, "b/x").unwrap(), "m/b/x");
        assert_eq!(user_name("m/b/x"), "b/x");
    }

    #[test]
    fn bad_names_are_validation_errors() {
        for name in ["", "a\nb", "\u{85}", &"x".repeat(129)] {
            let error = engine_name(StoreKind::Btree, name).unwrap_err();
            assert_eq!(error.code(), ErrorCode::Validation, "{name:?}");
        }
        assert!(engine_name(StoreKind::Btree, &"é".repeat(128)).is_ok());
        assert!(engine_name(StoreKind::Btree, "a/../b").is_ok());
    }
}
