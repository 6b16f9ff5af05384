//! Bringing the files of earlier kubbys to the present version, one version after the other. A
//! step works on the text's own tree, so that it stays right when [`super::Profile`] changes.

use toml::{Table, Value};

use super::ProfileName;

/// The version of the profile file that this kubby writes.
pub const FILE_VERSION: u32 = 2;

/// Changes a file of one version to the next one, but for the number; or says what is wrong in it.
type Step = fn(&mut Table) -> Result<(), String>;

/// The first leads from version 1 to version 2.
const STEPS: [Step; FILE_VERSION as usize - 1] = [name_disk_and_addons];

/// Why a file cannot be used.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// It has this version, which only a newer kubby knows.
    Newer(u32),
    /// It is damaged, for this reason.
    Damaged(String),
}

/// The version that a file says it has.
pub(super) fn version(table: &Table) -> Result<u32, Refusal> {
    let found = table.get("version").and_then(Value::as_integer);
    let version = found.and_then(|version| u32::try_from(version).ok());
    match version {
        Some(version) if version > FILE_VERSION => Err(Refusal::Newer(version)),
        Some(version) if version > 0 => Ok(version),
        _ => Err(Refusal::Damaged("it says no version".into())),
    }
}

/// Brings a file to the present version.
pub(super) fn migrate(mut table: Table) -> Result<Table, Refusal> {
    let from = version(&table)?;
    for step in &STEPS[from as usize - 1..] {
        step(&mut table).map_err(Refusal::Damaged)?;
    }
    table.insert("version".into(), FILE_VERSION.into());
    Ok(table)
}

/// Version 1 came before add-ons and before a node's disk could be another volume than the first,
/// and left out what was usual.
fn name_disk_and_addons(table: &mut Table) -> Result<(), String> {
    let name = table.get("name").and_then(Value::as_str);
    let name: ProfileName = name.ok_or("it says no name")?.parse()?;
    table
        .entry("disk")
        .or_insert_with(|| format!("{}.disk.qcow2", name.resource_name()).into());
    table
        .entry("addons")
        .or_insert_with(|| vec![Value::from("dns"), Value::from("storage")].into());
    Ok(())
}
