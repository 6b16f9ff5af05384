//! The cells of the table: in each situation the commands, and what each of them answers.

use crate::ownership::situations::Situation;
use crate::ownership::table::{MISSING, MISSING_ALONE, MISSING_BESIDE, Row, deletes, keeps, own};

const NO_CLUSTER: &str = "there is no cluster named `{name}`";

const DATA_HOME: &[&str] = &[
    "it belongs to the kubby home {other}",
    "this terminal has another XDG_DATA_HOME",
    "KUBBY_HOME={other} kubby status",
];
const KUBBY_HOME: &[&str] = &[
    "it belongs to the kubby home {other}",
    "this terminal has another KUBBY_HOME: {home}",
    "KUBBY_HOME={other} kubby status",
];
const RUN: &str = "run -p {name} --image /nonexistent --components /nonexistent -- true";
const START: &str = "start --image /nonexistent --components /nonexistent";

/// A cluster of this home whose domain is another one's.
const fn foreign_domain(why: &'static [&'static str]) -> [Row; 15] {
    [
        keeps("start", &[15], why),
        keeps("stop", &[15], why),
        keeps("stop --force", &[15], why),
        keeps("pause", &[15], why),
        keeps("resume", &[15], why),
        keeps("suspend", &[15], why),
        keeps("snapshot save new", &[15], why),
        keeps("snapshot restore good", &[15], why),
        keeps("addon enable metrics", &[15], why),
        keeps("service web", &[15], why),
        keeps("fork {name}-f --no-start", &[15], why),
        keeps("logs --console", &[15], why),
        keeps("doctor", &[0, 10], &[]),
        own("doctor --fix", &[0, 10], &[]),
        own("delete", &[0], &["stays, because it is not this cluster's"]),
    ]
}

/// A cluster of this home whose pool is another one's.
const fn foreign_pool(why: &'static [&'static str]) -> [Row; 14] {
    [
        keeps(START, &[15], why),
        keeps("snapshot save new", &[15], why),
        keeps("snapshot restore good", &[15], why),
        keeps("snapshot delete good", &[15], why),
        keeps("fork {name}-f --no-start", &[15], why),
        keeps("fork {name}-f --no-start --from good", &[15], why),
        keeps("template prune --all", &[15], why),
        keeps("template delete 0011", &[15], why),
        keeps("logs --console", &[15], why),
        keeps("status", &[0], &["Broken", "is not this home's"]),
        keeps("doctor", &[10], &["is not this home's"]),
        own("doctor --fix", &[10], &["is not this home's"]),
        own("delete", &[0], &["is not this home's", "it stays as it is"]),
        own("delete --all --purge", &[15], why),
    ]
}

/// The same, with the commands that go the farthest.
const fn other_domain(why: &'static [&'static str]) -> [Row; 7] {
    [
        keeps("start", &[15], why),
        keeps("stop --force", &[15], why),
        keeps("suspend", &[15], why),
        keeps("snapshot restore good", &[15], why),
        keeps("logs --console", &[15], why),
        own("doctor --fix", &[0, 10], &[]),
        own("delete", &[0], &["stays, because it is not this cluster's"]),
    ]
}

/// The same for a pool.
const fn other_pool(why: &'static [&'static str]) -> [Row; 8] {
    [
        keeps(START, &[15], why),
        keeps("snapshot restore good", &[15], why),
        keeps("snapshot delete good", &[15], why),
        keeps("fork {name}-f --no-start --from good", &[15], why),
        keeps("template prune --all", &[15], why),
        keeps("status", &[0], &["Broken", "is not this home's"]),
        own("doctor --fix", &[10], &["is not this home's"]),
        own("delete", &[0], &["is not this home's", "it stays as it is"]),
    ]
}

/// What works in a home whose clusters are its own.
const OWN: &[Row] = &[
    keeps("status", &[0], &["host: Running"]),
    keeps("logs --console", &[0], &["small"]),
    keeps("template list", &[0], &["0011"]),
    keeps("snapshot list", &[0], &["good"]),
    own("stop --force", &[0], &["powered off"]),
    own("pause", &[0], &["Pause the cluster"]),
    deletes("delete", &["done"]),
];

const OWN_SHORT: &[Row] = &[
    keeps("status", &[0], &["host: Running"]),
    deletes("delete", &["done"]),
];

