//! Which fields of an object key order and identify it.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::{Error, ErrorCode, Result};

/// The fields that order and identify object keys, the most significant first. Other fields ride along with the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexSpecification {
    /// At least one.
    pub index_fields: Vec<IndexField>,
}

/// One field of an [`IndexSpecification`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexField {
    /// Its name in the object.
    pub field_name: String,
    /// False: greater values come first.
    #[serde(default = "ascending")]
    pub ascending_sort_order: bool,
}

fn ascending() -> bool {
    true
}

impl IndexSpecification {
    /// Reads JSON text; an empty text or a null means that there is none.
    pub(super) fn parse(text: &str) -> Result<Option<Self>> {
        if text.trim().is_empty() {
            return Ok(None);
        }
        let specification: Option<Self> = serde_json::from_str(text).map_err(|error| {
            invalid(format!("index_specification is not an index specification: {error}"))
        })?;
        if let Some(specification) = &specification {
            specification.check()?;
        }
        Ok(specification)
    }

    /// The one spelling of this specification.
    pub(super) fn text(&self) -> String {
        serde_json::to_string(self).expect("strings and bools are always JSON")
    }

    fn check(&self) -> Result<()> {
        if self.index_fields.is_empty() {
            return Err(invalid("index_specification names no field"));
        }
        let mut names = HashSet::new();
        for field in &self.index_fields {
            if !names.insert(&field.field_name) {
                return Err(invalid(format!("index_specification names field {:?} twice", field.field_name)));
            }
        }
        Ok(())
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorCode::Validation, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_and_null_mean_none() {
        for text in ["", " ", "null"] {
            assert_eq!(IndexSpecification::parse(text).unwrap(), None);
        }
    }

    #[test]
    fn ascending_is_the_default() {
        let text =
            r#"{"index_fields": [{"field_name": "a"}, {"field_name": "b", "ascending_sort_order": false}]}"#;
        let specification = IndexSpecification::parse(text).unwrap().unwrap();
        assert!(specification.index_fields[0].ascending_sort_order);
        assert!(!specification.index_fields[1].ascending_sort_order);
        assert_eq!(IndexSpecification::parse(&specification.text()).unwrap(), Some(specification));
    }

    #[test]
    fn useless_ones_are_refused() {
        let twice = r#"{"index_fields": [{"field_name": "a"}, {"field_name": "a"}]}"#;
        for text in [r#"{"index_fields": []}"#, r#"{"index_fields": null}"#, "{", "[]", "1", twice] {
            assert_eq!(IndexSpecification::parse(text).unwrap_err().code(), ErrorCode::Validation, "{text}");
        }
    }
}
