//! NetworkPolicies that a cluster has, and whether something of kubby's enforces them.

use crate::api::{ApiClient, items};
use crate::cni::Cni;
use crate::error::Result;
use crate::name::ProfileName;
use crate::profile::Profile;

/// The add-on that enforces them.
pub(crate) const ADDON: &str = "policies";

/// Returns the add-ons of a new cluster. Most network plugins of the user's enforce policies in their own way.
pub(crate) fn usual_addons(cni: Cni) -> Vec<String> {
    let mut addons = crate::addon::default_names();
    addons.retain(|name| name != ADDON || cni.is_own());
    addons
}

/// Returns whether a cluster with kubby's network does without the add-on. A plugin of the user's may enforce policies,
/// or not.
pub(crate) fn are_off(profile: &Profile) -> bool {
    profile.spec.cni.is_own() && !profile.spec.addons.iter().any(|addon| addon == ADDON)
}

/// Returns what to say about a cluster whose NetworkPolicies kubby does not enforce, and the command that changes
/// that; `None` where it has none, the add-on is enabled, or the network is not kubby's.
///
/// # Errors
/// [`crate::error::Kind::Unhealthy`] when the API does not answer.
pub(crate) fn unenforced(api: &ApiClient, profile: &Profile) -> Result<Option<(String, String)>> {
    if !are_off(profile) {
        return Ok(None);
    }
    let list = api.get("/apis/networking.k8s.io/v1/networkpolicies?limit=500")?;
    let list = list.require_json("listing NetworkPolicies")?;
    Ok(told(&profile.name, items(&list["items"]).count()))
}

fn told(name: &ProfileName, count: usize) -> Option<(String, String)> {
    let are = match count {
        0 => return None,
        1 => "a NetworkPolicy of `{}` is".to_owned(),
        count => format!("{count} NetworkPolicies of `{{}}` are"),
    };
    let are = are.replace("{}", name.as_str());
    Some((
        format!("{are} not enforced by kubby: the add-on `{ADDON}` is off"),
        format!(
            "kubby addon enable{} {ADDON}, or a network plugin of your own",
            name.flag()
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_policies_that_are_there_are_told_of() {
        let name: ProfileName = "dev".parse().unwrap();
        assert_eq!(told(&name, 0), None);
        let (text, remedy) = told(&name, 1).unwrap();
        assert!(
            text.starts_with("a NetworkPolicy of `dev` is not enforced"),
            "{text}"
        );
        assert!(
            remedy.starts_with("kubby addon enable -p dev policies"),
            "{remedy}"
        );
        let (text, _) = told(&name, 3).unwrap();
        assert!(
            text.starts_with("3 NetworkPolicies of `dev` are not enforced"),
            "{text}"
        );
    }

    #[test]
    fn plugins_of_the_users_come_without_the_add_on() {
        assert!(usual_addons(Cni::Bridge).iter().any(|name| name == ADDON));
        assert!(!usual_addons(Cni::None).iter().any(|name| name == ADDON));
        assert!(!usual_addons(Cni::Addon).is_empty());
    }

    #[test]
    fn the_add_on_exists() {
        assert!(crate::addon::find(ADDON).is_ok());
    }
}
