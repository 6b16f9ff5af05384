//! `--components DIR`: components from a user's folder.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::catalog::KUBERNETES_PROGRAMS;
use super::extras::{self, Extra};
use super::inputs::{self, Inputs};
use super::manifest::Manifest;
use super::oci;
use super::set::ComponentSet;
use super::stage::Stage;
use crate::assets::version::KubernetesVersion;
use crate::error::{Error, Kind, Result, ResultExt};
use crate::tool::Tool;

/// The content of a folder for `--components`.
#[derive(Debug)]
pub(super) enum Found {
    /// A finished volume, used where it is.
    Volume(ComponentSet),
    /// Programs to make a volume of.
    Programs(Programs),
}

/// A folder with `bin` and maybe `images`.
#[derive(Debug)]
pub(super) struct Programs {
    dir: PathBuf,
    /// With any Go that builds what is not there.
    pub inputs: Inputs,
    /// The programs that the folder lacks and that must be built.
    pub lacks: Vec<&'static Extra>,
}

/// Looks for components in `dir` and checks that they have `version`.
pub(super) fn look(dir: &Path, version: KubernetesVersion) -> Result<Found> {
    let dir = fs::canonicalize(dir).context(Kind::Usage, || {
        format!("cannot use --components {}", dir.display())
    })?;
    if dir.join("components.erofs").exists() {
        return volume(&dir, version).map(Found::Volume);
    }
    let missing = missing(&dir);
    if !missing.is_empty() {
        return Err(
            Error::assets(format!("{} lacks {}", dir.display(), missing.join(", ")))
                .with_hint("docs/components.md says what a folder for --components must hold"),
        );
    }
    for program in ["kube-apiserver", "kubelet"] {
        let found = version_of(&dir, program, "--version", "Kubernetes v")?;
        expect(&dir, version, &format!("v{found}"), program)?;
    }
    let archive = dir.join("images/coredns.tar");
    let coredns = if archive.is_file() {
        let reference = oci::name_of(&archive)?;
        reference.rsplit(":v").next().unwrap_or_default().to_owned()
    } else {
        version_of(&dir, "coredns", "-version", "CoreDNS-")?
    };
    let etcd = version_of(&dir, "etcd", "--version", "etcd Version: ")?;
    let lacks = extras::missing_in(&dir);
    let inputs = Inputs {
        directory: Some(inputs::fingerprint(&dir)?),
        etcd,
        coredns,
        recipe: (!lacks.is_empty()).then(extras::digest),
        ..Inputs::common("directory", version)?
    };
    Ok(Found::Programs(Programs { dir, inputs, lacks }))
}

/// Returns the set in a folder that is laid out like an entry of the cache.
fn volume(dir: &Path, version: KubernetesVersion) -> Result<ComponentSet> {
    let lacks: Vec<&str> = ["bin/kubectl", "bin/buildctl", "manifest.json"]
        .into_iter()
        .filter(|name| !dir.join(name).is_file())
        .collect();
    if !lacks.is_empty() {
        let message = format!(
            "{} has components.erofs, but lacks {}",
            dir.display(),
            lacks.join(", ")
        );
        return Err(Error::assets(message).with_hint(
            "all of them are in a folder that kubby made under its cache's components",
        ));
    }
    let path = dir.join("components.erofs");
    let mut head = [0; 1028];
    fs::File::open(&path)
        .and_then(|mut f| f.read_exact(&mut head))
        .context(Kind::Assets, || format!("cannot read {}", path.display()))?;
    if head[1024..] != 0xE0F5_E1E2_u32.to_le_bytes() {
        let message = format!("{} is not an erofs image", path.display());
        return Err(Error::assets(message));
    }
    let manifest = Manifest::verified(dir)?;
    expect(
        dir,
        version,
        &manifest.inputs.kubernetes,
        "components.erofs",
    )?;
    Ok(manifest.set(version, dir))
}

fn expect(dir: &Path, wanted: KubernetesVersion, found: &str, what: &str) -> Result<()> {
    if found == wanted.to_string() {
        return Ok(());
    }
    let message = format!(
        "{what} in {} is of Kubernetes {found}, not {wanted}",
        dir.display()
    );
    Err(Error::assets(message).with_hint(format!(
        "ask for that version: --kubernetes-version {found}"
    )))
}

/// Returns everything that a folder of programs must have and does not.
fn missing(dir: &Path) -> Vec<String> {
    let mut out: Vec<String> = KUBERNETES_PROGRAMS
        .iter()
        .chain(&["etcd"])
        .map(|name| format!("bin/{name}"))
        .filter(|path| !dir.join(path).is_file())
        .collect();
    for name in ["coredns", "pause"] {
        let (program, image) = (format!("bin/{name}"), format!("images/{name}.tar"));
        if !dir.join(&program).is_file() && !dir.join(&image).is_file() {
            out.push(format!("{program} or {image}"));
        }
    }
    out
}

/// Asks a program for its version, which also shows whether it runs on this machine.
fn version_of(dir: &Path, program: &str, flag: &str, prefix: &str) -> Result<String> {
    let path = dir.join("bin").join(program);
    let output = Tool::new(path.to_string_lossy(), Kind::Assets)
        .arg(flag)
        .deadline(Duration::from_secs(60))
        .run(None)?;
    output
        .lines()
        .find_map(|line| line.trim().strip_prefix(prefix))
        .map(str::to_owned)
        .ok_or_else(|| {
            Error::assets(format!("`{} {flag}` names no version", path.display()))
                .with_detail("its output", output)
        })
}

/// Copies the programs into the stage and makes the images that are not there.
pub(super) fn stage(programs: &Programs, stage: &mut Stage) -> Result<()> {
    let bin = programs.dir.join("bin");
    let mut names: Vec<String> = KUBERNETES_PROGRAMS
        .iter()
        .chain(&["etcd", "etcdctl"])
        .map(|name| (*name).to_owned())
        .filter(|name| bin.join(name).is_file())
        .collect();
    while let Some(name) = names.pop() {
        let (from, to) = (bin.join(&name), stage.bin.join(&name));
        if to.symlink_metadata().is_ok() {
            continue;
        }
        let fail = || format!("cannot copy {}", from.display());
        match neighbour(&from) {
            Some(target) => {
                std::os::unix::fs::symlink(&target, &to).context(Kind::Assets, fail)?;
                names.push(target);
            }
            None => {
                fs::copy(&from, &to).context(Kind::Assets, fail)?;
            }
        }
    }
    for name in ["pause", "coredns"] {
        let archive = programs.dir.join(format!("images/{name}.tar"));
        if archive.is_file() {
            oci::copy(&archive, name, stage)?;
        } else {
            oci::pack(&oci::Program::alone(&bin.join(name)), name, stage)?;
        }
    }
    extras::copy(&programs.dir, stage)
}

/// Returns the target of a link to a file beside it, as the names of a multi-call binary are.
fn neighbour(path: &Path) -> Option<String> {
    let target = fs::read_link(path).ok()?;
    let mut parts = target.components();
    match (parts.next(), parts.next()) {
        (Some(std::path::Component::Normal(name)), None) => name.to_str().map(str::to_owned),
        _ => None,
    }
}
