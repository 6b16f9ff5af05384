//! `--extra-config` and `--feature-gates`: the user's own settings of Kubernetes' components.

mod component;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub(crate) use component::Component;

use crate::error::{Error, Result};

/// One setting: a flag of a component, or for kube-proxy a field of its configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Setting {
    component: Component,
    name: String,
    /// `None` takes an earlier setting back.
    value: Option<String>,
}

/// The feature gates of all components, as `NAME=true,NAME=false`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeatureGates(String);

/// The longest value, in bytes.
const LONGEST: usize = 4096;

impl FromStr for Setting {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |why: &str| {
            let names: Vec<&str> = Component::ALL.map(Component::name).to_vec();
            Error::usage(format!("`{text}`: {why}")).with_hint(format!(
                "COMPONENT.FLAG=VALUE, or COMPONENT.FLAG- to take it back; components: {}",
                names.join(", ")
            ))
        };
        let (component, rest) = text
            .split_once('.')
            .ok_or_else(|| wrong("it names no flag"))?;
        let component =
            Component::of_name(component).ok_or_else(|| wrong("there is no such component"))?;
        let (name, value) = match (rest.split_once('='), rest.strip_suffix('-')) {
            (Some((name, value)), _) => (name, Some(value)),
            (None, Some(name)) => (name, None),
            (None, None) => return Err(wrong("it has no value")),
        };
        let name = name.strip_prefix("--").unwrap_or(name);
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
        let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric());
        if !begins || !name.chars().all(is_name) {
            return Err(wrong("that is not the name of a flag"));
        }
        let first = name.split('.').next().unwrap_or_default();
        if component.own().contains(&first) {
            return Err(wrong("kubby sets this itself, and relies on it"));
        }
        if value.is_some_and(|value| value.len() > LONGEST || value.contains(char::is_control)) {
            return Err(wrong("the value is too long or not one line of text"));
        }
        Ok(Setting {
            component,
            name: name.to_owned(),
            value: value.map(str::to_owned),
        })
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.component.name(), self.name)?;
        match &self.value {
            Some(value) => write!(f, "={value}"),
            None => f.write_str("-"),
        }
    }
}

impl From<Setting> for String {
    fn from(setting: Setting) -> Self {
        setting.to_string()
    }
}

impl TryFrom<String> for Setting {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl FromStr for FeatureGates {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        for gate in text.split(',').filter(|_| !text.is_empty()) {
            let (name, value) = gate.split_once('=').unwrap_or((gate, ""));
            let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric());
            if !is_name || !["true", "false"].contains(&value) {
                return Err(Error::usage(format!("`{gate}` is not a feature gate"))
                    .with_hint("NAME=true or NAME=false, with commas between several"));
            }
        }
        Ok(FeatureGates(text.to_owned()))
    }
}

/// The flag of the feature gates; in kube-proxy's configuration they are a map.
const GATES: &str = "feature-gates";

/// Adds settings to earlier ones: a setting of the same flag is replaced or taken back. Gates without text take all
/// gates back.
pub(crate) fn update(settings: &mut Vec<Setting>, new: &[Setting], gates: Option<&FeatureGates>) {
    let of_gates = |gates: &FeatureGates| {
        let components = Component::ALL.into_iter();
        let components = components.filter(|component| *component != Component::Etcd);
        let value = Some(gates.0.clone()).filter(|text| !text.is_empty());
        let setting = |component| Setting {
            component,
            name: GATES.to_owned(),
            value: value.clone(),
        };
        components.map(setting).collect::<Vec<_>>()
    };
    for setting in gates.map(of_gates).iter().flatten().chain(new) {
        settings.retain(|old| (old.component, &old.name) != (setting.component, &setting.name));
        settings.extend(setting.value.is_some().then(|| setting.clone()));
    }
}

/// Returns the flags of a component.
pub(crate) fn flags(settings: &[Setting], component: Component) -> Vec<String> {
    let own = settings
        .iter()
        .filter(|setting| setting.component == component);
    let flag = |setting: &Setting| {
        let value = setting.value.as_deref().unwrap_or_default();
        format!("--{}={value}", setting.name)
    };
    own.map(flag).collect()
}

