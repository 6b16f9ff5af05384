//! The parts of a bundle that the API has, without secrets.

use base64::Engine as _;
use comfy_table::{Table, TableStyle};
use serde_json::{Value, json};

use super::parts::Parts;
use super::redact::{LEFT_OUT, Redactor, is_secret_name};
use crate::api::ApiClient;
use crate::cluster::Cluster;
use crate::cluster::env::Env;
use crate::cluster::operations::status::HostState;
use crate::error::Result;
use crate::interrupt;

/// The lists to collect, named by the last part of their paths. Neither Secrets nor ConfigMaps, which
/// may contain anything.
const LISTS: [&str; 17] = [
    "/api/v1/nodes",
    "/api/v1/namespaces",
    "/api/v1/pods",
    "/api/v1/events",
    "/api/v1/services",
    "/apis/discovery.k8s.io/v1/endpointslices",
    "/apis/apps/v1/deployments",
    "/apis/apps/v1/replicasets",
    "/apis/apps/v1/daemonsets",
    "/apis/apps/v1/statefulsets",
    "/apis/batch/v1/jobs",
    "/apis/batch/v1/cronjobs",
    "/api/v1/persistentvolumes",
    "/api/v1/persistentvolumeclaims",
    "/apis/storage.k8s.io/v1/storageclasses",
    "/apis/networking.k8s.io/v1/ingresses",
    "/apis/networking.k8s.io/v1/networkpolicies",
];

/// The number of Secrets in one request: each may have a megabyte.
const SECRETS: usize = 5;

/// The most objects of a kind.
const MOST: usize = 1000;

/// Keys of Secrets whose values are no secrets: certificates, and names that occur everywhere.
const PUBLIC_KEYS: [&str; 5] = ["ca.crt", "tls.crt", "namespace", "username", "type"];

/// Asks for all of it, as long as there are answers.
pub(super) fn collect(
    env: &Env<'_>,
    cluster: &Cluster,
    state: HostState,
    parts: &mut Parts,
    redactor: &mut Redactor,
) {
    if state != HostState::Running {
        return parts.missing("cluster/", "kube-apiserver does not run without the node");
    }
    let api = match cluster.api(env.backend) {
        Ok(api) => api,
        Err(e) => return parts.problem("cluster/", &e),
    };
    match api.ready() {
        Ok(()) => {}
        Err(e) if e.details().is_empty() => return parts.problem("cluster/", &e),
        // It answers, if not well.
        Err(e) => parts.problem("the cluster", &e),
    }
    if let Err(e) = learn_all(&api, redactor) {
        parts.problem("the values of Secrets, to leave them out of journals", &e);
    }
    for path in LISTS {
        let name = path.rsplit('/').next().unwrap_or(path);
        if !parts.go_on(&format!("cluster/{name}")) {
            return;
        }
        let file = format!("cluster/{name}.json");
        let mut objects = match page(&api, path, &format!("limit={MOST}")) {
            Ok(objects) => objects,
            Err(e) => {
                parts.problem(&file, &e);
                // An API that does not answer at all will not answer the rest either.
                if !e.causes().is_empty() {
                    return parts.missing("cluster/", "the rest was not asked for");
                }
                continue;
            }
        };
        if following(&objects).is_some() {
            parts.missing(&file, &format!("the first {MOST} only"));
        }
        clean(&mut objects, redactor);
        let none = objects["items"].as_array().is_none_or(Vec::is_empty);
        parts.add(&file, Ok(objects));
        if !none {
            parts.add(&format!("cluster/{name}.txt"), table(&api, path));
        }
    }
}

fn page(api: &ApiClient, path: &str, query: &str) -> Result<Value> {
    interrupt::check()?;
    let answer = api.get(&format!("{path}?{query}"))?;
    answer.require_json(&format!("asking for {path}"))
}

/// Returns the request for the page after this one.
fn following(list: &Value) -> Option<&str> {
    let next = list["metadata"]["continue"].as_str();
    next.filter(|next| !next.is_empty())
}

/// Takes note of the values of all Secrets.
fn learn_all(api: &ApiClient, redactor: &mut Redactor) -> Result<()> {
    let mut query = format!("limit={SECRETS}");
    loop {
        let secrets = page(api, "/api/v1/secrets", &query)?;
        learn(&secrets, redactor);
        match following(&secrets) {
            Some(next) => query = format!("limit={SECRETS}&continue={next}"),
            None => return Ok(()),
        }
    }
}

/// Collects the values to leave out.
fn learn(secrets: &Value, redactor: &mut Redactor) {
    for secret in secrets["items"].as_array().into_iter().flatten() {
        for (key, value) in secret["data"].as_object().into_iter().flatten() {
            let Some(value) = value
                .as_str()
                .filter(|_| !PUBLIC_KEYS.contains(&key.as_str()))
            else {
                continue;
            };
            let decoded = base64::engine::general_purpose::STANDARD.decode(value);
            if let Some(text) = decoded.ok().and_then(|d| String::from_utf8(d).ok()) {
                redactor.add(&text);
            }
            redactor.add(value);
        }
    }
}

/// Takes out of objects what may be secret, wherever it stands in them.
fn clean(value: &mut Value, redactor: &mut Redactor) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| clean(item, redactor)),
        Value::Object(fields) => {
            fields.remove("managedFields");
            for (key, field) in fields.iter_mut() {
                clean_field(key, field, redactor);
            }
        }
        _ => {}
    }
}

