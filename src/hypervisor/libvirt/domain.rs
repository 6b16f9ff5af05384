//! Domains: finding, defining, starting, stopping.

use std::time::Duration;

use virt::connect::Connect;
use virt::domain::{
    Domain as Handle, DomainCrashedReason, DomainPausedReason, DomainShutoffReason, DomainState,
    DomainStateReason,
};
use virt::enumutil::Enum;
use virt::error::ErrorNumber;
use virt::sys;

use super::connection::Libvirt;
use super::failure;
use crate::error::{Error, Kind, Result};
use crate::hypervisor::owner::{NAMESPACE, Owner};
use crate::hypervisor::{Change, Domain, State};

impl Libvirt {
    /// Defines a domain by its XML; [`Hypervisor::define`](crate::hypervisor::Hypervisor::define)
    /// renders it from a specification.
    ///
    /// # Errors
    /// [`Kind::Hypervisor`] when libvirt refuses it.
    pub fn define_xml(&self, name: &str, xml: &str) -> Result<()> {
        let xml = xml.to_owned();
        let what = format!("define the domain {name}");
        self.call(&what.clone(), move |c| {
            c.define_domain_xml(&xml)
                .map(drop)
                .map_err(|e| failure::call(&what, &e))
        })
    }
}

pub(super) fn lookup(connection: &Connect, name: &str) -> Result<Option<Handle>> {
    match connection.lookup_domain_by_name(name) {
        Ok(found) => Ok(Some(found)),
        Err(e) if failure::is(&e, ErrorNumber::NoDomain) => Ok(None),
        Err(e) => Err(failure::call(&format!("look for the domain {name}"), &e)),
    }
}

pub(super) fn require(connection: &Connect, name: &str) -> Result<Handle> {
    lookup(connection, name)?
        .ok_or_else(|| Error::new(Kind::Hypervisor, format!("there is no domain {name}")))
}

/// `None` when the domain vanished while it was asked about.
fn describe(handle: &Handle) -> Result<Option<Domain>, virt::error::Error> {
    let described = || {
        let (state, reason) = handle.state()?;
        let (state, reason) = (state_of(state), reason_of(reason));
        let owner = match handle.metadata(
            sys::VIR_DOMAIN_METADATA_ELEMENT as i32,
            Some(NAMESPACE),
            sys::VIR_DOMAIN_AFFECT_CURRENT,
        ) {
            Ok(xml) => Owner::parse(&xml),
            Err(e) if failure::is(&e, ErrorNumber::NoDomainMetadata) => None,
            Err(e) => return Err(e),
        };
        Ok(Domain {
            name: handle.name()?,
            uuid: handle.uuid()?,
            state,
            reason,
            owner,
            cpu_time: Duration::from_nanos(handle.info()?.cpu_time),
        })
    };
    match described() {
        Ok(domain) => Ok(Some(domain)),
        Err(e) if failure::is(&e, ErrorNumber::NoDomain) => Ok(None),
        Err(e) => Err(e),
    }
}

pub(super) fn find(libvirt: &Libvirt, name: &str) -> Result<Option<Domain>> {
    let name = name.to_owned();
    let what = format!("ask about the domain {name}");
    libvirt.call(&what.clone(), move |c| match lookup(c, &name)? {
        Some(handle) => describe(&handle).map_err(|e| failure::call(&what, &e)),
        None => Ok(None),
    })
}

/// The XML of a domain that is there, the running one's before the defined one's.
pub(super) fn definition(libvirt: &Libvirt, name: &str) -> Result<Option<String>> {
    let name = name.to_owned();
    let what = format!("ask for the definition of the domain {name}");
    libvirt.call(&what.clone(), move |c| {
        let Some(handle) = lookup(c, &name)? else {
            return Ok(None);
        };
        let xml = handle.xml_desc(0).map_err(|e| failure::call(&what, &e))?;
        Ok(Some(xml))
    })
}

pub(super) fn list_owned(libvirt: &Libvirt) -> Result<Vec<Domain>> {
    let what = "list the domains";
    libvirt.call(what, move |c| {
        let fail = |e| failure::call(what, &e);
        let mut owned = Vec::new();
        for handle in c.list_all_domains(0).map_err(fail)? {
            owned.extend(
                describe(&handle)
                    .map_err(fail)?
                    .filter(|d| d.owner.is_some()),
            );
        }
        owned.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(owned)
    })
}

pub(super) fn start(libvirt: &Libvirt, name: &str) -> Result<Change> {
    let name = name.to_owned();
    let what = format!("start the domain {name}");
    libvirt.call(&what.clone(), move |c| {
        let fail = |e| failure::call(&what, &e);
        let handle = require(c, &name)?;
        if handle.is_active().map_err(fail)? {
            return Ok(Change::Nothing);
        }
        handle.create().map_err(fail)?;
        Ok(Change::Done)
    })
}

