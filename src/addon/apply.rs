//! Applies an add-on by server-side apply, and takes it away again.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::definition::Addon;
use super::inventory::{self, Inventory};
use super::object::{LABEL, Object, ObjectRef};
use super::resource::Resources;
use crate::api::{Answer, ApiClient};
use crate::error::{Error, Kind, Result};
use crate::wait;

/// How often something that is not there yet is asked for again.
const ASK_EVERY: Duration = Duration::from_millis(250);

/// What applying an add-on brought about.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Objects that somebody else has changed, with what the API says of that; they stay so.
    pub conflicts: Vec<(ObjectRef, String)>,
    /// Objects of an older version of the add-on that were removed.
    pub pruned: Vec<ObjectRef>,
}

/// Puts an add-on's objects into the cluster. What others have changed in them is left alone
/// unless `force` is set.
///
/// # Errors
/// [`Kind::Unhealthy`] when the API refuses an object or does not answer until `deadline`;
/// [`Kind::Usage`] for a kind that it does not know; [`Kind::Interrupted`] on Ctrl-C.
pub fn apply(api: &ApiClient, addon: &Addon, force: bool, deadline: Instant) -> Result<Applied> {
    let wanted: Vec<ObjectRef> = addon.objects.iter().map(Object::reference).collect();
    let digest = addon.digest();
    let before = patiently(deadline, || inventory::read(api, &addon.name))?.unwrap_or_default();
    let mut resources = Resources::default();
    let mut out = Applied::default();
    // Where this very add-on was applied before, looking is enough: it costs a tenth of applying.
    let same = before.digest == digest && !force;
    let mut all = before.objects.clone();
    all.extend(
        wanted
            .iter()
            .filter(|w| !before.objects.contains(w))
            .cloned(),
    );
    if !same {
        // First everything that may come to be: an apply that is cut short leaves nothing unknown.
        let coming = Inventory {
            objects: all.clone(),
            digest: String::new(),
        };
        patiently(deadline, || inventory::write(api, &addon.name, &coming))?;
    }
    for object in &addon.objects {
        let body = object.labelled(&addon.name);
        if same && is_there(api, &mut resources, object, &body)? {
            continue;
        }
        if let Some(conflict) = apply_one(api, &mut resources, object, &body, force, deadline)? {
            out.conflicts.push((object.reference(), conflict));
        }
    }
    for old in all.iter().rev().filter(|o| !wanted.contains(o)) {
        delete_one(api, &mut resources, &addon.name, old, deadline)?;
        out.pruned.push(old.clone());
    }
    wait_until_gone(api, &mut resources, &out.pruned, deadline)?;
    if !same {
        let now = Inventory {
            objects: wanted,
            digest,
        };
        patiently(deadline, || inventory::write(api, &addon.name, &now))?;
    }
    Ok(out)
}

/// Whether the cluster's object says all that is wanted; what it says beside that are defaults
/// and what others own.
fn is_there(
    api: &ApiClient,
    resources: &mut Resources,
    object: &Object,
    wanted: &Value,
) -> Result<bool> {
    let Some(path) = resources.path(api, &object.reference())? else {
        return Ok(false);
    };
    let answer = api.get(&path)?;
    let found: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    Ok(answer.is_ok() && says(&found, wanted))
}

/// Whether `found` says all that `wanted` does.
fn says(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => wanted
            .iter()
            .all(|(key, value)| found.get(key).is_some_and(|found| says(found, value))),
        (Value::Array(found), Value::Array(wanted)) => {
            found.len() == wanted.len() && found.iter().zip(wanted).all(|(f, w)| says(f, w))
        }
        _ => found == wanted,
    }
}

/// Applies one object; answers with the API's words where others have changed it.
fn apply_one(
    api: &ApiClient,
    resources: &mut Resources,
    object: &Object,
    body: &Value,
    force: bool,
    deadline: Instant,
) -> Result<Option<String>> {
    let reference = object.reference();
    let path = path_of(api, resources, &reference, deadline)?;
    let answer = patiently(deadline, || {
        let answer = api.apply(&path, body, force)?;
        if is_passing(&answer) {
            return Err(refused(&reference, &answer));
        }
        Ok(answer)
    })?;
    match answer.status {
        409 => Ok(Some(answer.message())),
        _ if answer.is_ok() => Ok(None),
        _ => Err(refused(&reference, &answer)),
    }
}

