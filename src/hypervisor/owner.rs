//! Whose a domain is: kubby marks its own in their metadata and never touches another's.

use std::path::{Path, PathBuf};

use roxmltree::Document;
use uuid::Uuid;

use super::Domain;

/// The XML namespace of kubby's metadata in libvirt; the number changes with the format.
pub const NAMESPACE: &str = "https://kubby.dev/libvirt/1";

/// Who made a domain, as its metadata says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The profile that the domain belongs to.
    pub profile: String,
    /// kubby's home directory, in which the profile is recorded.
    pub home: PathBuf,
    /// The version of kubby that defined the domain.
    pub version: String,
}

impl Owner {
    /// Reads kubby's metadata, either alone or within a whole domain document. `None` when there
    /// is none or a part of it is missing.
    pub fn parse(xml: &str) -> Option<Self> {
        let document = Document::parse(xml).ok()?;
        // Asked for by its URI, libvirt gives the element as it was written, or (9.0 and older)
        // without the declaration of its namespace: then only the local name is left.
        let owner = document.descendants().find(|n| {
            n.tag_name().name() == "owner"
                && n.tag_name().namespace().is_none_or(|ns| ns == NAMESPACE)
        })?;
        let text = |name: &str| {
            owner
                .children()
                .find(|n| n.is_element() && n.tag_name().name() == name)
                .map(|n| n.text().unwrap_or_default().to_owned())
        };
        Some(Owner {
            profile: text("profile")?,
            home: PathBuf::from(text("home")?),
            version: text("version")?,
        })
    }
}

/// Which domain a profile means: the one it recorded when it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The UUID in the profile.
    pub uuid: Uuid,
    /// The profile's name.
    pub profile: String,
    /// kubby's home directory.
    pub home: PathBuf,
}

/// The answer of [`ownership`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ownership {
    /// There is no domain of that name.
    Absent,
    /// It is the profile's own.
    Ours,
    /// It is somebody else's; the text says why, as in `it was made by …`.
    Foreign(String),
}

/// Decides whether the domain that libvirt found under the profile's name is the profile's own.
pub fn ownership(found: Option<&Domain>, identity: &Identity) -> Ownership {
    let Some(domain) = found else {
        return Ownership::Absent;
    };
    let Some(owner) = &domain.owner else {
        return Ownership::Foreign("it was not made by kubby".into());
    };
    if !same_path(&owner.home, &identity.home) {
        return Ownership::Foreign(format!(
            "it belongs to the kubby home {}",
            owner.home.display()
        ));
    }
    if owner.profile != identity.profile {
        return Ownership::Foreign(format!("it belongs to the profile {}", owner.profile));
    }
    if domain.uuid != identity.uuid {
        return Ownership::Foreign(format!(
            "its UUID is {}, the profile recorded {}",
            domain.uuid, identity.uuid
        ));
    }
    Ownership::Ours
}

/// Compares by components, so that a trailing slash makes no difference.
fn same_path(a: &Path, b: &Path) -> bool {
    a.components().eq(b.components())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::State;
    use super::*;

    fn owner(profile: &str, home: &str) -> Owner {
        Owner {
            profile: profile.into(),
            home: home.into(),
            version: "0.1.0".into(),
        }
    }

    fn domain(uuid: Uuid, owner: Option<Owner>) -> Domain {
        Domain {
            name: "kubby-dev".into(),
            uuid,
            state: State::ShutOff,
            reason: None,
            owner,
            cpu_time: Duration::ZERO,
        }
    }

    #[test]
    fn only_the_same_home_profile_and_uuid_are_ours() {
        let uuid = Uuid::from_u128(7);
        let me = Identity {
            uuid,
            profile: "dev".into(),
            home: "/home/a/.kubby".into(),
        };
        let check = |d: Domain| ownership(Some(&d), &me);
        assert_eq!(ownership(None, &me), Ownership::Absent);
        assert_eq!(
            check(domain(uuid, Some(owner("dev", "/home/a/.kubby")))),
            Ownership::Ours
        );
        assert_eq!(
            check(domain(uuid, Some(owner("dev", "/home/a/.kubby/")))),
            Ownership::Ours
        );
        let foreign = [
            (domain(uuid, None), "not made by kubby"),
            (
                domain(uuid, Some(owner("dev", "/home/b/.kubby"))),
                "/home/b/.kubby",
            ),
            (
                domain(uuid, Some(owner("other", "/home/a/.kubby"))),
                "profile other",
            ),
            (
                domain(Uuid::from_u128(8), Some(owner("dev", "/home/a/.kubby"))),
                "recorded",
            ),
        ];
        for (domain, part) in foreign {
            match check(domain) {
                Ownership::Foreign(why) => assert!(why.contains(part), "{why}"),
                other => panic!("{part}: {other:?}"),
            }
        }
    }

    #[test]
    fn metadata_is_read_with_and_without_its_namespace() {
        let full = format!(
            "<kubby:owner xmlns:kubby='{NAMESPACE}'>\n <kubby:profile>a&amp;b</kubby:profile>\
             <kubby:home>/h</kubby:home><kubby:version>0.1.0</kubby:version></kubby:owner>"
        );
        assert_eq!(Owner::parse(&full), Some(owner("a&b", "/h")));
        let bare = "<owner><profile>p</profile><home>/h</home><version>0.1.0</version></owner>";
        assert_eq!(Owner::parse(bare), Some(owner("p", "/h")));
        let whole = format!("<domain><name>n</name><metadata>{full}</metadata></domain>");
        assert_eq!(Owner::parse(&whole), Some(owner("a&b", "/h")));
    }

    #[test]
    fn other_metadata_is_no_owner() {
        let foreign = "<x:owner xmlns:x='https://example.org/'><x:profile>p</x:profile>\
                       <x:home>/h</x:home><x:version>1</x:version></x:owner>";
        assert_eq!(Owner::parse(foreign), None);
        assert_eq!(Owner::parse("<owner><profile>p</profile></owner>"), None);
        assert_eq!(Owner::parse("<domain/>"), None);
        assert_eq!(Owner::parse(""), None);
    }
}
