//! Applies an add-on by server-side apply, and removes it.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::definition::Addon;
use super::inventory::{self, Inventory};
use super::object::{LABEL, Object, ObjectRef};
use super::resource::Resources;
use crate::api::{Answer, ApiClient};
use crate::error::{Error, Kind, Result};
use crate::wait;

/// The pause between two requests for something that is not ready yet.
const ASK_EVERY: Duration = Duration::from_millis(250);

/// The time limit for a kind to be served after its definition was applied.
const KIND_LIMIT: Duration = Duration::from_secs(20);

/// The result of applying an add-on.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Objects that others have changed, with the API's message about that; they stay so.
    pub conflicts: Vec<(ObjectRef, String)>,
    /// Objects of an older version of the add-on that were removed.
    pub pruned: Vec<ObjectRef>,
}

/// Puts an add-on's objects into the cluster. Fields that others have changed are left alone unless
/// `force` is set.
///
/// # Errors
/// [`Kind::Unhealthy`] when the API refuses an object or does not answer until `deadline`;
/// [`Kind::Usage`] for a kind that it does not know; [`Kind::Interrupted`] on Ctrl-C.
pub fn apply(api: &ApiClient, addon: &Addon, force: bool, deadline: Instant) -> Result<Applied> {
    let mut session = Session::new(api, &addon.name, deadline);
    let wanted: Vec<ObjectRef> = addon.objects.iter().map(Object::reference).collect();
    let digest = addon.digest();
    let before = session.recorded()?;
    // Where this very add-on was applied before, comparing is enough: it costs a tenth of applying.
    let same = before.digest == digest && !force;
    let mut all = before.objects;
    let new = wanted.iter().filter(|object| !all.contains(object));
    all.extend(new.cloned().collect::<Vec<_>>());
    if !same {
        // First all objects that will exist: an apply that is interrupted leaves none unrecorded.
        session.record(all.clone(), String::new())?;
    }
    let mut applied = Applied::default();
    for object in &addon.objects {
        let body = object.labelled(&addon.name);
        if same && session.is_applied(object, &body)? {
            continue;
        }
        if let Some(conflict) = session.apply(object, &body, force)? {
            applied.conflicts.push((object.reference(), conflict));
        }
    }
    for old in all.into_iter().rev().filter(|o| !wanted.contains(o)) {
        session.delete(&old)?;
        applied.pruned.push(old);
    }
    session.wait_until_gone(&applied.pruned)?;
    if !same {
        session.record(wanted, digest)?;
    }
    Ok(applied)
}

/// Removes an add-on's objects from the cluster, last made first, and waits until they are gone.
/// Objects that carry another owner's label by now stay.
///
/// # Errors
/// [`Kind::Unhealthy`] when the API does not answer or an object is not gone by `deadline`.
pub(crate) fn remove(api: &ApiClient, addon: &str, deadline: Instant) -> Result<Vec<ObjectRef>> {
    let mut session = Session::new(api, addon, deadline);
    let mut gone = Vec::new();
    for object in session.recorded()?.objects.into_iter().rev() {
        if session.delete(&object)? {
            gone.push(object);
        }
    }
    session.wait_until_gone(&gone)?;
    inventory::remove(api, addon)?;
    Ok(gone)
}

/// The requests about one add-on until a deadline.
struct Session<'a> {
    api: &'a ApiClient,
    addon: &'a str,
    deadline: Instant,
    resources: Resources,
}

impl<'a> Session<'a> {
    fn new(api: &'a ApiClient, addon: &'a str, deadline: Instant) -> Self {
        Session {
            api,
            addon,
            deadline,
            resources: Resources::default(),
        }
    }

    fn recorded(&self) -> Result<Inventory> {
        let recorded = self.patiently(|| inventory::read(self.api, self.addon))?;
        Ok(recorded.unwrap_or_default())
    }

    fn record(&self, objects: Vec<ObjectRef>, digest: String) -> Result<()> {
        let inventory = Inventory { objects, digest };
        self.patiently(|| inventory::write(self.api, self.addon, &inventory))
    }

    /// Returns whether the cluster's object has all that is wanted; further fields of it are
    /// defaults or others'.
    fn is_applied(&mut self, object: &Object, wanted: &Value) -> Result<bool> {
        let Some(path) = self.resources.path(self.api, &object.reference())? else {
            return Ok(false);
        };
        let answer = self.api.get(&path)?;
        Ok(answer.is_ok() && contains(&answer.value(), wanted))
    }

