//! Domains: finding, describing, defining, removing.

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
use super::failure::{self, Answer, Failure};
use crate::error::{Error, Result};
use crate::hypervisor::objects::Owner;
use crate::hypervisor::owner::NAMESPACE;
use crate::hypervisor::{Change, Domain, State};

impl Libvirt {
    /// Defines a domain by its XML; [`Hypervisor::define`](crate::hypervisor::Hypervisor::define)
    /// renders it from a specification.
    ///
    /// # Errors
    /// [`Kind::Hypervisor`](crate::error::Kind::Hypervisor) when libvirt refuses it.
    pub fn define_xml(&self, name: &str, xml: &str) -> Result<()> {
        let xml = xml.to_owned();
        self.call(&format!("define the domain {name}"), move |c| {
            c.define_domain_xml(&xml)?;
            Ok(())
        })
    }

    /// Runs calls on a domain; `verb` completes `cannot … the domain x`. Returns `None` where there is no such
    /// domain, also where it vanished during the calls: other homes remove theirs at any time.
    pub(super) fn try_domain<T: Send + 'static>(
        &self,
        verb: &str,
        name: &str,
        work: impl FnOnce(Handle) -> Answer<T> + Send + 'static,
    ) -> Result<Option<T>> {
        let what = format!("{verb} the domain {name}");
        let name = name.to_owned();
        self.call(&what, move |c| {
            let Some(domain) = lookup(c, &name)? else {
                return Ok(None);
            };
            match work(domain) {
                Err(Failure::Libvirt(e)) if failure::is(&e, ErrorNumber::NoDomain) => Ok(None),
                answer => answer.map(Some),
            }
        })
    }

    /// Runs calls on a domain that has to be there; see [`try_domain`](Self::try_domain).
    pub(super) fn with_domain<T: Send + 'static>(
        &self,
        verb: &str,
        name: &str,
        work: impl FnOnce(Handle) -> Answer<T> + Send + 'static,
    ) -> Result<T> {
        let missing = || Error::hypervisor(format!("there is no domain {name}"));
        self.try_domain(verb, name, work)?.ok_or_else(missing)
    }

    /// Gives QEMU's monitor a command and returns its answer.
    pub(super) fn monitor(&self, domain: &str, command: String, flags: u32) -> Result<String> {
        self.with_domain("ask QEMU's monitor of", domain, move |domain| {
            Ok(domain.qemu_monitor_command(&command, flags)?)
        })
    }
}

fn lookup(connection: &Connect, name: &str) -> Result<Option<Handle>, virt::error::Error> {
    failure::found(
        connection.lookup_domain_by_name(name),
        ErrorNumber::NoDomain,
    )
}

/// Returns kubby's view of a domain.
pub(super) fn describe(handle: &Handle) -> Result<Domain, virt::error::Error> {
    let (state, reason) = handle.state()?;
    let metadata = handle.metadata(
        sys::VIR_DOMAIN_METADATA_ELEMENT as i32,
        Some(NAMESPACE),
        sys::VIR_DOMAIN_AFFECT_CURRENT,
    );
    let metadata = failure::found(metadata, ErrorNumber::NoDomainMetadata)?;
    Ok(Domain {
        name: handle.name()?,
        uuid: handle.uuid()?,
        state: state_of(state),
        reason: reason_of(reason).map(str::to_owned),
        owner: metadata.and_then(|xml| Owner::parse(&xml)),
        cpu_time: cpu_time(handle)?,
    })
}

/// Returns the processor time of a domain; none when its process ended while libvirt asked for it.
fn cpu_time(handle: &Handle) -> Result<Duration, virt::error::Error> {
    let info = failure::found(handle.info(), ErrorNumber::OperationFailed)?;
    Ok(info.map_or(Duration::ZERO, |info| Duration::from_nanos(info.cpu_time)))
}

/// Lists the domains with kubby's mark, sorted by name.
pub(super) fn list_owned(connection: &Connect) -> Answer<Vec<Domain>> {
    let mut owned = Vec::new();
    for handle in connection.list_all_domains(0)? {
        let found = failure::found(describe(&handle), ErrorNumber::NoDomain)?;
        owned.extend(found.filter(|domain| domain.owner.is_some()));
    }
    owned.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(owned)
}

/// Reads the result of a stop: a domain that ended meanwhile cannot be stopped, which is fine.
pub(super) fn ended(result: Result<(), virt::error::Error>) -> Result<Change, virt::error::Error> {
    match result {
        Ok(()) => Ok(Change::Done),
        Err(e) if failure::is(&e, ErrorNumber::OperationInvalid) => Ok(Change::Nothing),
        Err(e) if failure::is(&e, ErrorNumber::NoDomain) => Ok(Change::Nothing),
        Err(e) => Err(e),
    }
}

/// Removes a domain that does not run, with all that libvirt keeps for it.
pub(super) fn undefine(handle: &Handle) -> Answer<Change> {
    // libvirt would let a running domain live on and forget it when it ends.
    if handle.is_active()? {
        let message = format!("cannot remove the domain {}: it runs", handle.name()?);
        return Err(Error::hypervisor(message).into());
    }
    let common =
        sys::VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | sys::VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA;
    let of_qemu = sys::VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA | sys::VIR_DOMAIN_UNDEFINE_NVRAM;
    match handle.undefine_flags(common | of_qemu) {
        // Not every driver knows the flags that only QEMU's has.
        Err(e) if failure::is(&e, ErrorNumber::InvalidArg) => handle.undefine_flags(common),
        result => result,
    }?;
    Ok(Change::Done)
}

/// Returns whether a domain is paused.
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

fn reason_of(reason: Enum<DomainStateReason, i32>) -> Option<&'static str> {
    let Enum::Known(reason) = reason else {
        return None;
    };
    Some(match reason {
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
            DomainPausedReason::User => "it was paused by a command",
            DomainPausedReason::IOError => "a disk error, such as a full disk on the host",
            DomainPausedReason::Crashed => "the guest crashed",
            DomainPausedReason::Save => "its state is being saved",
            DomainPausedReason::StartingUp => "it is being started",
            _ => return None,
        },
        _ => return None,
    })
}
