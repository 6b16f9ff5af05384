//! Exercises 5, 6 and 8: the database with the chapter's manifests, the job that fills it every
//! minute, and its rows after a stop.

use std::process::{Command, Stdio};

use super::images::{self, BUSYBOX};
use super::{LIMIT, apply, delete, exec, file, get, rolled_out, wait_for};
use crate::env::Env;
use crate::group::Test;
use crate::program::{Run, eventually};

pub const TESTS: &[Test] = tests![
    the_database_of_the_chapter,
    its_name_resolves,
    a_price_is_collected_every_minute,
    rows_survive_the_pod,
];

/// Once other tests have let some minutes go by.
pub const LATER: &[Test] = tests![prices_came_minute_by_minute];

pub const LAST: &[Test] = tests![the_chapter_is_cleaned_up];

const CLIENT: [&str; 6] = ["mysql", "-h", "my-database", "-u", "user", "-ppassword"];

fn manifest(name: &str) -> String {
    file(&format!("manifests/{name}.yaml"))
}

/// Runs SQL in the database's own pod, and returns the rows.
fn sql(env: &Env, statement: &str) -> String {
    try_sql(env, statement).ok().stdout
}

fn try_sql(env: &Env, statement: &str) -> Run {
    let client = "exec mysql-0 -- mysql -h 127.0.0.1 -u user -ppassword db -N -e";
    let args: Vec<&str> = client.split(' ').chain([statement]).collect();
    env.kubectl(&args)
}

/// Makes the database and its table, with one row.
pub fn database(env: &Env) {
    images::load_mysql(env);
    env.once("the database", || {
        for name in ["mysql", "service", "create-table"] {
            env.kubectl(&["apply", "-f", &manifest(name)]).ok();
        }
        rolled_out(env, "statefulset/mysql");
        wait_for(env, "condition=complete", &["job/create-table"]);
        sql(env, "INSERT INTO messages VALUES (42)");
    });
}

fn the_database_of_the_chapter(env: &Env) {
    database(env);
    env.kubectl(&["get", "pods"]).ok().prints("mysql-0");
    let volumes = env
        .kubectl(&["get", "persistentvolumes", "--no-headers"])
        .ok();
    let lines: Vec<&str> = volumes.stdout.lines().collect();
    assert_eq!(lines.len(), 1, "{}", volumes.stdout);
    assert!(
        lines[0].contains("1Gi") && lines[0].contains("Bound"),
        "{}",
        lines[0]
    );

    // As a person does it, at a terminal.
    let mut command = String::from(
        "run mysql-client --image=mysql:5.7 -i -t --rm --restart=Never --pod-running-timeout=5m -- ",
    );
    command.push_str(&CLIENT.join(" "));
    command.push_str(" db -e 'show tables;'");
    let output = at_a_terminal(env, &command);
    assert!(output.contains("messages"), "{output}");
}

/// Runs kubectl with a terminal of its own.
fn at_a_terminal(env: &Env, command: &str) -> String {
    let kubectl = std::env::var("KUBBY_TEST_KUBECTL").unwrap_or_else(|_| "kubectl".into());
    let mut script = Command::new("script");
    script
        .args(["-qec", &format!("{kubectl} {command}"), "/dev/null"])
        .env("KUBECONFIG", env.kubeconfig())
        .env("TERM", "dumb")
        .stdin(Stdio::null());
    Run::of(script).ok().stdout
}

fn its_name_resolves(env: &Env) {
    images::load_busybox(env);
    env.kubectl(&["apply", "-f", &manifest("service")]).ok();
    let path = apply(
        env,
        "resolver",
        &format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: resolver}}\nspec:\n  containers:\n  \
             - {{name: c, image: '{BUSYBOX}', command: [sleep, '3600']}}\n"
        ),
    );
    wait_for(env, "condition=ready", &["pod/resolver"]);
    let address = get(env, &["service", "my-database"], "{.spec.clusterIP}");
    // Its code is 1 also where it found the name, since it looks in every search domain.
    let look = |name: &str| {
        env.kubectl(&["exec", "resolver", "--", "nslookup", name])
            .stdout
    };
    for name in ["my-database.default.svc.cluster.local", "my-database"] {
        let answer = look(name);
        assert!(answer.contains(&address), "{name}: {answer}");
    }
    let unknown = look("no-such-service.default.svc.cluster.local");
    assert!(unknown.contains("NXDOMAIN"), "{unknown}");
    let reverse = look("10.96.0.1");
    assert!(
        reverse.contains("kubernetes.default.svc.cluster.local"),
        "{reverse}"
    );
    delete(env, &path);
}

