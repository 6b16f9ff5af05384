//! Images that come from archives, engines and registries, and go into archives.

use std::io::Write;
use std::process::{Command, Stdio};

use super::{arch, delete_pods, demo, folder, has_demos, image, names, pod_prints, run_pod, write};
use crate::archive_samples::{docker_files, tar};
use crate::env::Env;
use crate::group::Test;
use crate::program::{Run, Running};

pub const TESTS: &[Test] = tests![
    images_of_every_format_are_loaded_and_run,
    an_image_is_tagged_and_removed,
    a_saved_image_can_be_loaded,
    a_local_engines_image_is_loaded,
    a_failed_pull_says_why,
];
fn images_of_every_format_are_loaded_and_run(env: &Env) {
    let dir = folder(env, "formats");
    let older = image(env, arch(), "older docker");
    let older_file = write(&dir.join("older.tar"), &demo(env, "older"));
    let oci_file = write(&dir.join("oci"), &demo(env, "oci"));
    let run = env
        .kubby(&["image", "load", &older_file, "-o", "json"])
        .ok();
    let value = run.json();
    assert_eq!(value["kind"], "ImageLoad");
    assert_eq!(
        value["images"][0]["names"][0],
        "docker.io/library/demo:older"
    );
    assert_eq!(value["images"][0]["id"], older.id());
    env.kubby(&["image", "load", &oci_file])
        .ok()
        .prints("docker.io/library/demo:oci\n");
    // From a pipe, without a name of its own; the layer with the program is in the node already
    // only where it is stored in the same way, so this one is sent whole.
    let archive = demo(env, "zst");
    let mut command = env.kubby_command();
    command
        .args(["-p", &env.profile, "image", "load", "-"])
        .args(["--as", "demo:zst", "--as", "demo"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut load = Running::start(&mut command);
    let mut stdin = load.child().stdin.take().expect("stdin");
    stdin.write_all(&archive).expect("the archive");
    drop(stdin);
    let output = load.output();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "docker.io/library/demo:latest\ndocker.io/library/demo:zst\n"
    );
    assert!(stderr.contains("imagePullPolicy: IfNotPresent"), "{stderr}");

    for (pod, image) in [
        ("older", "demo:older"),
        ("oci", "demo:oci"),
        ("zst", "demo"),
    ] {
        run_pod(env, &format!("image-{pod}"), image, &[]);
    }
    pod_prints(env, "image-older", "older docker");
    pod_prints(env, "image-oci", "oci in gzip");
    pod_prints(env, "image-zst", "zstd all over");
    delete_pods(env, &["image-older", "image-oci", "image-zst"]);
    // The second time there is nothing to send but the index.
    let again = env
        .kubby(&["image", "load", &oci_file, "-o", "json"])
        .ok()
        .json();
    let spared = again["sparedBytes"].as_u64().expect("a number");
    assert!(spared > 500_000, "{again}");
}

fn an_image_is_tagged_and_removed(env: &Env) {
    has_demos(env, &["older", "oci"]);
    env.kubby(&[
        "image",
        "tag",
        "demo:older",
        "host.example:5000/team/demo:v1",
    ])
    .ok()
    .prints("host.example:5000/team/demo:v1");
    assert!(names(env).contains(&"host.example:5000/team/demo:v1".to_owned()));
    let list = env.kubby(&["image", "ls"]).ok();
    let row = list
        .stdout
        .lines()
        .find(|l| l.contains("team/demo"))
        .expect("a row");
    let words: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(words[..2], ["host.example:5000/team/demo", "v1"], "{row}");
    let id = words[2].to_owned();

    // The name goes, the image stays under its other name.
    env.kubby(&["image", "remove", "host.example:5000/team/demo:v1"])
        .ok();
    let left = names(env);
    assert!(!left.iter().any(|n| n.contains("team/demo")), "{left:?}");
    assert!(
        left.contains(&"docker.io/library/demo:older".to_owned()),
        "{left:?}"
    );

    // What runs is not pulled away from under its pod.
    run_pod(env, "image-stays", "demo:older", &["stay"]);
    pod_prints(env, "image-stays", "older docker stay");
    env.kubby(&["image", "rm", "demo:older"])
        .exits(15)
        .says("default/image-stays")
        .says("--force");
    env.kubby(&["image", "rm", "demo:oci", "no-such:1"])
        .exits(15)
        .says("no image named docker.io/library/no-such:1")
        .says("kubby image list");
    assert!(names(env).contains(&"docker.io/library/demo:oci".to_owned()));
    delete_pods(env, &["image-stays"]);
    let removed = env.kubby(&["image", "rm", &id, "-o", "json"]).ok().json();
    assert_eq!(removed["items"][0]["imageRemoved"], true, "{removed}");
    assert!(!names(env).contains(&"docker.io/library/demo:older".to_owned()));
    env.kubby(&["image", "rm", "registry.k8s.io/pause:3.10.2", "--force"])
        .exits(15)
        .says("every pod needs");
}

fn a_saved_image_can_be_loaded(env: &Env) {
    has_demos(env, &["oci", "zst"]);
    let dir = folder(env, "saved");
    let file = dir.join("saved.tar.gz");
    let path = file.to_str().expect("a path");
    env.kubby(&["image", "save", "demo:oci", "demo:zst", "-f", path])
        .ok()
        .prints("saved.tar.gz");
    let files = std::fs::read_dir(&dir).expect("a folder").count();
    assert_eq!(files, 1, "nothing but the archive is left");
    let content = std::fs::read(&file).expect("the archive");
    assert_eq!(content[..2], [0x1f, 0x8b], "it is compressed by its ending");
    env.kubby(&["image", "rm", "demo:oci", "demo:zst", "demo"])
        .ok();
    env.kubby(&["image", "load", path])
        .ok()
        .prints("docker.io/library/demo:oci\ndocker.io/library/demo:zst\n");
    run_pod(env, "image-again", "demo:oci", &["again"]);
    pod_prints(env, "image-again", "oci in gzip again");
    delete_pods(env, &["image-again"]);

    // Through a pipe, from one kubby to the next.
    let pipe = format!(
        "{0} -p {1} image save demo:oci -f - | {0} -p {1} image load - --as piped:1",
        env!("CARGO_BIN_EXE_kubby"),
        env.profile
    );
    let mut shell = env.kubby_command();
    let environment: Vec<_> = shell
        .get_envs()
        .map(|(k, v)| (k.to_owned(), v.map(ToOwned::to_owned)))
        .collect();
    shell = Command::new("bash");
    shell
        .args(["-o", "pipefail", "-c", &pipe])
        .stdin(Stdio::null());
    for (key, value) in environment {
        if let Some(value) = value {
            shell.env(key, value);
        }
    }
    Run::of(shell).ok().prints("docker.io/library/piped:1");
    env.kubby(&["image", "save", "no-such:1", "-f", path])
        .exits(15)
        .says("no image named");
    assert_eq!(
        std::fs::read(&file).expect("the archive"),
        content,
        "it is untouched"
    );
    env.kubby(&["image", "save", "demo:oci", "-f", "/no/such/folder/x.tar"])
        .exits(2)
        .says("no folder /no/such/folder");
}

fn a_local_engines_image_is_loaded(env: &Env) {
    let dir = folder(env, "engine");
    let archive = write(
        &dir.join("archive"),
        &tar(&docker_files(
            &image(env, arch(), "podman"),
            &["localhost/local:1"],
        )),
    );
    // Stands in for podman, which is not on every machine that runs this: the same arguments, a
    // real archive. The first one is a docker whose daemon does not run.
    let script = |name: &str, text: &str| {
        use std::os::unix::fs::PermissionsExt;
        let path = dir.join(name);
        write(&path, text.as_bytes());
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    };
    script(
        "docker",
        "#!/bin/sh\necho 'Cannot connect to the daemon' >&2\nexit 1\n",
    );
    script(
        "podman",
        &format!(
            "#!/bin/sh\ncase \"$*\" in\n*inspect*' -- local:1') echo sha256:1 ;;\n\
             'image save -- local:1') cat {archive} ;;\n\
             *' -- breaks:1') [ \"$2\" = inspect ] || {{ head -c 5000 {archive}; echo 'disk on fire' >&2; exit 3; }} ;;\n\
             *) echo 'no such image' >&2; exit 125 ;;\nesac\n"
        ),
    );
    let load = |name: &str| {
        let mut command = env.kubby_command();
        let path = format!("{}:/usr/bin:/bin", dir.display());
        command
            .args(["-p", &env.profile, "image", "load", name])
            .env("PATH", path);
        Run::of(command)
    };
    load("local:1")
        .ok()
        .prints("docker.io/library/local:1\nlocalhost/local:1\n");
    load("absent:1")
        .exits(2)
        .says("docker: Cannot connect to the daemon")
        .says("podman: no such image")
        .says("kubby image pull");
    load("breaks:1").exits(11).says("disk on fire");
    env.kubby(&["image", "rm", "local:1", "localhost/local:1"])
        .ok();
}

fn a_failed_pull_says_why(env: &Env) {
    env.kubby(&["image", "pull", "registry.invalid/team/app:1"])
        .exits(11)
        .says("cannot pull registry.invalid/team/app:1")
        .says("containerd says")
        .says("kubby image load");
}
