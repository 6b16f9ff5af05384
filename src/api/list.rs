//! Lists in the API's answers.

use serde_json::Value;

/// Returns the items of a list in the API's answers; none where there is no list.
pub(crate) fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}
