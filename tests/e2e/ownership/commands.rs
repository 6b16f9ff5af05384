//! Tries each command of the table in its situation, and compares all that there is before and after it.

use std::os::unix::fs::MetadataExt as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::env::Env;
use crate::group::{ROOT, Test};
use crate::ownership::actor::Actor;
use crate::ownership::cells::TABLE;
use crate::ownership::home::{Home, Mark, Patterns, domain_name};
use crate::ownership::seen::{Seen, Watched};
use crate::ownership::situations::{Case, Situation};
use crate::ownership::table::{Effect, Row};
use crate::program::Run;
use crate::user::User;

pub const TESTS: &[Test] = tests![
    no_command_touches_what_is_anothers,
    an_ordinary_users_commands_touch_only_their_own.needs(ROOT),
];

fn no_command_touches_what_is_anothers(env: &Env) {
    play(&Actor::runner(env), "r");
}

fn an_ordinary_users_commands_touch_only_their_own(_: &Env) {
    let user = User::new();
    play(&Actor::ordinary(&user), "u");
}

/// The number of cells that are tried at a time: commands wait for libvirt rather than compute.
const WORKERS: usize = 3;

/// The number of faults of one command that a message has room for.
const SHOWN: usize = 8;

/// A user's test of a part of the table.
struct Stage<'a> {
    actor: &'a Actor<'a>,
    patterns: &'a Patterns,
    neighbour: &'a Case<'a>,
    /// The user's ID.
    user: u32,
    /// The name of the cluster.
    profile: String,
    failed: Vec<String>,
    cells: usize,
}

fn play(actor: &Actor<'_>, suffix: &str) {
    let patterns = &Patterns::make(&actor.root.join("patterns"));
    let profile = format!("o{}{suffix}", std::process::id());
    let neighbour = &neighbour(actor, patterns, &format!("{profile}-next"));
    let chosen = std::env::var("KUBBY_E2E_SITUATION").ok();
    let next = AtomicUsize::new(0);
    let work = |worker: usize| {
        let mut stage = Stage {
            actor,
            patterns,
            neighbour,
            user: user_of(actor),
            profile: format!("{profile}{worker}"),
            failed: Vec::new(),
            cells: 0,
        };
        while let Some((situation, rows)) = TABLE.get(next.fetch_add(1, Ordering::Relaxed)) {
            let text = format!("{situation:?}");
            if !situation.is_possible(actor) {
                note!("{text} is left out: the pool `kubby` is in use");
            } else if chosen.as_ref().is_none_or(|chosen| text.contains(chosen)) {
                stage.try_all(*situation, rows);
            }
        }
        (stage.cells, stage.failed)
    };
    let done: Vec<(usize, Vec<String>)> = thread::scope(|scope| {
        let work = &work;
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| scope.spawn(move || work(worker)))
            .collect();
        let ended = workers.into_iter().map(thread::ScopedJoinHandle::join);
        ended.map(|worker| worker.expect("a worker")).collect()
    });
    let cells: usize = done.iter().map(|(cells, _)| cells).sum();
    let failed: Vec<String> = done.into_iter().flat_map(|(_, failed)| failed).collect();
    note!("{cells} cells");
    assert!(
        failed.is_empty(),
        "{} failed:\n{}",
        failed.len(),
        failed.join("\n\n")
    );
    assert!(chosen.is_some() || cells >= 60, "{cells}");
}

fn user_of(actor: &Actor<'_>) -> u32 {
    actor.root.metadata().expect("a folder").uid()
}

