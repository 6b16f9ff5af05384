//! Ownership of domains: kubby marks its own in their metadata and never touches another's.

use std::fmt;
use std::path::PathBuf;

use roxmltree::Document;
use uuid::Uuid;

use super::objects::{Domain, Owner};
use crate::fsutil;

/// The XML namespace of kubby's metadata in libvirt; the number changes with the format.
pub(crate) const NAMESPACE: &str = "https://kubby.dev/libvirt/1";

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

/// The domain that a profile means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The UUID in the profile; `None` where the profile is lost, so that the mark alone counts.
    pub uuid: Option<Uuid>,
    /// The profile's name.
    pub profile: String,
    /// kubby's home directory.
    pub home: PathBuf,
}

/// The reason why a domain is not the profile's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Foreign {
    /// kubby did not make it.
    Unmarked,
    /// It belongs to this other home.
    Home(PathBuf),
    /// It belongs to this other profile of the same home.
    Profile(String),
    /// It belongs to an earlier cluster with the same name: its UUID is this one.
    Earlier(Uuid),
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Foreign::Unmarked => f.write_str("it was not made by kubby"),
            Foreign::Home(home) => write!(f, "it belongs to the kubby home {}", home.display()),
            Foreign::Profile(profile) => write!(f, "it belongs to the profile `{profile}`"),
            Foreign::Earlier(uuid) => write!(
                f,
                "its UUID is {uuid}, which is not the one that the profile recorded"
            ),
        }
    }
}

/// Returns why a domain is not the profile's own; `None` if it is.
pub fn foreign(domain: &Domain, identity: &Identity) -> Option<Foreign> {
    let Some(owner) = &domain.owner else {
        return Some(Foreign::Unmarked);
    };
    if !fsutil::same_place(&owner.home, &identity.home) {
        return Some(Foreign::Home(owner.home.clone()));
    }
    if owner.profile != identity.profile {
        return Some(Foreign::Profile(owner.profile.clone()));
    }
    match identity.uuid {
        Some(uuid) if uuid != domain.uuid => Some(Foreign::Earlier(domain.uuid)),
        _ => None,
    }
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
            uuid: Some(uuid),
            profile: "dev".into(),
            home: "/home/a/.kubby".into(),
        };
        let lost = Identity {
            uuid: None,
            ..me.clone()
        };
        for home in ["/home/a/.kubby", "/home/a/.kubby/", "/home//a/./.kubby"] {
            let own = domain(uuid, Some(owner("dev", home)));
            assert_eq!(foreign(&own, &me), None);
            assert_eq!(foreign(&own, &lost), None);
        }
        let earlier = Uuid::from_u128(8);
        let recreated = domain(earlier, Some(owner("dev", "/home/a/.kubby")));
        assert_eq!(foreign(&recreated, &me), Some(Foreign::Earlier(earlier)));
        assert_eq!(foreign(&recreated, &lost), None);
        for (domain, why) in [
            (domain(uuid, None), Foreign::Unmarked),
            (
                domain(uuid, Some(owner("dev", "/home/b/.kubby"))),
                Foreign::Home("/home/b/.kubby".into()),
            ),
            (
                domain(uuid, Some(owner("other", "/home/a/.kubby"))),
                Foreign::Profile("other".into()),
            ),
        ] {
            assert_eq!(foreign(&domain, &me), Some(why.clone()));
            assert_eq!(foreign(&domain, &lost), Some(why));
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
