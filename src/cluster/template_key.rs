//! The settings that make up a warm template's key, and those that a restore takes over.

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::error::{Kind, Result, ResultExt};
use crate::profile::{MachineSpec, Profile};
use crate::role::Role;
use crate::units::hex;

/// Takes over the settings and assets of a saved state: everything that describes the cluster, and
/// nothing that says which cluster it is or where its machines are.
pub(crate) fn take_over(profile: &mut Profile, saved: &Profile) {
    profile.spec = saved.spec.clone();
    profile.assets = saved.assets.clone();
    for (node, saved) in profile.nodes.iter_mut().zip(&saved.nodes) {
        node.machine = saved.machine.clone();
    }
}

/// The parts of a template's key that are not in a profile.
#[derive(Debug, Default, Serialize)]
pub(crate) struct KeyParts {
    /// The digest of the files and units in the node.
    pub(crate) plan: String,
    /// The add-ons with the digests of their objects.
    pub(crate) addons: Vec<(String, String)>,
    /// The stamps of the user's image archives.
    pub(crate) archives: Vec<String>,
}

/// The length of a key, which is a folder's name.
const KEY_LENGTH: usize = 16;

/// Changes when templates of an earlier kubby cannot be used any more for reasons that are in no other
/// part of the key.
const LAYOUT: u32 = 2;

