//! How two environments differ, without showing a secret.

use std::collections::BTreeSet;

use crate::{Resolved, Value};

/// A key whose values differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The key.
    pub key: String,
    /// What may be shown of its value in the first environment; none where it has none.
    pub left: Option<String>,
    /// The same of the second; of two secrets it says that it is another.
    pub right: Option<String>,
}

/// The keys whose values differ, in order.
pub fn diff(left: &Resolved, right: &Resolved) -> Vec<Difference> {
    let keys: BTreeSet<&String> = left.values.keys().chain(right.values.keys()).collect();
    let shown = |value: Option<&Value>| value.map(Value::shown);
    let mut differences = Vec::new();
    for key in keys {
        let (one, other) = (left.value(key), right.value(key));
        if one.map(Value::expose) == other.map(Value::expose) {
            continue;
        }
        let mut difference = Difference { key: key.clone(), left: shown(one), right: shown(other) };
        if difference.left == difference.right {
            difference.right = Some("[another secret]".to_owned());
        }
        differences.push(difference);
    }
    differences
}