pub const TABLE: &[(Situation, &[Row])] = &[
    (Situation::NoHome, MISSING_ALONE),
    (
        Situation::NoHome,
        &[
            keeps("delete", &[0], &[NO_CLUSTER, "{home}"]),
            keeps("delete --all", &[0], &[]),
            keeps("delete --purge", &[0], &[NO_CLUSTER]),
            keeps(RUN, &[2, 11], &["/nonexistent"]),
        ],
    ),
    (Situation::OtherDataHome, MISSING),
    (
        Situation::OtherDataHome,
        &[
            keeps("start", &[15], DATA_HOME),
            keeps("delete", &[15], DATA_HOME),
            keeps("delete --purge", &[15], DATA_HOME),
            keeps("delete --all --purge", &[0], &[]),
            keeps(RUN, &[15], DATA_HOME),
        ],
    ),
    (Situation::OtherKubbyHome, MISSING_BESIDE),
    (
        Situation::OtherKubbyHome,
        &[
            keeps("start", &[15], KUBBY_HOME),
            keeps("delete", &[15], KUBBY_HOME),
            keeps("fork {name} -p {name}-x --no-start", &[15], KUBBY_HOME),
            keeps(RUN, &[15], KUBBY_HOME),
            own("template prune --all", &[0], &["0011"]),
            own("delete -p {name}-x --purge", &[0], &["done"]),
            own("delete --all", &[0], &["done"]),
        ],
    ),
    (Situation::SameNames, &foreign_domain(KUBBY_HOME)),
    (
        Situation::SameNames,
        &[
            own(
                "delete --all --purge",
                &[0],
                &["stays, because it is not this cluster's"],
            ),
            own("template prune --all", &[0], &[]),
        ],
    ),
    (Situation::Written("/home/"), OWN),
    (Situation::Written("//home"), OWN_SHORT),
    (Situation::Written("/./home"), OWN_SHORT),
    (Situation::Written("/link"), OWN),
    (
        Situation::Unmarked,
        &[
            own(
                "start",
                &[15],
                &["it was not made by kubby", "virsh domrename"],
            ),
            keeps("stop", &[15], &[NO_CLUSTER]),
            own("delete", &[0], &["stays", "it was not made by kubby"]),
            own(RUN, &[15], &["it was not made by kubby", "--profile"]),
        ],
    ),
    (
        Situation::UnmarkedDomain,
        &foreign_domain(&["it was not made by kubby", "virsh domrename"]),
    ),
    (
        Situation::OtherProfile,
        &other_domain(&["it belongs to the profile `{name}-x`", "--profile"]),
    ),
    (
        Situation::OtherUuid,
        &other_domain(&["its UUID is", "kubby delete -p {name}"]),
    ),
    (
        Situation::PoolElsewhere,
        &other_pool(&["its folder is {other}", "move it back"]),
    ),
    (
        Situation::PoolOfOtherHome,
        &foreign_pool(&["it belongs to the kubby home {other}", "KUBBY_HOME={other}"]),
    ),
    (
        Situation::PoolOfOtherHomeOff,
        &foreign_pool(&["it belongs to the kubby home {other}", "KUBBY_HOME={other}"]),
    ),
    (
        Situation::PoolOfOtherUser,
        &other_pool(&["it belongs to the user with the ID", "as that user"]),
    ),
    (
        Situation::PoolUnmarkedForeign,
        &other_pool(&[
            "the kubby home {other} has the disk of",
            "KUBBY_HOME={other}",
        ]),
    ),
    (
        Situation::PoolUnmarked,
        &[
            keeps("status", &[0], &["Stopped"]),
            keeps("template list", &[0], &["0011"]),
            keeps("doctor", &[0, 10], &[]),
            deletes("delete", &["done"]),
            own("template prune --all", &[0], &["0011"]),
        ],
    ),
    (
        Situation::ProfileDamaged,
        &[
            keeps("start", &[15], &["damaged"]),
            keeps("stop", &[15], &["damaged"]),
            keeps("suspend", &[15], &["damaged"]),
            keeps("snapshot delete good", &[15], &["damaged"]),
            keeps("fork {name}-f", &[15], &["damaged"]),
            keeps("status", &[0], &["Broken", "damaged"]),
            keeps("list", &[0], &["Broken"]),
            keeps("doctor", &[10], &["damaged"]),
            keeps("doctor --fix", &[10], &["damaged"]),
            keeps(RUN, &[15], &["already"]),
            deletes("delete", &["damaged"]),
        ],
    ),
    (
        Situation::ProfileMissing,
        &[
            keeps(
                "start",
                &[15],
                &["kubby's files for it are missing", "kubby delete"],
            ),
            keeps("stop", &[15], &[NO_CLUSTER]),
            keeps("status", &[0], &["Broken", "missing"]),
            keeps("doctor", &[0, 10], &["profile.toml"]),
            keeps("doctor --fix", &[0, 10], &["profile.toml"]),
            deletes("delete", &["done"]),
        ],
    ),
    (
        Situation::ProfileNewer,
        &[
            keeps("start", &[15], &["newer kubby"]),
            keeps("stop", &[15], &["newer kubby"]),
            keeps("pause", &[15], &["newer kubby"]),
            keeps("snapshot restore good", &[15], &["newer kubby"]),
            keeps("status", &[0], &["Broken", "newer kubby"]),
            keeps("doctor", &[10], &["newer kubby"]),
            keeps("doctor --fix", &[10], &["newer kubby"]),
            deletes("delete", &["newer kubby"]),
        ],
    ),
    (
        Situation::HalfWritten,
        &[
            keeps("status", &[0], &["Stopped"]),
            keeps("list", &[0], &["Stopped"]),
            keeps("template list", &[0], &["0011"]),
            keeps("snapshot list", &[0], &["good"]),
            keeps("doctor", &[0, 10], &["leftover"]),
            own("doctor --fix", &[0, 10], &["fixed"]),
            own("stop", &[0], &["stopped already"]),
            deletes("delete", &["done"]),
        ],
    ),
    (
        Situation::NoVolumes,
        &[
            keeps("status", &[0], &["Broken", "disk"]),
            keeps("snapshot save new", &[15], &["no disk"]),
            keeps("fork {name}-f --no-start", &[15], &["no disk"]),
            keeps("doctor", &[10], &[]),
            deletes("delete", &["done"]),
        ],
    ),
    (
        Situation::PoolOff,
        &[
            keeps("status", &[0], &["the storage pool"]),
            keeps("list", &[0], &[]),
            keeps("template list", &[0], &["0011"]),
            keeps("doctor", &[10], &["is not started"]),
            own("doctor --fix", &[0, 10], &["is started"]),
            own("snapshot delete good", &[0], &["done"]),
            own("fork {name}-f --no-start", &[0], &["done"]),
            own("template prune --all", &[0], &["0011"]),
            deletes("delete", &["done"]),
        ],
    ),
    (
        Situation::NoPool,
        &[
            keeps("status", &[0], &["Broken"]),
            keeps("doctor", &[10], &["no storage pool"]),
            own("doctor --fix", &[0, 10], &["is started"]),
            own("snapshot restore good --no-start", &[0], &["done"]),
            own("snapshot delete good", &[0], &["done"]),
            own("template prune --all", &[0], &["0011"]),
            own("delete", &[0], &["done"]),
        ],
    ),
    (
        Situation::NoPoolFolder,
        &[
            keeps("status", &[0], &["Broken"]),
            keeps("template list", &[0], &["missing"]),
            keeps("doctor", &[10], &["missing"]),
            own("snapshot save new", &[12], &["No such file or directory"]),
            own("template prune --all", &[0], &["0011"]),
            deletes("delete", &["done"]),
        ],
    ),
    (
        Situation::UsersContext,
        &[
            keeps(START, &[16], &["kubby-{name}", "--profile"]),
            keeps("status", &[0], &["Misconfigured"]),
            keeps("fork {name}-f -p {name}-f", &[2, 15], &[]),
            keeps("doctor", &[10], &["kubby-{name}"]),
            own("doctor --fix", &[10], &["kubby-{name}"]),
            own("delete", &[0], &["done"]),
        ],
    ),
    (
        Situation::OtherHomesContext,
        &[
            keeps(START, &[16], &["{other}", "--profile"]),
            keeps("status", &[0], &["Misconfigured"]),
            keeps("doctor", &[10], &["kubby-{name}"]),
            own("doctor --fix", &[10], &["kubby-{name}"]),
            own("delete", &[0], &["done"]),
        ],
    ),
    (
        Situation::KubeconfigDamaged,
        &[
            keeps(START, &[16], &["line"]),
            keeps("status", &[0], &["Misconfigured"]),
            keeps("fork {name}-f --no-start", &[16], &["line"]),
            own("delete", &[0], &["could not be removed"]),
        ],
    ),
    (
        Situation::RelativeKubeconfig,
        &[deletes("delete", &["done"])],
    ),
    (
        Situation::Earlier,
        &[
            keeps("status", &[0], &["Stopped"]),
            keeps("list", &[0], &["Stopped"]),
            keeps("template list", &[0], &["0011"]),
            keeps("doctor", &[0, 10], &["the storage pool"]),
            own("stop", &[0], &["stopped already"]),
            own("snapshot delete good", &[0], &["done"]),
            deletes("delete", &["done"]),
        ],
    ),
    (
        Situation::EarlierByAnotherVariable,
        &[
            keeps("status", &[0], &["Stopped"]),
            deletes("delete", &["done"]),
        ],
    ),
];