/// Puts the settings of kube-proxy into its configuration. Values are JSON where they can be read as such, and text
/// otherwise.
pub(crate) fn configure_proxy(settings: &[Setting], config: &mut Value) {
    let own = settings
        .iter()
        .filter(|setting| setting.component == Component::Proxy);
    for Setting { name, value, .. } in own {
        let value = value.as_deref().unwrap_or_default();
        if name == GATES {
            let gates = value.split(',').filter_map(|gate| gate.split_once('='));
            let gates = gates.map(|(name, value)| (name.to_owned(), json!(value == "true")));
            config["featureGates"] = Value::Object(gates.collect());
            continue;
        }
        let mut place = &mut *config;
        for field in name.split('.') {
            if !place.is_object() {
                *place = json!({});
            }
            place = &mut place[field];
        }
        *place = serde_json::from_str(value).unwrap_or_else(|_| json!(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(texts: &[&str]) -> Vec<Setting> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn settings_are_what_they_were_written_as() {
        for (text, plain) in [
            ("kubelet.max-pods=42", "kubelet.max-pods=42"),
            ("kube-apiserver.v=3", "apiserver.v=3"),
            ("apiserver.--v=3", "apiserver.v=3"),
            (
                "proxy.ipvs.strictARP=true",
                "kube-proxy.ipvs.strictARP=true",
            ),
            (
                "etcd.quota-backend-bytes=a=b-",
                "etcd.quota-backend-bytes=a=b-",
            ),
            ("scheduler.v-", "scheduler.v-"),
            (
                "controller-manager.controllers=",
                "controller-manager.controllers=",
            ),
        ] {
            assert_eq!(text.parse::<Setting>().unwrap().to_string(), plain);
        }
    }

    #[test]
    fn nonsense_is_refused_with_the_form() {
        for (text, why) in [
            ("", "names no flag"),
            ("kubelet", "names no flag"),
            ("kubeadm.v=3", "no such component"),
            ("kubelet.v", "no value"),
            ("kubelet.=3", "not the name"),
            ("kubelet.-", "not the name"),
            ("kubelet.a b=3", "not the name"),
            ("kubelet.v=3\n--evil", "one line"),
            ("apiserver.etcd-servers=http://a", "relies on"),
            ("kubelet.config-", "relies on"),
            ("proxy.clientConnection.kubeconfig=a", "relies on"),
        ] {
            let e = text.parse::<Setting>().unwrap_err();
            assert!(e.message().contains(why), "{text}: {e}");
        }
        let long = format!("kubelet.v={}", "a".repeat(LONGEST + 1));
        assert!(long.parse::<Setting>().is_err());
        for gates in ["A", "A=1", "=true", "A=true,", "A=true B=true"] {
            assert!(gates.parse::<FeatureGates>().is_err(), "{gates}");
        }
    }

    #[test]
    fn later_settings_replace_earlier_ones() {
        let mut all = parsed(&["kubelet.v=1", "apiserver.v=2"]);
        update(
            &mut all,
            &parsed(&["kubelet.v=3", "apiserver.v-", "etcd.quiet=1"]),
            None,
        );
        assert_eq!(all, parsed(&["kubelet.v=3", "etcd.quiet=1"]));
        let gates: FeatureGates = "A=true,B=false".parse().unwrap();
        update(&mut all, &[], Some(&gates));
        assert_eq!(all.len(), 7);
        assert_eq!(
            flags(&all, Component::Kubelet),
            ["--v=3", "--feature-gates=A=true,B=false"]
        );
        assert_eq!(flags(&all, Component::Etcd), ["--quiet=1"]);
        update(&mut all, &[], Some(&"".parse().unwrap()));
        assert_eq!(all, parsed(&["kubelet.v=3", "etcd.quiet=1"]));
    }

    #[test]
    fn the_proxy_has_a_configuration() {
        let mut all = parsed(&["proxy.mode=nftables", "proxy.conntrack.maxPerCore=0"]);
        update(&mut all, &[], Some(&"A=true,B=false".parse().unwrap()));
        let mut config = json!({"mode": "iptables", "kind": "K"});
        configure_proxy(&all, &mut config);
        assert_eq!(
            config,
            json!({
                "mode": "nftables", "kind": "K", "conntrack": {"maxPerCore": 0},
                "featureGates": {"A": true, "B": false},
            })
        );
    }

    #[test]
    fn a_profile_has_them_as_text() {
        let all = parsed(&["kubelet.v=1"]);
        let text = serde_json::to_string(&all).unwrap();
        assert_eq!(text, r#"["kubelet.v=1"]"#);
        assert_eq!(serde_json::from_str::<Vec<Setting>>(&text).unwrap(), all);
    }
}
