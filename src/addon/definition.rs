//! The definition of an add-on, put together from its files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::object::{self, Object};
use crate::assets::recipes;
use crate::error::{Error, Kind, Result, ResultExt};
use crate::name::checked;
use crate::units::hex;

/// The file of an add-on's folder that describes it.
pub(super) const DEFINITION: &str = "addon.toml";

/// An add-on, ready to be applied.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Addon {
    /// Its name, which `enable` and `disable` take.
    pub name: String,
    /// One line for `list`.
    pub description: String,
    /// Whether `kubby start` enables it unless a flag says otherwise.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub default: bool,
    /// Archives of the component volume that its images are in, such as `coredns`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<String>,
    /// The folder that it was read from; `None` for one of kubby's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<PathBuf>,
    /// Its objects in the order in which they are applied.
    pub objects: Vec<Object>,
}

impl Addon {
    /// Returns the SHA-256 of its objects in hex, which differs for other objects.
    pub fn digest(&self) -> String {
        let text = serde_json::to_vec(&self.objects).unwrap_or_default();
        hex(&Sha256::digest(text))
    }
}

/// `addon.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Definition {
    name: Option<String>,
    description: Option<String>,
    #[serde(default)]
    default: bool,
    #[serde(default)]
    images: Vec<String>,
}

/// kubby's own add-ons, sorted by name.
static BUILTIN: LazyLock<Vec<Addon>> = LazyLock::new(|| {
    let mut folders: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for (path, content) in recipes::files("addons") {
        if let Some((folder, file)) = path.split_once('/') {
            let text = String::from_utf8_lossy(&content).into_owned();
            let files = folders.entry(folder.to_owned()).or_default();
            files.push((file.to_owned(), text));
        }
    }
    let folders = folders.iter();
    let all = folders.map(|(name, files)| assemble(name, files).expect("a test reads them all"));
    all.collect()
});

/// Returns kubby's own add-ons, sorted by name.
pub(crate) fn builtin() -> &'static [Addon] {
    &BUILTIN
}

/// Returns the built-in add-on of a name.
///
/// # Errors
/// [`Kind::Usage`] with the names of all built-in add-ons.
pub fn find(name: &str) -> Result<Addon> {
    let all = builtin();
    let found = all.iter().find(|a| a.name == name);
    found.cloned().ok_or_else(|| {
        let names: Vec<&str> = all.iter().map(|a| a.name.as_str()).collect();
        let names = names.join(", ");
        Error::usage(format!(
            "there is no add-on named `{name}`; there are {names}"
        ))
        .with_hint(format!(
            "for a folder of manifests of your own give its path: kubby addon enable ./{name}"
        ))
    })
}

/// Returns the names of the add-ons that a new cluster gets.
pub(crate) fn default_names() -> Vec<String> {
    let all = builtin().iter();
    all.filter(|a| a.default).map(|a| a.name.clone()).collect()
}

/// Puts an add-on together from its files as `(name, text)`.
pub(super) fn assemble(folder: &str, files: &[(String, String)]) -> Result<Addon> {
    let definition: Definition = match files.iter().find(|(name, _)| name == DEFINITION) {
        Some((name, text)) => toml::from_str(text).context(Kind::Usage, || {
            format!("the add-on's {folder}/{name} cannot be read")
        })?,
        None => Definition::default(),
    };
    let name = definition.name.unwrap_or_else(|| folder.to_owned());
    // It becomes part of a ConfigMap's name, a label and a file.
    let name = checked(&name, "an add-on").map_err(|why| {
        let hint = format!("{DEFINITION} in its folder can give another: name = \"…\"");
        Error::usage(why).with_hint(hint)
    })?;
    let mut objects = Vec::new();
    for (file, text) in files {
        if is_manifest(file) {
            objects.extend(object::parse(&format!("{folder}/{file}"), text)?);
        }
    }
    if objects.is_empty() {
        return Err(
            Error::usage(format!("the add-on `{name}` has no manifests")).with_hint(
                "its folder needs at least one .yaml, .yml or .json file with Kubernetes objects",
            ),
        );
    }
    // A stable sort: within a rank the author's order stays.
    objects.sort_by_key(Object::rank);
    let description = definition.description;
    Ok(Addon {
        description: description.unwrap_or_else(|| format!("{} objects", objects.len())),
        default: definition.default,
        images: definition.images,
        folder: None,
        name,
        objects,
    })
}

/// Returns whether a file of an add-on's folder holds objects.
pub(super) fn is_manifest(file: &str) -> bool {
    let ending = Path::new(file).extension().and_then(|e| e.to_str());
    matches!(ending, Some("yaml" | "yml" | "json"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assets::components;
    use crate::network::Network;
    use serde_json::Value;

    /// All strings under the key `image`.
    fn images(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    match value.as_str() {
                        Some(image) if key == "image" => found.push(image.to_owned()),
                        _ => images(value, found),
                    }
                }
            }
            Value::Array(all) => all.iter().for_each(|v| images(v, found)),
            _ => {}
        }
    }

    #[test]
    fn the_images_of_built_in_add_ons_are_in_the_component_volume() {
        for addon in builtin() {
            let mut used = Vec::new();
            for object in &addon.objects {
                images(object.value(), &mut used);
            }
            assert_eq!(used.is_empty(), addon.images.is_empty(), "{}", addon.name);
            for image in used {
                let from_its_archives = components::IMAGES.iter().any(|(archive, name)| {
                    *name == image && addon.images.iter().any(|own| own == archive)
                });
                assert!(from_its_archives, "{}: {image}", addon.name);
            }
        }
    }

    #[test]
    fn dns_is_where_the_kubelet_sends_pods() {
        let dns = find("dns").unwrap();
        assert!(dns.default);
        let find = |kind: &str| {
            let found = dns.objects.iter().find(|o| o.reference().kind == kind);
            found.unwrap().value().clone()
        };
        assert_eq!(
            find("Service")["spec"]["clusterIP"],
            Network::default().dns_ip().to_string()
        );
        let corefile = find("ConfigMap")["data"]["Corefile"].to_string();
        assert!(corefile.contains(&format!("kubernetes {} ", Network::default().domain)));
    }

    #[test]
    fn the_error_about_an_unknown_add_on_lists_the_known_ones() {
        let e = find("dsn").unwrap_err();
        assert_eq!(e.kind(), Kind::Usage);
        assert!(e.message().contains("dns"), "{e}");
    }

    #[test]
    fn odd_folders_are_refused() {
        let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n".to_owned();
        let file = |name: &str, text: &str| (name.to_owned(), text.to_owned());
        for (folder, files, why) in [
            ("a", vec![file("README.md", "x")], "no manifests"),
            ("A b", vec![file("a.yaml", &pod)], "not an add-on name"),
            (
                "a",
                vec![file("a.yaml", &pod), file(DEFINITION, "nmae = 1")],
                "cannot be read",
            ),
            ("a", vec![file("a.yaml", "kind: Pod")], "cannot be used"),
        ] {
            let e = assemble(folder, &files).unwrap_err();
            assert_eq!(e.kind(), Kind::Usage);
            assert!(e.message().contains(why), "{e}");
        }
        let named = [file("a.yaml", &pod), file(DEFINITION, "name = \"b\"")];
        assert_eq!(assemble("A b", &named).unwrap().name, "b");
    }
}
