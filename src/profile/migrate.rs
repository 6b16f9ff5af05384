//! Migrates the profile files of earlier versions, one version after the other. A step works on the
//! TOML tree, so that it stays right when [`super::Profile`] changes.

use toml::{Table, Value};

use crate::name::ProfileName;
use crate::network::{FIRST_NUMBER, NODE_NAME};

/// The version of the profile file that this kubby writes.
pub const FILE_VERSION: u32 = 5;

/// Changes a file of one version to the next one, but for the number; or says what is wrong in it.
type Step = fn(&mut Table) -> Result<(), String>;

/// The steps, in the order of the versions that they start from.
const STEPS: [Step; FILE_VERSION as usize - 1] = [
    name_disk_and_addons,
    list_nodes,
    number_nodes,
    // Version 5 may name an endpoint.
    |_| Ok(()),
];

/// The reason why a file cannot be used.
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

/// Version 2 described one machine in the file's root. Version 3 has a list of nodes, and the
/// settings in tables of their own.
fn list_nodes(table: &mut Table) -> Result<(), String> {
    let mut move_out = |names: &[&str]| -> Table {
        let moved = names.iter().copied();
        let moved = moved.filter_map(|name| Some((name.to_owned(), table.remove(name)?)));
        moved.collect()
    };
    let spec = move_out(&["kubernetes_version", "addons", "egress"]);
    let machine = move_out(&[
        "acceleration",
        "cpus",
        "memory_mib",
        "disk_mib",
        "kernel_args",
    ]);
    let mut node = move_out(&["uuid", "disk", "ports"]);
    node.insert("name".into(), NODE_NAME.into());
    node.insert("role".into(), "control-plane".into());
    node.insert("machine".into(), machine.into());
    table.insert("spec".into(), spec.into());
    table.insert("node".into(), vec![Value::from(node)].into());
    Ok(())
}

/// Version 3 knew clusters of one node only. Version 4 numbers the nodes.
fn number_nodes(table: &mut Table) -> Result<(), String> {
    let nodes = table.get_mut("node").and_then(Value::as_array_mut);
    for node in nodes.into_iter().flatten().filter_map(Value::as_table_mut) {
        node.entry("number")
            .or_insert_with(|| i64::from(FIRST_NUMBER).into());
    }
    Ok(())
}
