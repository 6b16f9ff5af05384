//! The `go.mod` of a Kubernetes version other than the one that the recipe is written for.

use crate::assets::version::KubernetesVersion;

/// The published modules that the recipe's programs import from directly.
const DIRECT: [&str; 3] = [
    "k8s.io/client-go",
    "k8s.io/component-base",
    "k8s.io/kubectl",
];

/// Returns the version of `k8s.io/kubernetes` that a go.mod requires, with its `v`.
pub(super) fn kubernetes_version(go_mod: &str) -> Option<&str> {
    go_mod.lines().find_map(|line| {
        let line = line.trim().strip_prefix("require ").unwrap_or(line.trim());
        let version = line.strip_prefix("k8s.io/kubernetes ")?;
        version.split_whitespace().next()
    })
}

/// Rewrites the recipe's go.mod for `version`, whose own go.mod is `upstream`.
///
/// Kubernetes builds itself with folders of its repository in place of the modules that it also
/// publishes (such as k8s.io/api); their versions follow its own: v1.36.3 goes with v0.36.3. `None`
/// where `upstream` is not the go.mod of such a version.
pub(super) fn derive(module: &str, upstream: &str, version: KubernetesVersion) -> Option<String> {
    let go = upstream
        .lines()
        .find_map(|line| line.strip_prefix("go "))?
        .trim();
    let staged: Vec<&str> = upstream
        .lines()
        .filter_map(|line| {
            let line = line.trim().strip_prefix("replace ").unwrap_or(line.trim());
            let (name, target) = line.split_once(" => ")?;
            target.starts_with("./staging/src/").then(|| name.trim())
        })
        .collect();
    if staged.is_empty() {
        return None;
    }
    let published = format!("v0.{}.{}", version.minor, version.patch);
    let mut out = format!("module {module}\n\ngo {go}\n\nrequire (\n");
    for name in DIRECT {
        out += &format!("\t{name} {published}\n");
    }
    out += &format!("\tk8s.io/kubernetes {version}\n)\n\nreplace (\n");
    for name in staged {
        out += &format!("\t{name} => {name} {published}\n");
    }
    out += ")\n";
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assets::{recipes, version};

    const UPSTREAM: &str = "module k8s.io/kubernetes\n\ngo 1.24.0\n\ngodebug default=go1.24\n\n\
        require (\n\tk8s.io/api v0.0.0\n)\n\nreplace (\n\
        \tk8s.io/api => ./staging/src/k8s.io/api\n\
        \tk8s.io/kubectl => ./staging/src/k8s.io/kubectl\n\
        \tother.org/x => other.org/y v1.2.3\n)\n";

    #[test]
    fn staged_modules_get_the_version_that_goes_with_kubernetes() {
        let version = KubernetesVersion {
            minor: 34,
            patch: 4,
        };
        let text = derive("kubby.dev/kube", UPSTREAM, version).unwrap();
        assert_eq!(kubernetes_version(&text), Some("v1.34.4"));
        for line in [
            "module kubby.dev/kube",
            "go 1.24.0",
            "\tk8s.io/kubectl v0.34.4",
            "\tk8s.io/api => k8s.io/api v0.34.4",
        ] {
            assert!(text.lines().any(|l| l == line), "no `{line}` in:\n{text}");
        }
        assert!(
            !text.contains("staging") && !text.contains("other.org"),
            "{text}"
        );
    }

    #[test]
    fn another_module_is_not_mistaken_for_kubernetes() {
        let version = KubernetesVersion {
            minor: 34,
            patch: 4,
        };
        assert_eq!(derive("m", "module x\n\ngo 1.24\n", version), None);
        assert_eq!(
            kubernetes_version("require k8s.io/kubernetes v1.36.0\n"),
            Some("v1.36.0")
        );
        assert_eq!(
            kubernetes_version("require k8s.io/kubernetes-x v1.36.0\n"),
            None
        );
    }

    #[test]
    fn the_recipe_is_written_for_the_default_version_and_the_pinned_releases() {
        let file = |name: &str| {
            let files = recipes::files("components");
            let (_, content) = files.into_iter().find(|(path, _)| path == name).unwrap();
            String::from_utf8(content).unwrap()
        };
        let kubernetes = file("kube/go.mod");
        assert_eq!(
            kubernetes_version(&kubernetes),
            Some(&*version::DEFAULT.to_string())
        );
        let etcd = format!(
            "go.etcd.io/etcd/server/v3 v{}\n",
            super::super::catalog::ETCD_VERSION
        );
        assert!(file("etcd/go.mod").contains(&etcd));
        let coredns = format!(
            "github.com/coredns/coredns v{}\n",
            super::super::catalog::COREDNS_VERSION
        );
        assert!(file("coredns/go.mod").contains(&coredns));
    }
}
