//! Add-ons of the user's own: a folder of manifests and images, read when it is enabled and kept
//! with the profile, so that every start applies the same manifests again.

use std::fs;
use std::path::{Path, PathBuf};

use super::definition::{self, Addon, DEFINITION};
use crate::error::{Error, Kind, Result, ResultExt};
use crate::fsutil;
use crate::store::ProfileDir;
use crate::tool::Tool;

/// The files that mark a folder as one of kustomize.
const KUSTOMIZATIONS: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// The sub-folder with image archives.
const IMAGES: &str = "images";

/// The endings of image archives.
const ARCHIVES: [&str; 4] = [".tar", ".tar.gz", ".tgz", ".tar.zst"];

/// The content of an add-on's folder.
#[derive(Debug)]
pub struct Folder {
    /// The add-on.
    pub addon: Addon,
    /// Image archives (`docker save` or OCI) to load into the node first.
    pub archives: Vec<PathBuf>,
}

/// Returns whether an argument means a folder rather than the name of an add-on.
pub(crate) fn is_folder(text: &str) -> bool {
    text.contains('/') || text == "." || text == ".."
}

/// Reads an add-on's folder; `kubectl` renders it where it is one of kustomize.
///
/// # Errors
/// [`Kind::Usage`] when there is no such folder or it does not hold an add-on.
pub fn read(folder: &Path, kubectl: &Path) -> Result<Folder> {
    let fail = || format!("cannot read the add-on's folder {}", folder.display());
    let folder = folder.canonicalize().context(Kind::Usage, fail)?;
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let mut files: Vec<(String, String)> = Vec::new();
    let kustomized = KUSTOMIZATIONS.iter().any(|name| folder.join(name).exists());
    for (file, path) in files_in(&folder)? {
        if file == DEFINITION || (definition::is_manifest(&file) && !kustomized) {
            let fail = || format!("cannot read {}", path.display());
            files.push((file, fs::read_to_string(&path).context(Kind::Usage, fail)?));
        }
    }
    if kustomized {
        let rendered = Tool::new(kubectl.to_string_lossy(), Kind::Usage)
            .arg("kustomize")
            .arg(&folder)
            .deadline(std::time::Duration::from_secs(60))
            .run(None)?;
        files.push(("kustomization.yaml".into(), rendered));
    }
    let mut addon = definition::assemble(&name, &files)?;
    if definition::builtin()
        .iter()
        .any(|known| known.name == addon.name)
    {
        return Err(Error::usage(format!(
            "`{}` is the name of an add-on of kubby itself",
            addon.name
        ))
        .with_hint(format!(
            "give the folder another name, or write name = \"…\" into its {DEFINITION}"
        )));
    }
    addon.default = false;
    addon.folder = Some(folder.clone());
    let mut archives = Vec::new();
    if folder.join(IMAGES).is_dir() {
        let mut images = files_in(&folder.join(IMAGES))?;
        images.retain(|(name, _)| ARCHIVES.iter().any(|ending| name.ends_with(ending)));
        archives.extend(images.into_iter().map(|(_, path)| path));
    }
    Ok(Folder { addon, archives })
}

/// Returns the files in a folder by their names, sorted. A link may lead to a file, as in a mounted
/// ConfigMap.
fn files_in(dir: &Path) -> Result<Vec<(String, PathBuf)>> {
    let fail = || format!("cannot read the add-on's folder {}", dir.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).context(Kind::Usage, fail)? {
        let entry = entry.context(Kind::Usage, fail)?;
        if entry.path().is_file() {
            let name = entry.file_name().to_string_lossy().into_owned();
            found.push((name, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

/// Writes an add-on into the profile's folder.
///
/// # Errors
/// [`Kind::Internal`] when the file system refuses.
pub(crate) fn keep(dir: &ProfileDir, addon: &Addon) -> Result<()> {
    let text = serde_json::to_vec_pretty(addon).context(Kind::Internal, || {
        format!("cannot render the add-on `{}`", addon.name)
    })?;
    fsutil::create_private_dir(&dir.addons())?;
    fsutil::write_atomic(&file(dir, &addon.name), &text, 0o600)
}

/// Returns the kept add-on of a name; `None` where there is none.
///
/// # Errors
/// [`Kind::State`] when its file is damaged.
pub(crate) fn kept(dir: &ProfileDir, name: &str) -> Result<Option<Addon>> {
    let path = file(dir, name);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e).context(Kind::State, || format!("cannot read {}", path.display())),
    };
    serde_json::from_slice(&text).map(Some).map_err(|e| {
        Error::state(format!("the add-on's file {} is damaged", path.display()))
            .with_source(e)
            .with_hint(format!(
                "kubby addon enable the add-on's folder again, or kubby addon disable {name}"
            ))
    })
}

/// Removes a kept add-on from the profile's folder.
///
/// # Errors
/// [`Kind::Internal`] when the file system refuses.
pub(crate) fn forget(dir: &ProfileDir, name: &str) -> Result<()> {
    fsutil::remove_all(&file(dir, name))
}

fn file(dir: &ProfileDir, name: &str) -> PathBuf {
    dir.addons().join(format!("{name}.json"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n";

    #[test]
    fn names_and_folders_are_distinguished() {
        assert!(is_folder("./dns") && is_folder("/a") && is_folder("a/") && is_folder("."));
        assert!(!is_folder("dns"));
    }

    #[test]
    fn a_folder_is_read_and_kept() {
        let tmp = tempfile::tempdir().unwrap();
        let folder = tmp.path().join("mine");
        fs::create_dir_all(folder.join("images")).unwrap();
        fs::write(folder.join("pod.yaml"), POD).unwrap();
        fs::write(folder.join("README.md"), "not a manifest").unwrap();
        for name in ["b.tar", "a.tar.gz", "notes.txt"] {
            fs::write(folder.join("images").join(name), "").unwrap();
        }
        let read = read(&folder, Path::new("kubectl")).unwrap();
        assert_eq!(read.addon.name, "mine");
        assert_eq!(read.addon.objects.len(), 1);
        let names: Vec<_> = read
            .archives
            .iter()
            .map(|p| p.file_name().unwrap())
            .collect();
        assert_eq!(names, ["a.tar.gz", "b.tar"]);

        let dir = Store::at(tmp.path(), tmp.path()).profile_dir(&"dev".parse().unwrap());
        keep(&dir, &read.addon).unwrap();
        assert_eq!(kept(&dir, "mine").unwrap(), Some(read.addon));
        fs::write(dir.addons().join("mine.json"), "{").unwrap();
        assert_eq!(kept(&dir, "mine").unwrap_err().kind(), Kind::State);
        forget(&dir, "mine").unwrap();
        assert_eq!(kept(&dir, "mine").unwrap(), None);
    }

    #[test]
    fn a_folder_cannot_pass_for_a_built_in_add_on() {
        let tmp = tempfile::tempdir().unwrap();
        let folder = tmp.path().join("dns");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("pod.yaml"), POD).unwrap();
        let e = read(&folder, Path::new("kubectl")).unwrap_err();
        assert!(e.message().contains("kubby itself"), "{e}");
        assert_eq!(
            read(&tmp.path().join("none"), Path::new("kubectl"))
                .unwrap_err()
                .kind(),
            Kind::Usage
        );
    }
}
