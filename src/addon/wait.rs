//! Waiting until what add-ons brought is at work.

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::definition::Addon;
use super::object::ObjectRef;
use super::resource::Resources;
use super::rollout::{self, Progress};
use crate::api::ApiClient;
use crate::error::{Error, Kind, Result};

/// The objects that are not at work yet.
pub struct Rollouts {
    resources: Resources,
    open: Vec<Open>,
    since: Option<OffsetDateTime>,
}

struct Open {
    addon: String,
    object: ObjectRef,
    why: String,
}

impl Rollouts {
    /// All that add-ons bring and that has something to wait for.
    pub fn of<'a>(addons: impl IntoIterator<Item = &'a Addon>) -> Self {
        let mut open = Vec::new();
        for addon in addons {
            for object in &addon.objects {
                let object = object.reference();
                if rollout::is_waited_for(&object.kind) {
                    open.push(Open {
                        addon: addon.name.clone(),
                        object,
                        why: "not there".into(),
                    });
                }
            }
        }
        Rollouts {
            resources: Resources::default(),
            open,
            since: None,
        }
    }

    /// Counts only pods that have come back since the node has booted. A node that lost its power
    /// could not tell the API that its pods are gone, so that all looks well there for a while.
    #[must_use]
    pub fn since(mut self, booted: Option<OffsetDateTime>) -> Self {
        self.since = booted;
        self
    }

    /// Looks at each open object once; `true` when none is open any more.
    ///
    /// # Errors
    /// [`Kind::Unhealthy`] when the API does not answer, or a Job has failed for good.
    pub fn look(&mut self, api: &ApiClient) -> Result<bool> {
        let mut index = 0;
        while let Some(open) = self.open.get_mut(index) {
            let Some(path) = self.resources.path(api, &open.object)? else {
                index += 1;
                continue;
            };
            let answer = api.get(&path)?;
            let object: Value = serde_json::from_str(&answer.body).unwrap_or_default();
            let mut judged = rollout::judge(&object);
            if let (Progress::Done, Some(since)) = (&judged, self.since)
                && let Some(pods) = pods_of(api, &open.object, &object)?
            {
                judged = rollout::back_since(&pods, since);
            }
            match judged {
                _ if answer.status == 404 => {}
                Progress::Done => {
                    self.open.remove(index);
                    continue;
                }
                Progress::Waiting(why) => open.why = why,
                Progress::Failed(why) => {
                    let message = format!("{} of the add-on `{}` failed", open.object, open.addon);
                    return Err(Error::new(Kind::Unhealthy, message).with_detail("why", why));
                }
            }
            index += 1;
        }
        Ok(self.open.is_empty())
    }

    /// What is waited for, in one line.
    pub fn summary(&self) -> String {
        self.open
            .first()
            .map(|o| format!("{}: {} {}", o.addon, o.object, o.why))
            .unwrap_or_default()
    }

    /// Why it takes too long: what is open, and what its pods say.
    pub fn overdue(&mut self, api: &ApiClient, seconds: u64) -> Error {
        let names: Vec<&str> = self.open.iter().map(|o| o.addon.as_str()).collect();
        let mut error = Error::new(
            Kind::Unhealthy,
            format!(
                "the add-on {} is not at work after {seconds} s",
                deduplicated(&names)
            ),
        );
        let lines: Vec<String> = self
            .open
            .iter()
            .map(|o| format!("{}: {}", o.object, o.why))
            .collect();
        error = error.with_detail("waiting for", lines.join("\n"));
        let mut troubles = Vec::new();
        for open in &self.open {
            troubles
                .extend(troubles_of(api, &mut self.resources, &open.object).unwrap_or_default());
        }
        error
            .with_detail("its pods", troubles.join("\n"))
            .with_hint("kubby kubectl -- get pods --all-namespaces, and describe one of them")
            .with_hint(
                "kubby addon list shows the add-ons; kubby addon disable NAME goes on without one",
            )
    }
}

fn deduplicated(names: &[&str]) -> String {
    let mut names: Vec<String> = names.iter().map(|n| format!("`{n}`")).collect();
    names.dedup();
    names.join(", ")
}

/// What keeps a workload's pods from running.
fn troubles_of(
    api: &ApiClient,
    resources: &mut Resources,
    object: &ObjectRef,
) -> Result<Vec<String>> {
    let Some(path) = resources.path(api, object)? else {
        return Ok(Vec::new());
    };
    let owner: Value = serde_json::from_str(&api.get(&path)?.body).unwrap_or_default();
    let pods = pods_of(api, object, &owner)?;
    Ok(pods.map_or_else(Vec::new, |pods| rollout::troubles(&pods)))
}

/// A workload's pods, as a PodList; none for what has no pods.
fn pods_of(api: &ApiClient, object: &ObjectRef, owner: &Value) -> Result<Option<Value>> {
    if object.kind == "Pod" {
        return Ok(Some(json!({"items": [owner]})));
    }
    let Some(labels) = owner["spec"]["selector"]["matchLabels"].as_object() else {
        return Ok(None);
    };
    let selector: Vec<String> = labels
        .iter()
        .filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?)))
        .collect();
    let namespace = object.namespace.as_deref().unwrap_or("default");
    let selector = selector.join(",").replace('/', "%2F").replace('=', "%3D");
    let path = format!("/api/v1/namespaces/{namespace}/pods?labelSelector={selector}");
    api.get_json(&path).map(Some)
}