/// Makes the service that has a price and the job that collects it every minute.
fn prices(env: &Env) {
    database(env);
    env.once("prices", || {
        let context = images::price_context(env.root());
        let build = [
            "image",
            "build",
            &context.to_string_lossy(),
            "-t",
            "price:1",
        ];
        let run = env.kubby(&build).ok();
        note!("price:1 built in {:.1} s", run.took.as_secs_f64());
        env.kubectl(&["apply", "-f", &manifest("price")]).ok();
        rolled_out(env, "deployment/price-service");
    });
}

fn a_price_is_collected_every_minute(env: &Env) {
    prices(env);
    eventually(LIMIT, "a first row", || match rows(env) {
        0 => Err(env.kubectl(&["get", "jobs,pods"]).stdout),
        _ => Ok(()),
    });
}

/// Makes the database with prices of two minutes, unless it has them.
pub fn with_prices(env: &Env) {
    database(env);
    if rows(env) < 2 {
        prices_came_minute_by_minute(env);
    }
}

fn rows(env: &Env) -> u32 {
    let tables = sql(env, "SHOW TABLES LIKE 'prices'");
    if tables.trim().is_empty() {
        return 0;
    }
    sql(env, "SELECT COUNT(*) FROM prices")
        .trim()
        .parse()
        .expect("a number")
}

fn prices_came_minute_by_minute(env: &Env) {
    prices(env);
    eventually(LIMIT, "two rows of two minutes", || {
        if rows(env) == 0 {
            return Err("no rows".to_owned());
        }
        let minutes = sql(
            env,
            "SELECT COUNT(DISTINCT DATE_FORMAT(at, '%H:%i')) FROM prices",
        );
        match minutes.trim().parse::<u32>() {
            Ok(minutes) if minutes >= 2 => Ok(()),
            _ => Err(minutes),
        }
    });
    env.kubectl(&["delete", "-f", &manifest("price")]).ok();
    env.removed("prices");
}

fn rows_survive_the_pod(env: &Env) {
    database(env);
    let before = get(env, &["pod", "mysql-0"], "{.metadata.uid}");
    env.kubectl(&["delete", "pod", "mysql-0"]).ok();
    rolled_out(env, "statefulset/mysql");
    assert_ne!(get(env, &["pod", "mysql-0"], "{.metadata.uid}"), before);
    still_there(env);
}

fn still_there(env: &Env) {
    eventually(LIMIT, "the row is there", || {
        let run = try_sql(env, "SELECT id FROM messages");
        if run.code == 0 && run.stdout.trim() == "42" {
            Ok(())
        } else {
            Err(format!("{}{}", run.stdout, run.stderr))
        }
    });
}

/// Checks after a stop that all rows are there.
pub fn rows_survived(env: &Env) {
    rolled_out(env, "statefulset/mysql");
    still_there(env);
    let prices: u32 = sql(env, "SELECT COUNT(*) FROM prices")
        .trim()
        .parse()
        .expect("a number");
    assert!(prices >= 2, "{prices}");
    // By its Service and name, as an application does.
    let answer = exec(
        env,
        "mysql-0",
        &[&CLIENT[..], &["db", "-N", "-e", "SELECT id FROM messages"]].concat(),
    );
    assert_eq!(answer.trim(), "42");
}

fn the_chapter_is_cleaned_up(env: &Env) {
    database(env);
    env.removed("the database");
    let all = ["create-table", "service", "mysql"].map(manifest).join(",");
    env.kubectl(&["delete", "-f", &all]).ok();
    // The claim of a StatefulSet stays with its data until it is deleted itself.
    let volume = get(env, &["pvc", "data-mysql-0"], "{.spec.volumeName}");
    let list = ["ssh", "--", "ls /var/lib/kubby/volumes"];
    env.kubby(&list).ok().prints(&volume);
    env.kubectl(&["delete", "pvc", "data-mysql-0"]).ok();
    eventually(LIMIT, "the volume goes with its claim", || {
        let volumes = env.kubectl(&["get", "pv", "-o", "name"]).ok().stdout;
        let folders = env.kubby(&list).ok().stdout;
        if volumes.is_empty() && !folders.contains(&volume) {
            Ok(())
        } else {
            Err(format!("{volumes}\n{folders}"))
        }
    });
}