/// Returns the key of the warm template for a profile: a digest of everything that goes into a machine
/// before the user gets it.
///
/// # Errors
/// [`Kind::Internal`] when it cannot be written as JSON.
pub(crate) fn template_key(profile: &Profile, parts: &KeyParts) -> Result<String> {
    let nodes: Vec<(Role, &MachineSpec)> =
        profile.nodes.iter().map(|n| (n.role, &n.machine)).collect();
    let whole = serde_json::json!({
        "layout": LAYOUT,
        "kubby": env!("CARGO_PKG_VERSION"),
        "spec": profile.spec,
        "nodes": nodes,
        "nodeImage": profile.assets.node_image,
        "components": profile.assets.components,
        "parts": parts,
    });
    let text = serde_json::to_string(&whole)
        .context(Kind::Internal, || "cannot render a template's key".into())?;
    Ok(hex(&Sha256::digest(text))[..KEY_LENGTH].to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::host_port::{Callers, HostPort};
    use crate::hypervisor::Protocol;
    use crate::profile::Assets;

    /// The fields of a profile that do not change a template's key: they say which cluster it is, where
    /// it is and how the host reaches it. Every other field does.
    const NOT_IN_KEY: [&str; 18] = [
        "version",
        "kubby",
        "name",
        "connect",
        "kubeconfig",
        "endpoint",
        "assets.kubectl",
        // A part of the plan, whose digest is in the key.
        "assets.pause_image",
        "node.name",
        "node.uuid",
        "node.disk",
        "node.ports.ssh",
        "node.ports.api",
        "node.ports.link",
        "node.number",
        // The user's data, of which a template has none.
        "forward",
        "forward.host",
        "host_port",
    ];

    /// The fields of a profile that a restore leaves as they are.
    const NOT_RESTORED: [&str; 17] = [
        "version",
        "kubby",
        "name",
        "connect",
        "kubeconfig",
        "endpoint",
        "node.name",
        "node.role",
        "node.uuid",
        "node.disk",
        "node.ports.ssh",
        "node.ports.api",
        "node.ports.link",
        "node.number",
        "forward",
        "forward.host",
        "host_port",
    ];

    /// A profile with something in every field.
    fn full() -> Profile {
        let mut profile = crate::profile::example();
        let settings = &mut profile.spec.egress;
        settings.registry_mirrors = vec!["https://mirror.example".into()];
        settings.insecure_registries = vec!["registry.example".into()];
        profile.spec.extra_config = vec!["kubelet.v=3".parse().unwrap()];
        profile.spec.cni = crate::cni::Cni::Addon;
        profile.opened = vec![HostPort {
            port: 8099,
            protocol: Protocol::Tcp,
            callers: Callers::Api,
        }];
        profile.assets = Assets {
            node_image: "image".into(),
            components: "components".into(),
            pause_image: "pause".into(),
            kubectl: "/kubectl".into(),
        };
        profile.first_mut().machine.kernel_args = vec!["quiet".into()];
        profile.first_mut().ports.link = Some(40003);
        profile.endpoint = Some(40004);
        profile
    }

    /// Changes each leaf of a value in turn and hands the whole with the leaf's name to `look`.
    fn each_changed(whole: &Value, look: &mut dyn FnMut(&str, Value)) {
        fn walk(value: &Value, name: &str, put: &mut dyn FnMut(&str, Value)) {
            let below = |key: &str| match name {
                "" => key.to_owned(),
                name => format!("{name}.{key}"),
            };
            match value {
                Value::Object(fields) => {
                    for (key, field) in fields {
                        walk(field, &below(key), &mut |name, changed| {
                            let mut fields = fields.clone();
                            fields[key] = changed;
                            put(name, Value::Object(fields));
                        });
                    }
                }
                Value::Array(items) if items.iter().all(Value::is_object) => {
                    for (i, item) in items.iter().enumerate() {
                        walk(item, name, &mut |name, changed| {
                            let mut items = items.clone();
                            items[i] = changed;
                            put(name, Value::Array(items));
                        });
                    }
                }
                Value::Array(items) => {
                    let one = match name {
                        "spec.extra_config" => "kubelet.v=4",
                        _ => "more",
                    };
                    let more = items.iter().cloned().chain([Value::from(one)]);
                    put(name, Value::Array(more.collect()));
                }
                Value::String(text) if name == "node.role" => {
                    put(name, Value::from(text.replace("control-plane", "worker")));
                }
                Value::String(text) if name.ends_with(".acceleration") => {
                    put(name, Value::from(text.replace("tcg", "kvm")));
                }
                Value::String(text) if name == "spec.cni" => {
                    put(name, Value::from(text.replace("addon", "none")));
                }
                Value::String(text) if name == "host_port.callers" => {
                    put(name, Value::from(text.replace("api", "pods")));
                }
                Value::String(text) if name.ends_with(".protocol") => {
                    put(name, Value::from(text.replace("tcp", "udp")));
                }
                Value::String(text) => put(name, Value::from(format!("{text}x"))),
                Value::Number(number) => put(name, Value::from(number.as_u64().unwrap() + 1)),
                other => panic!("{name}: {other}"),
            }
        }
        walk(whole, "", look);
    }

    /// Whether a list of fields names one, or the table that it is in.
    fn lists(list: &[&str], name: &str) -> bool {
        list.contains(&name)
            || name
                .split('.')
                .next()
                .is_some_and(|table| list.contains(&table))
    }

    #[test]
    fn every_setting_is_in_the_key_or_listed_as_not_belonging_there() {
        let before = full();
        let key = |profile: &Profile| template_key(profile, &KeyParts::default()).unwrap();
        let mut looked = 0;
        each_changed(
            &serde_json::to_value(&before).unwrap(),
            &mut |name, changed| {
                let changed: Profile = serde_json::from_value(changed).unwrap();
                assert_ne!(changed, before, "{name}");
                let differs = key(&changed) != key(&before);
                assert_eq!(differs, !lists(&NOT_IN_KEY, name), "{name}");
                looked += 1;
            },
        );
        assert!(looked > 25, "{looked}");
        for parts in [
            KeyParts {
                plan: "x".into(),
                ..KeyParts::default()
            },
            KeyParts {
                addons: vec![("a".into(), "b".into())],
                ..KeyParts::default()
            },
            KeyParts {
                archives: vec!["x".into()],
                ..KeyParts::default()
            },
        ] {
            assert_ne!(template_key(&before, &parts).unwrap(), key(&before));
        }
    }

    #[test]
    fn a_restore_takes_over_every_setting_or_lists_it() {
        let before = full();
        each_changed(
            &serde_json::to_value(&before).unwrap(),
            &mut |name, changed| {
                let saved: Profile = serde_json::from_value(changed).unwrap();
                let mut restored = before.clone();
                take_over(&mut restored, &saved);
                let taken = restored == saved;
                assert_eq!(taken, !lists(&NOT_RESTORED, name), "{name}");
            },
        );
    }
}
