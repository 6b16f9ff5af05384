//! What the page may ask for, and what becomes of it.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rust_embed::RustEmbed;
use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::guard::{self, Secret};
use super::object::{Kinds, Object, segment};
use super::{Subject, clean, items, kinds};
use crate::api::{Answer, ApiClient};
use crate::error::{Error, Kind, Result, ResultExt};

/// How many objects a list shows: more than anybody reads, fewer than a browser takes long for.
const ROWS: u32 = 500;

/// How many lines of a log's end are shown; the second where those are too long together.
const LOG_LINES: [u32; 2] = [1000, 20];

/// How many bytes of them.
const LOG_BYTES: usize = 1 << 20;

/// What every request works with.
pub(super) type Shared = Arc<Surroundings>;

pub(super) struct Surroundings {
    pub(super) api: Arc<ApiClient>,
    pub(super) subject: Subject,
    pub(super) secret: Secret,
}

/// The page's own files.
#[derive(RustEmbed)]
#[folder = "src/dashboard/web/"]
struct Web;

pub(super) fn router(shared: Surroundings) -> Router {
    let shared = Arc::new(shared);
    let secret = middleware::from_fn_with_state(Arc::clone(&shared), guard::with_the_secret);
    Router::new()
        .route("/api/subject", get(subject))
        .route("/api/table", get(table))
        .route("/api/events", get(events))
        .route("/api/object", get(object))
        .route("/api/log", get(log))
        .route("/api/change", post(change))
        .route_layer(secret)
        .route("/", get(|| async { file("index.html") }))
        .route(
            "/{name}",
            get(|Path(name): Path<String>| async move { file(&name) }),
        )
        .layer(middleware::from_fn(guard::at_the_door))
        .with_state(shared)
}

fn file(name: &str) -> Response {
    let Some(file) = Web::get(name) else {
        return refusal(StatusCode::NOT_FOUND, "there is no such page");
    };
    let kind = match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        _ => "application/octet-stream",
    };
    ([(header::CONTENT_TYPE, kind)], file.data).into_response()
}

/// An answer that says why there is no better one.
pub(super) fn refusal(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({"message": message}))).into_response()
}

/// Why a request came to nothing.
enum Trouble {
    /// The API refused it, in its own words.
    Refused(Answer),
    /// It did not get there.
    Failed(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Trouble::Failed(error)
    }
}

