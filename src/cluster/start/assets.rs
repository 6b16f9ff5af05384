//! From a profile to a virtual machine that runs: assets, volumes, ports, domain.

use crate::assets::components::{self, ComponentSet};
use crate::assets::node_image::{self, NodeImage};
use crate::assets::version::KubernetesVersion;
use crate::cluster::Access;
use crate::cluster::StartOptions;
use crate::cluster::machine::preflight;
use crate::cluster::machine::resources::{self, BaseVolumes, Names, Volumes};
use crate::cluster::start::Start;
use crate::cluster::start::prepare::Prepared;
use crate::cluster::start::template::Template;
use crate::error::{Error, Kind, Result};
use crate::hypervisor::{Acceleration, Hypervisor, ports};
use crate::interrupt;
use crate::progress::Progress;
use crate::provision;
use crate::store::Store;
use crate::trace;
use crate::units::{Mebibytes, human_bytes};

impl Start<'_> {
    /// Gets what the machine is made of into the pool, and says which template it may begin from.
    pub(crate) fn get_assets(
        &self,
        hypervisor: &dyn Hypervisor,
        access: &mut Access,
        prepared: &Prepared,
    ) -> Result<Option<Template>> {
        let names = &Names::new(self.store, &access.profile);
        let known = !access.profile.assets.node_image.is_empty();
        let there = known
            && BaseVolumes::of(&access.profile).are_in(&Volumes::of(hypervisor, &names.pool)?);
        let assets = if there {
            None
        } else {
            Some(self.assets(access)?)
        };
        self.stage("assets");
        interrupt::check()?;
        let shared = self.store.lock_shared(|| {
            self.progress
                .note("waiting for another kubby that hands images to libvirt");
        })?;
        hypervisor.ensure_pool(&names.pool, &names.target)?;
        let base = BaseVolumes::of(&access.profile);
        if let Some((image, components)) = &assets {
            resources::upload_base(
                hypervisor,
                &names.pool,
                &base,
                image,
                components,
                self.progress,
            )?;
        }
        drop(shared);
        interrupt::check()?;
        if !prepared.created {
            return Ok(None);
        }
        self.template(access, &prepared.host)
    }

    /// From the profile to a machine that boots.
    pub(crate) fn machine(
        &self,
        hypervisor: &dyn Hypervisor,
        access: &mut Access,
        acceleration: Acceleration,
    ) -> Result<()> {
        let names = &Names::new(self.store, &access.profile);
        let base = BaseVolumes::of(&access.profile);
        let shared = self.store.lock_shared(|| {})?;
        let span = trace::span("make the machine's own volumes");
        let pki = self.pki(access)?;
        let wanted = self.plan(access, &pki)?;
        resources::ensure_own_volumes(
            hypervisor,
            names,
            &base,
            &access.profile,
            &access.dir,
            &provision::before_boot(&wanted),
        )?;
        drop((shared, span));
        interrupt::check()?;
        let span = trace::span("define the domain");
        self.free_ports(access)?;
        resources::define(hypervisor, self.store, access, acceleration)?;
        drop(span);
        interrupt::check()?;
        self.stage("machine");
        access.dir.machine_runs()?;
        let _span = trace::span("start the domain");
        hypervisor.start(&names.domain)?;
        Ok(())
    }

    /// Gets the assets and records which they are.
    fn assets(&self, access: &mut Access) -> Result<(NodeImage, ComponentSet)> {
        let version = access.profile.version()?;
        let (image, components) = get_assets(self.store, version, self.options, self.progress)?;
        let pause_image = components.image("pause")?.to_owned();
        let assets = &mut access.profile.assets;
        if !assets.node_image.is_empty() && assets.node_image != image.key {
            // The node's disk is an overlay: over another image it is garbage.
            return Err(Error::new(
                Kind::State,
                format!(
                    "the image that the node's disk builds on ({}) is gone, and this kubby makes another one",
                    assets.node_image
                ),
            )
            .with_hint(format!("kubby delete{0}, then kubby start{0}", self.name.flag())));
        }
        if image.virtual_size > Mebibytes(access.profile.disk_mib).bytes() {
            return Err(Error::new(
                Kind::Usage,
                format!(
                    "--disk: {} is less than the node image itself, {}",
                    Mebibytes(access.profile.disk_mib),
                    human_bytes(image.virtual_size)
                ),
            )
            .with_hint(format!(
                "kubby delete{0}, then kubby start{0} with a larger --disk",
                self.name.flag()
            )));
        }
        assets.node_image.clone_from(&image.key);
        assets.components.clone_from(&components.key);
        assets.pause_image = pause_image;
        assets.kubectl.clone_from(&components.kubectl);
        access.profile.save(&access.dir)?;
        Ok((image, components))
    }

    /// A port that another program has taken since the last start is replaced, unless the user
    /// asked for it by number.
    pub(crate) fn free_ports(&self, access: &mut Access) -> Result<()> {
        // Under one lock until it is saved: two starts never choose the same free port.
        let _shared = self.store.lock_shared(|| {})?;
        let recorded = access.profile.ports;
        let others = preflight::ports_of_others(self.store, self.name)?;
        let mut avoid: Vec<u16> = others.into_iter().map(|(port, _)| port).collect();
        avoid.extend(access.profile.host_ports());
        let mut changed = recorded;
        for (port, asked, flag) in [
            (&mut changed.api, self.options.api_port, "--api-port"),
            (&mut changed.ssh, self.options.ssh_port, "--ssh-port"),
        ] {
            match ports::check_free(*port, flag) {
                Err(e) if asked.is_some() => return Err(e),
                Err(_) => {
                    let new = preflight::free_port(avoid.iter().copied())?;
                    avoid.push(new);
                    self.progress.warn(&format!(
                        "port {port} is taken by another program; using {new} instead"
                    ));
                    *port = new;
                }
                Ok(()) => {}
            }
        }
        if changed != recorded {
            access.profile.ports = changed;
            access.profile.save(&access.dir)?;
        }
        Ok(())
    }
}

/// Gets the node image and the components, from the cache or by making them.
///
/// # Errors
/// [`Kind::Assets`] for the one that could not be had.
pub fn get_assets(
    store: &Store,
    version: KubernetesVersion,
    options: &StartOptions,
    progress: &dyn Progress,
) -> Result<(NodeImage, ComponentSet)> {
    let request = components::Request {
        version,
        source: options.component_source,
        dir: options.components.as_deref(),
        binary_mirror: options.binary_mirror.as_deref(),
        extras: None,
        cache: store.cache(),
    };
    // Both may take minutes on a first start, and neither needs the other.
    let (image, components) = std::thread::scope(|scope| {
        let components = scope.spawn(|| components::ensure(&request, progress));
        let image = match &options.image {
            Some(source) => node_image::prebuilt(
                source,
                options.image_sha256.as_deref(),
                store.cache(),
                progress,
            ),
            None => node_image::ensure(store.cache(), progress),
        };
        let components = components.join().unwrap_or_else(|_| {
            Err(Error::new(
                Kind::Internal,
                "getting the components ended in a panic",
            ))
        });
        (image, components)
    });
    Ok((image?, components?))
}
