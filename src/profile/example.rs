//! A profile for tests.

use super::*;

/// A profile with something in every field, for tests.
pub(crate) fn example() -> Profile {
    Profile {
        version: FILE_VERSION,
        kubby: "0.1.0".into(),
        name: "dev".parse().unwrap(),
        connect: "qemu:///session".into(),
        kubeconfig: "/home/u/.kube/config".into(),
        endpoint: None,
        spec: ClusterSpec {
            kubernetes_version: "v1.37.2".into(),
            addons: vec!["dns".into()],
            cni: Cni::default(),
            extra_config: Vec::new(),
            egress: egress::Settings {
                dns: vec!["10.1.1.1".into()],
                ca_certificates: vec!["-----BEGIN CERTIFICATE-----\nAA\n".into()],
                ..egress::Settings::default()
            },
        },
        assets: Assets::default(),
        nodes: vec![NodeProfile {
            name: crate::network::NODE_NAME.into(),
            role: Role::ControlPlane,
            number: crate::network::FIRST_NUMBER,
            uuid: "c2f6e8e2-8f3a-4c6a-9a52-3b1f3c1b7f10".into(),
            disk: "kubby-dev.disk-1.qcow2".into(),
            machine: MachineSpec {
                acceleration: Acceleration::Tcg,
                cpus: 2,
                memory_mib: 4096,
                disk_mib: 20480,
                kernel_args: vec![],
            },
            ports: Ports {
                ssh: 40001,
                api: Some(40002),
                link: None,
            },
        }],
        forwards: vec![ServiceForward {
            namespace: "default".into(),
            service: "web".into(),
            port: 80,
            protocol: Protocol::Tcp,
            host: 8080,
            node: 30080,
        }],
        opened: Vec::new(),
    }
}
