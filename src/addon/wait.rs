//! Waits until the objects of add-ons are ready.

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::definition::Addon;
use super::object::ObjectRef;
use super::resource::Resources;
use super::rollout::{self, Progress};
use crate::api::{ApiClient, selected};
use crate::error::{Error, Result};

/// The objects that are not ready yet.
pub(crate) struct Rollouts {
    resources: Resources,
    open: Vec<Open>,
    since: Vec<(String, OffsetDateTime)>,
}

struct Open {
    addon: String,
    object: ObjectRef,
    why: String,
}

impl Rollouts {
    /// Returns all objects of add-ons that need a wait.
    pub(crate) fn of<'a>(addons: impl IntoIterator<Item = &'a Addon>) -> Self {
        let open = addons.into_iter().flat_map(|addon| {
            let objects = addon.objects.iter().map(|object| object.reference());
            let waited_for = objects.filter(|object| rollout::is_waited_for(&object.kind));
            waited_for.map(|object| Open {
                addon: addon.name.clone(),
                object,
                why: "not there".into(),
            })
        });
        Rollouts {
            open: open.collect(),
            resources: Resources::default(),
            since: Vec::new(),
        }
    }

    /// Counts only pods that were started after the boot of their node, for these nodes. A node that lost
    /// its power could not report to the API that its pods are gone, so that all seems ready there for a
    /// while.
    #[must_use]
    pub(crate) fn since(mut self, boots: Vec<(String, OffsetDateTime)>) -> Self {
        self.since = boots;
        self
    }

    /// Checks each open object once; returns `true` when none is open any more.
    ///
    /// # Errors
    /// [`crate::error::Kind::Unhealthy`] when the API does not answer, or a Job has failed for good.
    pub(crate) fn look(&mut self, api: &ApiClient) -> Result<bool> {
        let mut index = 0;
        while let Some(open) = self.open.get_mut(index) {
            let Some(path) = self.resources.path(api, &open.object)? else {
                index += 1;
                continue;
            };
            let answer = api.get(&path)?;
            let object = answer.value();
            let mut judged = rollout::judge(&object);
            if judged == Progress::Done
                && !self.since.is_empty()
                && let Some(pods) = pods_of(api, &open.object, &object)?
            {
                judged = rollout::back_since(&pods, &self.since);
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
                    return Err(Error::unhealthy(message).with_detail("why", why));
                }
            }
            index += 1;
        }
        Ok(self.open.is_empty())
    }

    /// Returns in one line which object is waited for.
    pub(crate) fn summary(&self) -> String {
        let first = self.open.first();
        first.map_or_else(String::new, |o| {
            format!("{}: {} {}", o.addon, o.object, o.why)
        })
    }

    /// Makes the error about a wait that takes too long: the open objects, and their pods' problems.
    pub(crate) fn overdue(&mut self, api: &ApiClient, seconds: u64) -> Error {
        let (mut names, mut lines, mut problems) = (Vec::new(), Vec::new(), Vec::new());
        for open in &self.open {
            names.push(format!("`{}`", open.addon));
            lines.push(format!("{}: {}", open.object, open.why));
            problems
                .extend(problems_of(api, &mut self.resources, &open.object).unwrap_or_default());
        }
        names.dedup();
        let names = names.join(", ");
        Error::unhealthy(format!("the add-on {names} is not ready after {seconds} s"))
            .with_detail("waiting for", lines.join("\n"))
            .with_detail("its pods", problems.join("\n"))
            .with_hint("kubby kubectl -- get pods --all-namespaces, and describe one of them")
            .with_hint(
                "kubby addon list shows the add-ons; kubby addon disable NAME continues without one",
            )
    }
}

/// Returns the problems of a workload's pods.
fn problems_of(
    api: &ApiClient,
    resources: &mut Resources,
    object: &ObjectRef,
) -> Result<Vec<String>> {
    let Some(path) = resources.path(api, object)? else {
        return Ok(Vec::new());
    };
    let owner = api.get(&path)?.value();
    let pods = pods_of(api, object, &owner)?;
    Ok(pods.map_or_else(Vec::new, |pods| rollout::problems(&pods)))
}

/// Returns a workload's pods as a PodList; `None` for an object without pods.
fn pods_of(api: &ApiClient, object: &ObjectRef, owner: &Value) -> Result<Option<Value>> {
    if object.kind == "Pod" {
        return Ok(Some(json!({"items": [owner]})));
    }
    let Some(labels) = owner["spec"]["selector"]["matchLabels"].as_object() else {
        return Ok(None);
    };
    let labels = labels.iter();
    let selector: Vec<String> = labels
        .filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?)))
        .collect();
    let namespace = object.namespace.as_deref().unwrap_or("default");
    let pods = format!("/api/v1/namespaces/{namespace}/pods");
    api.get_json(&selected(&pods, &selector.join(",")))
        .map(Some)
}
