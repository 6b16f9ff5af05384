//! The answers of kube-apiserver.

use serde_json::Value;

use crate::error::{Error, Kind, Result, ResultExt};

/// The API's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body as text.
    pub body: String,
}

impl Answer {
    /// Returns whether the status is 200 to 299.
    pub fn is_ok(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Returns the API's own message about a refusal, else the body.
    pub fn message(&self) -> String {
        match self.value()["message"].as_str() {
            Some(message) => message.to_owned(),
            None => self.body.chars().take(1000).collect(),
        }
    }

    /// Returns the body as JSON; `null` where it is none.
    pub fn value(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// Returns the body of a good answer; `what` names the request in the error.
    ///
    /// # Errors
    /// [`Kind::Unhealthy`] with the API's message for any other answer.
    pub fn require(self, what: &str) -> Result<String> {
        if self.is_ok() {
            return Ok(self.body);
        }
        Err(
            Error::unhealthy(format!("{what} gave HTTP {}", self.status))
                .with_detail("kube-apiserver says", self.message()),
        )
    }

    /// Returns the body of a good answer as JSON; `what` names the request in the error.
    ///
    /// # Errors
    /// [`Kind::Unhealthy`] for any other answer.
    pub fn require_json(self, what: &str) -> Result<Value> {
        let fail = || format!("the answer to {what} does not parse");
        serde_json::from_str(&self.require(what)?).context(Kind::Unhealthy, fail)
    }
}

/// Returns the items of a list in the API's answers; none where there is no list.
pub(crate) fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}
