//! The answers of the dashboard's server.

use std::sync::Arc;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::api::{Answer, ApiClient};
use crate::error::{Error, Kind, Result, ResultExt};

/// Makes an answer that says why a request failed.
pub(super) fn refusal(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({"message": message}))).into_response()
}

/// The reason why a request failed.
pub(super) enum Failure {
    /// The API refused it, with its message.
    Refused(Answer),
    /// It did not reach the API.
    Failed(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Failed(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        match self {
            Failure::Refused(answer) => {
                let status = StatusCode::from_u16(answer.status);
                refusal(status.unwrap_or(StatusCode::BAD_GATEWAY), &answer.message())
            }
            Failure::Failed(error) => {
                let status = match error.kind() {
                    Kind::Usage => StatusCode::BAD_REQUEST,
                    _ => StatusCode::BAD_GATEWAY,
                };
                let mut words = vec![error.message().to_owned()];
                words.extend(error.causes());
                refusal(status, &words.join(": "))
            }
        }
    }
}

/// Sends a request to the API on another thread than the server's.
pub(super) async fn ask<T: IntoResponse + Send + 'static>(
    api: &Arc<ApiClient>,
    request: impl FnOnce(&ApiClient) -> Result<T, Failure> + Send + 'static,
) -> Response {
    let api = Arc::clone(api);
    match tokio::task::spawn_blocking(move || request(&api)).await {
        Ok(outcome) => outcome.into_response(),
        Err(_) => refusal(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the request ended in a panic",
        ),
    }
}

/// Returns the body of a good answer.
pub(super) fn good(answer: Answer) -> Result<String, Failure> {
    if answer.is_ok() {
        Ok(answer.body)
    } else {
        Err(Failure::Refused(answer))
    }
}

/// Returns the body of a good answer as JSON.
pub(super) fn parsed(answer: Answer) -> Result<Value, Failure> {
    let fail = || "kube-apiserver's answer does not parse".into();
    Ok(serde_json::from_str(&good(answer)?).context(Kind::Unhealthy, fail)?)
}