/// Waits for a kind that is defined beside the object.
fn path_of(
    api: &ApiClient,
    resources: &mut Resources,
    object: &ObjectRef,
    deadline: Instant,
) -> Result<String> {
    // A definition that was applied a moment ago is served a moment later.
    let patience = Duration::from_secs(20).min(deadline.saturating_duration_since(Instant::now()));
    let until = Instant::now() + patience;
    let found = wait::poll(until, ASK_EVERY, || {
        patiently(deadline, || resources.path(api, object))
    })?;
    found.ok_or_else(|| {
        Error::new(
            Kind::Usage,
            format!(
                "the cluster knows no kind {} in {}",
                object.kind, object.api_version
            ),
        )
        .with_detail("it is wanted for", object.to_string())
        .with_hint("kubby kubectl -- api-resources lists the kinds that there are")
    })
}

/// Takes an add-on's objects out of the cluster, last made first, and waits until they are gone.
/// Objects that carry another owner's label by now stay.
///
/// # Errors
/// [`Kind::Unhealthy`] when the API does not answer or an object does not go until `deadline`.
pub fn remove(api: &ApiClient, addon: &str, deadline: Instant) -> Result<Vec<ObjectRef>> {
    let objects = patiently(deadline, || inventory::read(api, addon))?.unwrap_or_default();
    let mut resources = Resources::default();
    let mut gone = Vec::new();
    for object in objects.objects.iter().rev() {
        if delete_one(api, &mut resources, addon, object, deadline)? {
            gone.push(object.clone());
        }
    }
    wait_until_gone(api, &mut resources, &gone, deadline)?;
    inventory::remove(api, addon)?;
    Ok(gone)
}

/// Waits for objects whose removal was asked for: they stay until all that belongs to them is gone.
fn wait_until_gone(
    api: &ApiClient,
    resources: &mut Resources,
    objects: &[ObjectRef],
    deadline: Instant,
) -> Result<()> {
    for object in objects {
        let Some(path) = resources.path(api, object)? else {
            continue;
        };
        let gone = || Ok((!is_still_there(&api.get(&path)?)).then_some(()));
        wait::poll(deadline, ASK_EVERY, gone)?.ok_or_else(|| {
            Error::new(Kind::Unhealthy, format!("{object} does not go away"))
                .with_hint(format!(
                    "kubby kubectl -- describe {} {} shows why",
                    object.kind, object.name
                ))
                .with_hint("the same command again continues from here")
        })?;
    }
    Ok(())
}

/// Whether an object that was to be removed is being removed still. One that is there without a
/// date of its deletion belongs to somebody else, or was made anew.
fn is_still_there(answer: &Answer) -> bool {
    let found: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    answer.status != 404 && (!answer.is_ok() || !found["metadata"]["deletionTimestamp"].is_null())
}

/// Asks for the removal of one object; `false` where there is none of the add-on's.
fn delete_one(
    api: &ApiClient,
    resources: &mut Resources,
    addon: &str,
    object: &ObjectRef,
    deadline: Instant,
) -> Result<bool> {
    let Some(path) = patiently(deadline, || resources.path(api, object))? else {
        return Ok(false);
    };
    let found = patiently(deadline, || api.get(&path))?;
    if found.status == 404 {
        return Ok(false);
    }
    let found: Value =
        serde_json::from_str(&found.require(&format!("asking for {object}"))?).unwrap_or_default();
    if found["metadata"]["labels"][LABEL] != addon {
        return Ok(false);
    }
    let answer = patiently(deadline, || api.delete(&path))?;
    if answer.status == 404 || answer.is_ok() {
        return Ok(true);
    }
    Err(refused(object, &answer))
}

/// Whether the same request may go well a moment later.
fn is_passing(answer: &Answer) -> bool {
    matches!(answer.status, 429 | 500..=599)
}

fn refused(object: &ObjectRef, answer: &Answer) -> Error {
    Error::new(
        Kind::Unhealthy,
        format!("the cluster refuses {object} (HTTP {})", answer.status),
    )
    .with_detail("kube-apiserver says", answer.message())
}

/// Asks again while the API is out of reach or busy.
fn patiently<T>(deadline: Instant, ask: impl FnMut() -> Result<T>) -> Result<T> {
    wait::retry(deadline, ASK_EVERY, Kind::Unhealthy, ask)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_wanted_is_told_from_what_others_add() {
        let wanted = json!({"spec": {"replicas": 1, "ports": [{"port": 53}]}});
        let found = |replicas: u32, ports: Value| {
            says(
                &json!({"status": {}, "spec": {"replicas": replicas, "ports": ports}}),
                &wanted,
            )
        };
        assert!(found(1, json!([{"port": 53, "protocol": "TCP"}])));
        assert!(!found(2, json!([{"port": 53}])));
        assert!(!found(1, json!([{"port": 53}, {"port": 54}])));
        assert!(!found(1, json!([{"protocol": "TCP"}])));
        assert!(!says(&json!({}), &wanted));
    }
}