/// Makes a home with a running cluster, a template and a snapshot, which no command is about.
fn neighbour<'a>(actor: &'a Actor<'a>, patterns: &'a Patterns, name: &str) -> Case<'a> {
    let home = Home::new(actor, patterns, actor.root.join("next"));
    let case = Case {
        actor,
        root: home.path.clone(),
        variables: Vec::new(),
        home: home.path.clone(),
        other: home.path.clone(),
        own: Watched::default(),
        watched: Watched {
            folders: vec![home.path.clone(), home.target.clone()],
            domains: vec![domain_name(name)],
            pools: vec![home.pool.clone()],
        },
        profile: name.to_owned(),
    };
    let profile = home.profile(name, &home.path.join("config"));
    home.base();
    home.mark(&home.path, user_of(actor));
    home.volumes(name);
    let frozen = format!("{}.disk-0.qcow2", domain_name(name));
    home.saved(&home.path.join("templates/0123"), &profile, &frozen);
    home.saved(&home.dir(name).snapshots().join("good"), &profile, &frozen);
    let mark = Mark {
        home: &home.path,
        profile: name,
    };
    let disk = home.target.join(&profile.first().disk);
    let mut virsh = home.define_pool(&home.target);
    virsh.push(home.define(name, &profile.first().uuid, Some(mark), &disk));
    virsh.push(format!("start {}", domain_name(name)));
    actor.own(&actor.root);
    let run = actor.virsh(&virsh).ok();
    assert_eq!(run.stderr, "");
    case
}

impl<'a> Stage<'a> {
    /// Tries the commands of a situation, which is made again after each that may change something.
    fn try_all(&mut self, situation: Situation, rows: &[Row]) {
        let mut case: Option<(Case<'_>, Seen)> = None;
        for row in rows {
            let (made, before) = case.take().unwrap_or_else(|| {
                let (profile, user) = (&self.profile, self.user);
                let made = situation.make(self.actor, self.patterns, profile, user);
                let before = self.seen(&made);
                (made, before)
            });
            let (now, wrong) = self.try_one(situation, row, &made, &before);
            self.cells += 1;
            if row.effect == Effect::Nothing && wrong.is_none() {
                case = Some((made, now));
            }
            self.failed.extend(wrong);
        }
    }

    fn seen(&self, case: &Case<'_>) -> Seen {
        Seen::now(self.actor, &case.watched.with(&self.neighbour.watched))
    }

    /// Tries a command, and returns what there is after it, and what is wrong.
    fn try_one(
        &self,
        situation: Situation,
        row: &Row,
        case: &Case<'_>,
        before: &Seen,
    ) -> (Seen, Option<String>) {
        let args = row.args.replace("{name}", &case.profile);
        let run = self.kubby(case, &args);
        let now = self.seen(case);
        let mut wrong = before.differences(&now, |key| row.effect.allows(case, key));
        if row.effect == Effect::Deletes {
            let own = now.of(&case.own);
            let left = own.filter(|key| row.effect.has_to_be_gone(case, key));
            wrong.extend(left.map(|key| format!("{key} is left")));
        }
        if !row.codes.contains(&run.code) {
            wrong.push(format!("it ended with {}", run.code));
        }
        let said = format!("{}{}", run.stdout, run.stderr);
        let meant = |words: &&str| {
            let words = words.replace("{name}", &case.profile);
            let words = words.replace("{home}", &case.home.display().to_string());
            words.replace("{other}", &case.other.display().to_string())
        };
        let missing = row
            .says
            .iter()
            .map(meant)
            .filter(|words| !said.contains(words));
        wrong.extend(missing.map(|words| format!("it does not say `{words}`")));
        if said.contains("pool-destroy") || said.contains("panicked") {
            wrong.push("it says what it never should".into());
        }
        if std::env::var_os("KUBBY_E2E_SHOW").is_some() {
            note!(
                "{situation:?}: {args}: {} in {:?}\n{said}",
                run.code,
                run.took
            );
        }
        if wrong.len() > SHOWN {
            let more = wrong.len() - SHOWN;
            wrong.truncate(SHOWN);
            wrong.push(format!("and {more} more"));
        }
        let wrong = (!wrong.is_empty()).then(|| wrong.join("\n  "));
        let wrong = wrong
            .map(|wrong| format!("{situation:?}: kubby {args}\n  {wrong}\n--- it said\n{said}"));
        (now, wrong)
    }

    fn kubby(&self, case: &Case<'_>, args: &str) -> Run {
        let mut command = self.actor.kubby();
        command
            .envs(case.variables.iter().map(|(name, value)| (name, value)))
            .env("KUBBY_PROFILE", &case.profile)
            .args(args.split_whitespace())
            .current_dir("/");
        Run::of(command)
    }
}