    /// Applies one object; returns the API's message where others have changed it.
    fn apply(&mut self, object: &Object, body: &Value, force: bool) -> Result<Option<String>> {
        let reference = object.reference();
        let path = self.wait_for_path(&reference)?;
        let answer = self.patiently(|| {
            let answer = self.api.apply(&path, body, force)?;
            // The same request may succeed a moment later.
            if matches!(answer.status, 429 | 500..=599) {
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

    /// Returns the path of an object; waits for a kind that is defined by another object.
    fn wait_for_path(&mut self, object: &ObjectRef) -> Result<String> {
        let until = self.deadline.min(Instant::now() + KIND_LIMIT);
        let path = wait::poll(until, ASK_EVERY, || self.path(object))?;
        path.ok_or_else(|| {
            let (kind, version) = (&object.kind, &object.api_version);
            Error::usage(format!("the cluster knows no kind {kind} in {version}"))
                .with_detail("it is wanted for", object.to_string())
                .with_hint("kubby kubectl -- api-resources lists all kinds")
        })
    }

    fn path(&mut self, object: &ObjectRef) -> Result<Option<String>> {
        let ask = || self.resources.path(self.api, object);
        wait::retry(self.deadline, ASK_EVERY, Kind::Unhealthy, ask)
    }

    /// Waits for objects that are being deleted: they stay until all that belongs to them is gone.
    fn wait_until_gone(&mut self, objects: &[ObjectRef]) -> Result<()> {
        for object in objects {
            let Some(path) = self.resources.path(self.api, object)? else {
                continue;
            };
            let is_gone = || Ok((!is_being_deleted(&self.api.get(&path)?)).then_some(()));
            let gone = wait::poll(self.deadline, ASK_EVERY, is_gone)?;
            gone.ok_or_else(|| {
                let (kind, name) = (&object.kind, &object.name);
                Error::unhealthy(format!("{object} is not gone in time"))
                    .with_hint(format!("kubby kubectl -- describe {kind} {name} shows why"))
                    .with_hint("the same command again continues from here")
            })?;
        }
        Ok(())
    }

    /// Deletes one object; returns `false` where the add-on has none there.
    fn delete(&mut self, object: &ObjectRef) -> Result<bool> {
        let Some(path) = self.path(object)? else {
            return Ok(false);
        };
        let found = self.patiently(|| self.api.get(&path))?;
        if found.status == 404 {
            return Ok(false);
        }
        let found = found.require_json(&format!("asking for {object}"))?;
        if found["metadata"]["labels"][LABEL] != self.addon {
            return Ok(false);
        }
        let answer = self.patiently(|| self.api.delete(&path))?;
        if answer.status == 404 || answer.is_ok() {
            return Ok(true);
        }
        Err(refused(object, &answer))
    }

    /// Asks again while the API is out of reach or busy.
    fn patiently<T>(&self, ask: impl FnMut() -> Result<T>) -> Result<T> {
        wait::retry(self.deadline, ASK_EVERY, Kind::Unhealthy, ask)
    }
}

/// Returns whether `found` has all that `wanted` has.
fn contains(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => {
            let mut fields = wanted.iter();
            fields.all(|(key, value)| found.get(key).is_some_and(|found| contains(found, value)))
        }
        (Value::Array(found), Value::Array(wanted)) => {
            found.len() == wanted.len() && found.iter().zip(wanted).all(|(f, w)| contains(f, w))
        }
        _ => found == wanted,
    }
}

/// Returns whether an object that was to be deleted still exists. One without a date of its deletion
/// is another's, or was made again.
fn is_being_deleted(answer: &Answer) -> bool {
    let deleted = || !answer.value()["metadata"]["deletionTimestamp"].is_null();
    answer.status != 404 && (!answer.is_ok() || deleted())
}

fn refused(object: &ObjectRef, answer: &Answer) -> Error {
    let status = answer.status;
    Error::unhealthy(format!("the cluster refuses {object} (HTTP {status})"))
        .with_detail("kube-apiserver says", answer.message())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn wanted_fields_are_compared_and_further_ones_ignored() {
        let wanted = json!({"spec": {"replicas": 1, "ports": [{"port": 53}]}});
        let found = |replicas: u32, ports: Value| {
            contains(
                &json!({"status": {}, "spec": {"replicas": replicas, "ports": ports}}),
                &wanted,
            )
        };
        assert!(found(1, json!([{"port": 53, "protocol": "TCP"}])));
        assert!(!found(2, json!([{"port": 53}])));
        assert!(!found(1, json!([{"port": 53}, {"port": 54}])));
        assert!(!found(1, json!([{"protocol": "TCP"}])));
        assert!(!contains(&json!({}), &wanted));
    }
}