pub(super) fn resume(libvirt: &Libvirt, name: &str) -> Result<Change> {
    let name = name.to_owned();
    let what = format!("resume the domain {name}");
    libvirt.call(&what.clone(), move |c| {
        let fail = |e| failure::call(&what, &e);
        let handle = require(c, &name)?;
        if !is_paused(&handle).map_err(fail)? {
            return Ok(Change::Nothing);
        }
        handle.resume().map_err(fail)?;
        Ok(Change::Done)
    })
}

pub(super) fn shutdown(libvirt: &Libvirt, name: &str) -> Result<Change> {
    let name = name.to_owned();
    let what = format!("shut the domain {name} down");
    libvirt.call(&what.clone(), move |c| {
        let fail = |e| failure::call(&what, &e);
        let handle = require(c, &name)?;
        if !handle.is_active().map_err(fail)? {
            return Ok(Change::Nothing);
        }
        ended(handle.shutdown()).map_err(fail)
    })
}

pub(super) fn destroy(libvirt: &Libvirt, name: &str) -> Result<Change> {
    let name = name.to_owned();
    let what = format!("stop the domain {name}");
    libvirt.call(&what.clone(), move |c| match lookup(c, &name)? {
        Some(handle) if handle.is_active().map_err(|e| failure::call(&what, &e))? => {
            ended(handle.destroy()).map_err(|e| failure::call(&what, &e))
        }
        _ => Ok(Change::Nothing),
    })
}

/// A domain that ended meanwhile cannot be stopped, which is what was wanted.
fn ended(result: Result<(), virt::error::Error>) -> Result<Change, virt::error::Error> {
    match result {
        Ok(()) => Ok(Change::Done),
        Err(e) if failure::is(&e, ErrorNumber::OperationInvalid) => Ok(Change::Nothing),
        Err(e) if failure::is(&e, ErrorNumber::NoDomain) => Ok(Change::Nothing),
        Err(e) => Err(e),
    }
}

pub(super) fn undefine(libvirt: &Libvirt, name: &str) -> Result<Change> {
    let name = name.to_owned();
    let what = format!("remove the domain {name}");
    libvirt.call(&what.clone(), move |c| {
        let fail = |e| failure::call(&what, &e);
        let Some(handle) = lookup(c, &name)? else {
            return Ok(Change::Nothing);
        };
        // libvirt would let a running domain live on and forget it when it ends.
        if handle.is_active().map_err(fail)? {
            return Err(Error::new(
                Kind::Hypervisor,
                format!("cannot {what}: it runs"),
            ));
        }
        let common =
            sys::VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | sys::VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA;
        let of_qemu =
            sys::VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA | sys::VIR_DOMAIN_UNDEFINE_NVRAM;
        match handle.undefine_flags(common | of_qemu) {
            // Not every driver knows what only QEMU's has.
            Err(e) if failure::is(&e, ErrorNumber::InvalidArg) => handle.undefine_flags(common),
            result => result,
        }
        .map_err(fail)?;
        Ok(Change::Done)
    })
}

pub(super) fn is_paused(handle: &Handle) -> Result<bool, virt::error::Error> {
    Ok(state_of(handle.state()?.0) == State::Paused)
}

fn state_of(state: Enum<DomainState, sys::virDomainState>) -> State {
    match state {
        Enum::Known(DomainState::Running | DomainState::Blocked) => State::Running,
        Enum::Known(DomainState::Paused) => State::Paused,
        Enum::Known(DomainState::Shutoff) => State::ShutOff,
        Enum::Known(DomainState::Crashed) => State::Crashed,
        _ => State::Other,
    }
}

fn reason_of(reason: Enum<DomainStateReason, i32>) -> Option<String> {
    let Enum::Known(reason) = reason else {
        return None;
    };
    let text = match reason {
        DomainStateReason::Shutoff(Enum::Known(reason)) => match reason {
            DomainShutoffReason::Shutdown => "the guest shut down",
            DomainShutoffReason::Destroyed => "it was stopped by force",
            DomainShutoffReason::Crashed => "QEMU or the guest crashed",
            DomainShutoffReason::Saved => "its state was saved to a file",
            DomainShutoffReason::Failed => "it failed to start",
            DomainShutoffReason::Daemon => "libvirt's daemon stopped it",
            _ => return None,
        },
        DomainStateReason::Crashed(Enum::Known(DomainCrashedReason::Panicked)) => {
            "the guest's kernel panicked"
        }
        DomainStateReason::Paused(Enum::Known(reason)) => match reason {
            DomainPausedReason::User => "somebody paused it",
            DomainPausedReason::IOError => "a disk error, such as a full disk on the host",
            DomainPausedReason::Crashed => "the guest crashed",
            DomainPausedReason::Save => "its state is being saved",
            DomainPausedReason::StartingUp => "it is being started",
            _ => return None,
        },
        _ => return None,
    };
    Some(text.to_owned())
}