fn clean_field(key: &str, field: &mut Value, redactor: &mut Redactor) {
    match (key, &mut *field) {
        // kubectl's last applied configuration is among them, with all that was in it.
        (
            "annotations" | "data" | "stringData" | "binaryData" | "volumeAttributes" | "options"
            | "parameters",
            Value::Object(values),
        ) => values
            .values_mut()
            .for_each(|value| *value = json!(LEFT_OUT)),
        ("env" | "httpHeaders", Value::Array(variables)) => {
            for variable in variables {
                let name = variable["name"].as_str().unwrap_or_default();
                if let Some(value) = variable["value"].as_str() {
                    if is_secret_name(name) {
                        redactor.add(value);
                    }
                    variable["value"] = json!(LEFT_OUT);
                }
            }
        }
        // The program may be known, its arguments may hold a password.
        ("command", Value::Array(words)) => {
            words
                .iter_mut()
                .skip(1)
                .for_each(|word| *word = json!(LEFT_OUT));
        }
        ("args", Value::Array(words)) => {
            words.iter_mut().for_each(|word| *word = json!(LEFT_OUT));
        }
        // The container's own last words.
        ("terminated", Value::Object(state)) if state.contains_key("message") => {
            state.insert("message".into(), json!(LEFT_OUT));
        }
        _ => clean(field, redactor),
    }
}

/// The table that kubectl shows with `-o wide`.
fn table(api: &ApiClient, path: &str) -> Result<String> {
    let answer = api.get_table(&format!("{path}?limit={MOST}"))?;
    Ok(render(&answer.require_json(&format!("asking for {path}"))?))
}

fn render(body: &Value) -> String {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    };
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut table = Table::new();
    table.load_style(TableStyle::new());
    let columns = list(&body["columnDefinitions"]);
    let names = columns.iter().map(|c| text(&c["name"]).to_uppercase());
    table.set_header(std::iter::once("NAMESPACE".to_owned()).chain(names));
    for row in list(&body["rows"]) {
        let namespace = row["object"]["metadata"]["namespace"]
            .as_str()
            .unwrap_or("-");
        let cells = list(&row["cells"]);
        let cells = cells.iter().map(text);
        table.add_row(std::iter::once(namespace.to_owned()).chain(cells));
    }
    let lines = table.trim_fmt();
    lines
        .lines()
        .map(|l| format!("{}\n", l.trim_start_matches(' ')))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_lose_what_may_be_secret_and_nothing_else() {
        let mut pod = json!({
            "metadata": {
                "name": "db", "labels": {"app": "db"},
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "all"},
                "managedFields": [{"manager": "kubectl"}],
            },
            "spec": {"containers": [{
                "image": "mysql:5.7",
                "command": ["mysqld", "--password=one"],
                "args": ["two"],
                "env": [
                    {"name": "MYSQL_ROOT_PASSWORD", "value": "three33"},
                    {"name": "MODE", "value": "four444"},
                    {"name": "REF", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                ],
                "livenessProbe": {"httpGet": {"httpHeaders": [{"name": "X", "value": "five"}]}},
            }]},
            "status": {"containerStatuses": [{
                "state": {"waiting": {"message": "back-off pulling image"}},
                "lastState": {"terminated": {"exitCode": 3, "message": "six"}},
            }]},
        });
        let mut redactor = Redactor::default();
        clean(&mut pod, &mut redactor);
        assert_eq!(
            pod,
            json!({
                "metadata": {
                    "name": "db", "labels": {"app": "db"},
                    "annotations": {"kubectl.kubernetes.io/last-applied-configuration": LEFT_OUT},
                },
                "spec": {"containers": [{
                    "image": "mysql:5.7",
                    "command": ["mysqld", LEFT_OUT],
                    "args": [LEFT_OUT],
                    "env": [
                        {"name": "MYSQL_ROOT_PASSWORD", "value": LEFT_OUT},
                        {"name": "MODE", "value": LEFT_OUT},
                        {"name": "REF", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                    ],
                    "livenessProbe": {"httpGet": {"httpHeaders": [{"name": "X", "value": LEFT_OUT}]}},
                }]},
                "status": {"containerStatuses": [{
                    "state": {"waiting": {"message": "back-off pulling image"}},
                    "lastState": {"terminated": {"exitCode": 3, "message": LEFT_OUT}},
                }]},
            })
        );
        // Programs may log it, and the mode is not secret.
        assert_eq!(redactor.text("three33 four444"), "(left out) four444");
    }

    #[test]
    fn a_list_says_whether_more_follows() {
        assert_eq!(
            following(&json!({"metadata": {"continue": "abc"}})),
            Some("abc")
        );
        assert_eq!(following(&json!({"metadata": {"continue": ""}})), None);
        assert_eq!(following(&json!({"metadata": {}})), None);
    }

    #[test]
    fn values_of_secrets_are_known_afterwards() {
        let mut redactor = Redactor::default();
        let secrets = json!({"items": [
            {"data": {"password": "aHVudGVyMjI=", "namespace": "a3ViZS1zeXN0ZW0="}},
            {"type": "Opaque"},
        ]});
        learn(&secrets, &mut redactor);
        assert_eq!(
            redactor.text("hunter22 aHVudGVyMjI="),
            "(left out) (left out)"
        );
        assert_eq!(redactor.text("in kube-system"), "in kube-system");
    }

    #[test]
    fn a_table_has_the_namespace_first() {
        let body = json!({
            "columnDefinitions": [{"name": "Name"}, {"name": "Restarts"}],
            "rows": [
                {"cells": ["web", 2], "object": {"metadata": {"namespace": "default"}}},
                {"cells": ["kubby", null], "object": {"metadata": {}}},
            ],
        });
        insta::assert_snapshot!(render(&body), @r"
        NAMESPACE  NAME   RESTARTS
        default    web    2
        -          kubby  -
        ");
    }
}
