//! The server of the page and of its requests.

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

use super::answer::{ask, good, parsed, refusal};
use super::guard::{self, Secret};
use super::{clean, kinds};
use crate::api::{ApiClient, Collection, items, segment};
use crate::error::{Kind, Result, ResultExt};

/// The most objects in a list: more than a user reads, and few enough for a fast page.
const ROWS: u32 = 500;

/// The number of a log's last lines that are shown; the second one where those are too long together.
const LOG_LINES: [u32; 2] = [1000, 20];

/// The most bytes of them that are shown.
const LOG_BYTES: usize = 1 << 20;

/// The cluster that the page shows.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    /// The profile.
    pub profile: String,
    /// The version of Kubernetes, with `v`.
    pub version: String,
    /// Whether the page may change nothing.
    pub read_only: bool,
}

/// The state that all requests share.
#[derive(Clone)]
pub(super) struct AppState {
    api: Arc<ApiClient>,
    subject: Subject,
}

/// An object that the page names.
#[derive(Debug, Clone, Deserialize)]
struct Object {
    #[serde(flatten)]
    of: Collection,
    name: String,
}

impl Object {
    fn path(&self) -> Result<String> {
        self.of.path_of(&self.name)
    }

    /// Returns whether its values are secret.
    fn is_secret(&self) -> bool {
        self.of.group.is_empty() && self.of.plural == "secrets"
    }
}

/// The page's own files.
#[derive(RustEmbed)]
#[folder = "src/dashboard/web/"]
struct Web;

pub(super) fn router(api: ApiClient, shown: Subject, secret: Secret) -> Router {
    let state = AppState {
        api: Arc::new(api),
        subject: shown,
    };
    let secret = middleware::from_fn_with_state(Arc::new(secret), guard::require_secret);
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
        .layer(middleware::from_fn(guard::check_host))
        .with_state(state)
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

async fn subject(State(app): State<AppState>) -> Response {
    let subject = app.subject;
    ask(&app.api, move |api| {
        Ok(Json(json!({
            "profile": subject.profile,
            "version": subject.version,
            "readOnly": subject.read_only,
            "kinds": kinds::all(api)?,
        })))
    })
    .await
}

async fn table(State(app): State<AppState>, Query(kinds): Query<Collection>) -> Response {
    ask(&app.api, move |api| {
        let path = format!("{}?limit={ROWS}", kinds.path()?);
        let table = parsed(api.get_table(&path)?)?;
        Ok(Json(clean::table(&table)))
    })
    .await
}

/// The events that are shown.
#[derive(Deserialize)]
struct Events {
    /// The namespace of the events.
    namespace: Option<String>,
    /// The uid of the object that they are about; without one all warnings are shown.
    uid: Option<String>,
}

async fn events(State(app): State<AppState>, Query(asked): Query<Events>) -> Response {
    ask(&app.api, move |api| {
        let path = Collection {
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

async fn object(State(app): State<AppState>, Query(object): Query<Object>) -> Response {
    ask(&app.api, move |api| {
        let mut value = parsed(api.get(&object.path()?)?)?;
        clean::object(&mut value, object.is_secret());
        Ok(Json(described(&value)?))
    })
    .await
}

/// Describes an object for the page: its text, and the values that its buttons depend on.
fn described(value: &Value) -> Result<Value> {
    let yaml = serde_saphyr::to_string(value)
        .context(Kind::Internal, || "cannot write the object as YAML".into())?;
    let kind = value["kind"].as_str().unwrap_or_default();
    let parts = ["initContainers", "containers"].into_iter();
    let containers = parts.flat_map(|part| items(&value["spec"][part]));
    let containers: Vec<&Value> = containers.map(|container| &container["name"]).collect();
    // Their pods are replaced when their template changes.
    let restartable = ["Deployment", "StatefulSet", "DaemonSet"].contains(&kind);
    Ok(json!({
        "yaml": yaml,
        "kind": value["kind"],
        "uid": value["metadata"]["uid"],
        "containers": containers,
        "container": usual_container(value),
        "replicas": value["spec"]["replicas"],
        "restartable": restartable,
    }))
}

/// Returns the container that kubectl uses where none is named.
fn usual_container(value: &Value) -> &Value {
    match &value["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"] {
        Value::Null => &value["spec"]["containers"][0]["name"],
        named => named,
    }
}

/// The log that is shown.
#[derive(Deserialize)]
struct Log {
    namespace: String,
    pod: String,
    container: String,
    /// Whether it is the log of the container that ran before this one.
    #[serde(default)]
    previous: bool,
}

async fn log(State(app): State<AppState>, Query(log): Query<Log>) -> Response {
    ask(&app.api, move |api| {
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

/// Returns the last lines of a text, at most `bytes` of them, with a note about the missing ones.
fn end_of(text: String, bytes: usize) -> String {
    if text.len() <= bytes {
        return text;
    }
    let from = (text.len() - bytes..).find(|at| text.is_char_boundary(*at));
    let end = &text[from.unwrap_or_default()..];
    let end = end.split_once('\n').map_or(end, |(_, whole)| whole);
    format!("(earlier lines are left out)\n{end}")
}

/// A change of an object.
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
    /// Sets the number of its pods.
    Scale { replicas: u32 },
    /// Replaces its pods, one after the other, as `kubectl rollout restart` does.
    Restart,
    /// Deletes it.
    Delete,
}

async fn change(State(app): State<AppState>, Json(change): Json<Change>) -> Response {
    if app.subject.read_only {
        let words = "this dashboard changes nothing: it was started with --read-only";
        return refusal(StatusCode::FORBIDDEN, words);
    }
    ask(&app.api, move |api| {
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

/// Returns the patch that kubectl sends as well.
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
    fn an_object_is_described_with_its_possible_actions() {
        let shown = described(&json!({
            "kind": "Deployment",
            "metadata": {"name": "web", "uid": "u"},
            "spec": {"replicas": 2},
        }))
        .unwrap();
        assert_eq!(shown["restartable"], true);
        assert_eq!(shown["replicas"], 2);
        assert_eq!(shown["uid"], "u");
        let yaml = shown["yaml"].as_str().unwrap();
        assert!(yaml.contains("kind: Deployment\n"), "{yaml}");
        assert!(yaml.contains("  replicas: 2\n"), "{yaml}");

        let shown = described(&json!({
            "kind": "Pod",
            "spec": {"initContainers": [{"name": "first"}], "containers": [{"name": "then"}]},
        }))
        .unwrap();
        assert_eq!(shown["containers"], json!(["first", "then"]));
        assert_eq!(shown["container"], "then");
        assert_eq!(shown["restartable"], false);
    }

    #[test]
    fn of_a_long_log_the_end_is_shown() {
        let text = "one\ntwo\nthree ö\nfour\n".to_owned();
        assert_eq!(end_of(text.clone(), 100), text);
        let cut = "(earlier lines are left out)\n";
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
        // All imports of one script from another exist.
        for name in Web::iter().filter(|name| name.ends_with(".js")) {
            let script = Web::get(&name).unwrap().data;
            let script = String::from_utf8_lossy(&script).into_owned();
            for import in script.split(" from \"./").skip(1) {
                let file = import.split('"').next().unwrap();
                assert!(Web::get(file).is_some(), "{name}: {file}");
            }
            // Names in a cluster are not trusted: they become text, never markup.
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
