//! Importing a template from one file. Nothing of it is visible before everything was compared.

use std::fs;
use std::io;
use std::path::Path;

use serde::Serialize;

use super::header;
use super::incoming::Import;
use super::stream::Input;
use crate::cluster::env::Env;
use crate::cluster::machine::host::Host;
use crate::cluster::saved::garbage;
use crate::error::{Error, Kind, Result, ResultExt};
use crate::hypervisor;
use crate::interrupt;
use crate::progress::Step;

/// The result of an import.
#[derive(Debug, Serialize)]
pub(crate) struct Imported {
    /// The template's key.
    pub key: String,
    /// It was not there before.
    pub imported: bool,
}

/// Imports a template from a file that [`super::export()`] has written, or `-` for standard input, into
/// the libvirt at `connect`. Compares the SHA-256 of the file, where one is given.
///
/// # Errors
/// [`Kind::Usage`] for a file that is not a template; [`Kind::Assets`] for one that is cut, changed,
/// or lacks the images that it needs; [`Kind::Preflight`] for one that this host cannot use, or
/// where there is no room. Nothing of it stays then.
pub(crate) fn import(
    env: &Env<'_>,
    from: &Path,
    connect: Option<&str>,
    sha256: Option<&str>,
) -> Result<Imported> {
    let uri = hypervisor::default_uri(connect);
    let mut input = Input::open(from)?;
    let step = env
        .progress
        .step(&format!("Import a template from {}", input.label));
    let label = input.label.clone();
    let imported = read(env, &uri, sha256, &mut input, &step);
    if imported.is_err() {
        // The first error is the one to report; the next command removes what this leaves.
        let _ = tidy(env, &uri);
    }
    // What Ctrl-C broke off looks like a damaged file from further inside.
    interrupt::check()?;
    let imported = imported.map_err(|e| match e.kind() {
        Kind::Assets => e.with_hint(format!(
            "export it again, and compare the SHA-256 of {label}"
        )),
        _ => e,
    })?;
    if imported.imported {
        step.done(&imported.key);
    } else {
        step.skipped(format!("{} is here already", imported.key));
    }
    Ok(imported)
}

/// Removes what a failed import leaves unneeded: volumes, and the pool and folders of a home that has
/// nothing else.
fn tidy(env: &Env<'_>, uri: &str) -> Result<()> {
    let host = Host::open(env, uri)?;
    let shared = env.lock_shared()?;
    if host.has_own_pool()? {
        garbage::sweep(&host, None)?;
        host.remove_pool_if_empty()?;
    }
    drop(shared);
    let _ = fs::remove_dir(env.store.templates_dir());
    env.store.remove_if_empty()
}

fn read(
    env: &Env<'_>,
    uri: &str,
    sha256: Option<&str>,
    input: &mut Input,
    step: &Step,
) -> Result<Imported> {
    let label = input.label.clone();
    let damaged = || format!("the template in {label} is cut or damaged");
    let unpacked =
        zstd::Decoder::new(&mut *input).context(Kind::Internal, || "cannot unpack".into())?;
    let mut archive = tar::Archive::new(unpacked);
    let mut entries = archive.entries().context(Kind::Assets, damaged)?;
    let header = header::read(&mut entries, &label)?;
    let host = Host::open(env, uri)?;
    let _shared = env.lock_shared()?;
    let mut import = Import::begin(&host, header)?;
    if import.is_there()? {
        return Ok(Imported {
            key: import.header.key.clone(),
            imported: false,
        });
    }
    host.ensure_pool()?;
    import.require_room()?;
    let mut seen = 0;
    for entry in &mut entries {
        interrupt::check()?;
        import.unpack(&mut entry.context(Kind::Assets, damaged)?, step)?;
        seen += 1;
    }
    // The end of the compressed stream has a checksum of the whole.
    let mut rest = archive.into_inner();
    io::copy(&mut rest, &mut io::sink()).context(Kind::Assets, damaged)?;
    drop(rest);
    input.finish(sha256)?;
    if seen < import.header.members.len() {
        return Err(Error::assets(damaged()));
    }
    step.detail("checksums");
    import.verify()?;
    import.provide_base(env.progress)?;
    let key = import.finish()?;
    Ok(Imported {
        key,
        imported: true,
    })
}
