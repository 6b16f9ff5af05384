//! The network plugins of pods, as one program.
//!
//! Each is a program of its own in the module of its project, and Go lets no package import a program.
//! So their sources are copied beside the recipe's `main.go`, as packages that it can import.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::go::Go;
use crate::error::{Kind, Result, ResultExt};

/// The recipe.
pub(super) const MODULE: &str = "cni";

/// Their project's module, by the version in the recipe's go.mod.
const PROJECT: &str = "github.com/containernetworking/plugins";

/// The folder of the plugins, there and beside the recipe.
const PLUGINS: &str = "plugins";

/// Copies the plugins that the recipe's `main.go` imports.
///
/// # Errors
/// [`Kind::Assets`] when the module cannot be had, or is not what go.sum says.
pub(super) fn copy_plugins(go: &Go) -> Result<()> {
    let answer = go
        .tool(MODULE, "module")?
        .args(["mod", "download", "-json", PROJECT])
        .run(Some(Arc::clone(&go.sink)))
        .map_err(|e| super::go::explain(e, "cannot get the network plugins as Go module"))?;
    let fail = || "cannot prepare the build of the network plugins".to_owned();
    let answer: serde_json::Value = serde_json::from_str(&answer).context(Kind::Assets, fail)?;
    let project = Path::new(answer["Dir"].as_str().unwrap_or_default());
    let recipe = go.source.join(MODULE);
    let main = fs::read_to_string(recipe.join("main.go")).context(Kind::Assets, fail)?;
    for plugin in imported(&main) {
        copy(&project.join(plugin), &recipe.join(plugin)).context(Kind::Assets, fail)?;
    }
    Ok(())
}

/// Returns the folders that `main.go` imports, relative to its own.
fn imported(main: &str) -> impl Iterator<Item = &str> {
    main.lines().filter_map(|line| {
        let (_, path) = line.trim_end_matches('"').split_once("\"kubby.dev/cni/")?;
        path.starts_with(PLUGINS).then_some(path)
    })
}

/// Copies the sources of a program, as a package.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let name = entry?.file_name();
        let text = name.to_string_lossy();
        if text.ends_with(".go") && !text.ends_with("_test.go") {
            let source = fs::read_to_string(from.join(&name))?;
            let package = package(&source)
                .ok_or_else(|| std::io::Error::other(format!("{text} is not part of a program")))?;
            fs::write(to.join(&name), package)?;
        }
    }
    Ok(())
}

/// Returns a program's source as that of a package `plugin` with a function `Main`.
fn package(source: &str) -> Option<String> {
    let is_main = source.lines().any(|line| line == "package main");
    is_main.then(|| {
        source
            .replacen("\npackage main\n", "\npackage plugin\n", 1)
            .replacen("\nfunc main() {", "\nfunc Main() {", 1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assets::components::extras;
    use crate::assets::recipes;

    fn main() -> String {
        let files = recipes::files(&format!("components/{MODULE}"));
        let (_, main) = files.iter().find(|(path, _)| path == "main.go").unwrap();
        String::from_utf8(main.clone()).unwrap()
    }

    #[test]
    fn each_plugin_in_the_program_is_a_name_in_the_volume() {
        let main = main();
        let program = extras::ALL.iter().find(|extra| extra.program == "cni");
        let names = program.unwrap().names;
        assert_eq!(imported(&main).count(), names.len());
        for name in names {
            let plugin = name.strip_prefix("cni/").unwrap();
            let folder = format!("/{plugin}");
            assert!(
                imported(&main).any(|path| path.ends_with(&folder)),
                "{name}"
            );
            assert!(main.contains(&format!("\t\"{plugin}\":")), "{name}");
        }
    }

    #[test]
    fn a_program_becomes_a_package() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to/main/bridge"));
        fs::create_dir(&from).unwrap();
        let program = "// Licence\n\npackage main\n\nfunc main() {\n\tmainly()\n}\n";
        fs::write(from.join("bridge.go"), program).unwrap();
        fs::write(from.join("bridge_test.go"), program).unwrap();
        fs::write(from.join("README.md"), "").unwrap();
        copy(&from, &to).unwrap();
        assert_eq!(
            fs::read_to_string(to.join("bridge.go")).unwrap(),
            "// Licence\n\npackage plugin\n\nfunc Main() {\n\tmainly()\n}\n"
        );
        assert_eq!(fs::read_dir(&to).unwrap().count(), 1);
        fs::write(from.join("more.go"), "package more\n").unwrap();
        let error = copy(&from, &to).unwrap_err();
        assert!(error.to_string().contains("more.go is not part"), "{error}");
    }
}