impl IntoResponse for Trouble {
    fn into_response(self) -> Response {
        match self {
            Trouble::Refused(answer) => {
                let status = StatusCode::from_u16(answer.status);
                refusal(status.unwrap_or(StatusCode::BAD_GATEWAY), &answer.message())
            }
            Trouble::Failed(error) => {
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

type Outcome<T> = std::result::Result<T, Trouble>;

/// Asks the API away from the thread that serves.
async fn ask<T: IntoResponse + Send + 'static>(
    shared: &Shared,
    question: impl FnOnce(&ApiClient) -> Outcome<T> + Send + 'static,
) -> Response {
    let api = Arc::clone(&shared.api);
    match tokio::task::spawn_blocking(move || question(&api)).await {
        Ok(outcome) => outcome.into_response(),
        Err(_) => refusal(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the question ended in a panic",
        ),
    }
}

fn good(answer: Answer) -> Outcome<String> {
    if answer.is_ok() {
        Ok(answer.body)
    } else {
        Err(Trouble::Refused(answer))
    }
}

fn parsed(answer: Answer) -> Outcome<Value> {
    let value = serde_json::from_str(&good(answer)?).context(Kind::Unhealthy, || {
        "kube-apiserver's answer does not parse".into()
    });
    Ok(value?)
}

async fn subject(State(shared): State<Shared>) -> Response {
    let subject = shared.subject.clone();
    ask(&shared, move |api| {
        Ok(Json(json!({
            "profile": subject.profile,
            "version": subject.version,
            "readOnly": subject.read_only,
            "kinds": kinds::all(api)?,
        })))
    })
    .await
}

async fn table(State(shared): State<Shared>, Query(kinds): Query<Kinds>) -> Response {
    ask(&shared, move |api| {
        let path = format!("{}?limit={ROWS}", kinds.path()?);
        let table = parsed(api.get_table(&path)?)?;
        Ok(Json(clean::table(&table)))
    })
    .await
}

/// Which events are asked for.
#[derive(Deserialize)]
struct Happened {
    /// Those of one namespace.
    namespace: Option<String>,
    /// Those of the object that has this uid; else all warnings.
    uid: Option<String>,
}

async fn events(State(shared): State<Shared>, Query(asked): Query<Happened>) -> Response {
    ask(&shared, move |api| {
        let path = Kinds {
            group: String::new(),
            version: "v1".into(),
            plural: "events".into(),
            namespace: asked.namespace,
        }
        .path()?;
        let selector = match &asked.uid {
            Some(uid) => format!("involvedObject.uid={uid}"),
            None => "type=Warning".to_owned(),
        };
        let selector = utf8_percent_encode(&selector, NON_ALPHANUMERIC);
        let path = format!("{path}?limit={ROWS}&fieldSelector={selector}");
        Ok(Json(clean::table(&parsed(api.get_table(&path)?)?)))
    })
    .await
}

async fn object(State(shared): State<Shared>, Query(object): Query<Object>) -> Response {
    ask(&shared, move |api| {
        let mut value = parsed(api.get(&object.path()?)?)?;
        clean::object(&mut value, object.is_secret());
        Ok(Json(described(&value)?))
    })
    .await
}

/// An object for the page: its text, and what its buttons depend on.
fn described(value: &Value) -> Result<Value> {
    let yaml = serde_saphyr::to_string(value)
        .context(Kind::Internal, || "cannot write the object as YAML".into())?;
    let parts = ["initContainers", "containers"].into_iter();
    let containers = parts.flat_map(|part| items(&value["spec"][part]));
    let containers: Vec<&Value> = containers.map(|container| &container["name"]).collect();
    Ok(json!({
        "yaml": yaml,
        "kind": value["kind"],
        "uid": value["metadata"]["uid"],
        "containers": containers,
        "container": usual_container(value),
        "replicas": value["spec"]["replicas"],
        "restartable": restartable(value),
    }))
}

/// The container that kubectl takes as well where none is named.
fn usual_container(value: &Value) -> &Value {
    match &value["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"] {
        Value::Null => &value["spec"]["containers"][0]["name"],
        named => named,
    }
}

/// Whether its pods are replaced when its template changes.
fn restartable(value: &Value) -> bool {
    matches!(
        value["kind"].as_str(),
        Some("Deployment" | "StatefulSet" | "DaemonSet")
    )
}

/// Whose log is asked for.
#[derive(Deserialize)]
struct Log {
    namespace: String,
    pod: String,
    container: String,
    /// Of the container that ran before this one.
    #[serde(default)]
    previous: bool,
}

async fn log(State(shared): State<Shared>, Query(log): Query<Log>) -> Response {
    ask(&shared, move |api| {
        let path = format!(
            "/api/v1/namespaces/{}/pods/{}/log?container={}&previous={}",
            segment(&log.namespace)?,
            segment(&log.pod)?,
            segment(&log.container)?,
            log.previous,
        );
        let last = |lines: u32| api.get(&format!("{path}&tailLines={lines}"));
        // The API's own limit of bytes would cut the end off.
        let answer = last(LOG_LINES[0]).or_else(|_| last(LOG_LINES[1]))?;
        let plain = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
        Ok((plain, end_of(good(answer)?, LOG_BYTES)))
    })
    .await
}

/// The last lines of a text, so many bytes at the most, with a word on what is missing.
fn end_of(text: String, bytes: usize) -> String {
    if text.len() <= bytes {
        return text;
    }
    let from = (text.len() - bytes..).find(|at| text.is_char_boundary(*at));
    let end = &text[from.unwrap_or_default()..];
    let end = end.split_once('\n').map_or(end, |(_, whole)| whole);
    format!("(what was before is left out)\n{end}")
}

/// What is to be done with an object.
#[derive(Deserialize)]
struct Change {
    #[serde(flatten)]
    object: Object,
    #[serde(flatten)]
    action: Action,
}

#[derive(Deserialize)]
#[serde(tag = "action", rename_all = "lowercase")]
enum Action {
    /// So many pods are to be there.
    Scale {
        replicas: u32,
    },
    /// Its pods are replaced, one after the other, as by `kubectl rollout restart`.
    Restart,
    Delete,
}

async fn change(State(shared): State<Shared>, Json(change): Json<Change>) -> Response {
    if shared.subject.read_only {
        let words = "this dashboard changes nothing: it was started with --read-only";
        return refusal(StatusCode::FORBIDDEN, words);
    }
    ask(&shared, move |api| {
        let path = change.object.path()?;
        let answer = match change.action {
            Action::Scale { replicas } => {
                let scale = json!({"spec": {"replicas": replicas}});
                api.merge_patch(&format!("{path}/scale"), &scale)?
            }
            Action::Restart => api.merge_patch(&path, &restarted_now()?)?,
            Action::Delete => api.delete(&path)?,
        };
        good(answer)?;
        Ok(Json(json!({})))
    })
    .await
}

/// The mark that kubectl makes as well.
fn restarted_now() -> Result<Value> {
    let now = OffsetDateTime::now_utc().format(&Rfc3339);
    let now = now.context(Kind::Internal, || "cannot write the time".into())?;
    let mark = json!({"kubectl.kubernetes.io/restartedAt": now});
    Ok(json!({"spec": {"template": {"metadata": {"annotations": mark}}}}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_told_with_what_can_be_done_with_it() {
        let told = described(&json!({
            "kind": "Deployment",
            "metadata": {"name": "web", "uid": "u"},
            "spec": {"replicas": 2},
        }))
        .unwrap();
        assert_eq!(told["restartable"], true);
        assert_eq!(told["replicas"], 2);
        assert_eq!(told["uid"], "u");
        let yaml = told["yaml"].as_str().unwrap();
        assert!(yaml.contains("kind: Deployment\n"), "{yaml}");
        assert!(yaml.contains("  replicas: 2\n"), "{yaml}");

        let told = described(&json!({
            "kind": "Pod",
            "spec": {"initContainers": [{"name": "first"}], "containers": [{"name": "then"}]},
        }))
        .unwrap();
        assert_eq!(told["containers"], json!(["first", "then"]));
        assert_eq!(told["container"], "then");
        assert_eq!(told["restartable"], false);
    }

    #[test]
    fn of_a_long_log_the_end_is_shown() {
        let text = "one\ntwo\nthree ö\nfour\n".to_owned();
        assert_eq!(end_of(text.clone(), 100), text);
        let cut = "(what was before is left out)\n";
        assert_eq!(end_of(text.clone(), 13), format!("{cut}four\n"));
        assert_eq!(end_of(text, 7), format!("{cut}four\n"));
        assert_eq!(end_of("ööö".to_owned(), 3), format!("{cut}ö"));
    }

    #[test]
    fn changes_are_read_as_the_page_writes_them() {
        let read = |text| serde_json::from_str::<Change>(text);
        let scale = r#"{"action":"scale","replicas":3,"group":"apps","version":"v1","plural":"deployments","namespace":"n","name":"web"}"#;
        let change = read(scale).unwrap();
        assert!(matches!(change.action, Action::Scale { replicas: 3 }));
        assert_eq!(
            change.object.path().unwrap(),
            "/apis/apps/v1/namespaces/n/deployments/web"
        );
        let delete =
            r#"{"action":"delete","version":"v1","plural":"pods","namespace":"n","name":"p"}"#;
        assert!(matches!(read(delete).unwrap().action, Action::Delete));
        assert!(read(r#"{"action":"drop","version":"v1","plural":"pods","name":"p"}"#).is_err());
        assert!(read(&scale.replace("3", "-1")).is_err());
    }

    #[test]
    fn the_page_is_embedded_whole() {
        let index = Web::get("index.html").unwrap().data;
        let index = String::from_utf8_lossy(&index).into_owned();
        for name in ["style.css", "app.js"] {
            assert!(index.contains(&format!("\"/{name}\"")), "{name}");
        }
        // Whatever one script takes from another is there.
        for name in Web::iter().filter(|name| name.ends_with(".js")) {
            let script = Web::get(&name).unwrap().data;
            let script = String::from_utf8_lossy(&script).into_owned();
            for import in script.split(" from \"./").skip(1) {
                let file = import.split('"').next().unwrap();
                assert!(Web::get(file).is_some(), "{name}: {file}");
            }
            // Names in a cluster are anybody's: they become text, never markup.
            for bad in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
            ] {
                assert!(!script.contains(bad), "{name}: {bad}");
            }
        }
    }
}
