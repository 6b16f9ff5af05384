//! The parts of the crate that the integration tests, the fuzz targets and the benchmark work with.

pub mod fuzzing;

pub mod addon {
    pub use crate::addon::{apply, find, read};
}
pub mod api {
    pub use crate::api::{Answer, ApiClient};
}
pub mod assets {
    pub mod components {
        pub use crate::assets::components::{ComponentSet, IMAGES, Request, Source, arch, ensure};
    }
    pub mod download {
        pub use crate::assets::download::{
            Failure, Limits, ResumingReader, failure, fetch_text, fetch_to_file, from_io,
        };
    }
    pub mod node_image {
        pub use crate::assets::node_image::{KERNEL_ARGUMENTS, NodeImage, build};
    }
    pub mod version {
        pub use crate::assets::version::{DEFAULT, KubernetesVersion};
    }
}
pub mod cli {
    pub use crate::cli::Cli;
}
pub mod cluster {
    pub use crate::cluster::Cluster;
    pub mod env {
        pub use crate::cluster::env::Real;
    }
}
pub mod error {
    pub use crate::error::{Error, Kind, Result, ResultExt};
}
pub mod fsutil {
    pub use crate::fsutil::{copy_private, create_private_dir, remove_all, write_atomic};
}
pub mod hypervisor {
    pub use crate::hypervisor::{
        AccelChoice, AccelFacts, Acceleration, Change, Domain, DomainSpec, Foreign, HostInfo,
        Hypervisor, Identity, Libvirt, Owner, POOL_MARK, PortForward, Saving, State, default_uri,
        foreign, shut_down,
    };
    pub mod accel {
        pub use crate::hypervisor::accel::decide;
    }
    pub mod console {
        pub use crate::hypervisor::console::tail;
    }
    pub mod host {
        pub use crate::hypervisor::host::meminfo;
    }
    pub mod ports {
        pub use crate::hypervisor::ports::find_free;
    }
}
pub mod image {
    pub use crate::image::Reference;
    pub mod archive {
        pub use crate::image::archive::{Passed, Request, pass_on};
    }
}
pub mod interrupt {
    pub use crate::interrupt::{check, install, requested, sleep};
}
pub mod kubeconfig {
    pub use crate::kubeconfig::{
        ComponentConfig, Entry, Owner, State, inspect, install, render, render_component, uninstall,
    };
}
pub mod pki {
    pub use crate::pki::{CertName, Pki, PkiSpec, ensure, load};
}
pub mod profile {
    pub use crate::profile::{
        Assets, ClusterSpec, FILE_VERSION, MachineSpec, NodeProfile, Ports, Profile, ProfileName,
    };
}
pub mod progress {
    pub use crate::progress::{Progress, Silent, Step, StepSink};
}
pub mod remote {
    pub use crate::remote::{
        NodeFile, Output, Process, Remote, Ssh, Target, bridge, exec_streaming, generate_key, shell,
    };
}
pub mod role {
    pub use crate::role::Role;
}
pub mod store {
    pub use crate::store::{ProfileDir, Store};
}
pub mod tool {
    pub use crate::tool::{Tool, find};
}
pub mod ui {
    pub use crate::ui::{Style, print, progress, say, show_error, table};
}
pub mod units {
    pub use crate::units::Mebibytes;
}
