//! The application that is waited for, as an add-on's folder: manifests, and an image made of one
//! static program.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kubby::testing::assets::components::arch;
use kubby::testing::error::{Kind, Result, ResultExt};
use kubby::testing::tool::Tool;

use crate::archive::{Archive, Layer};

/// The image's name in the manifest.
const IMAGE: &str = "kubby.dev/benchmark/app:1";
const MANIFEST: &str = include_str!("app/app.yaml");

/// Makes the folder in `root` and returns it.
///
/// # Errors
/// Where there is no Go, or the disk is full.
pub fn make(root: &Path) -> Result<PathBuf> {
    let folder = root.join("app");
    let images = folder.join("images");
    std::fs::create_dir_all(&images).context(Kind::Internal, || {
        format!("cannot make {}", images.display())
    })?;
    let program = root.join("app-program");
    go_build("app", &program, "")?;
    let mut archive = Archive::default();
    let layer = Layer::of(&[("app", &program)], &[])?;
    archive.image(IMAGE, &[layer], &["/app"], "/")?;
    archive.write(&images.join("app.tar"))?;
    let manifest = folder.join("app.yaml");
    std::fs::write(&manifest, MANIFEST).context(Kind::Internal, || {
        format!("cannot write {}", manifest.display())
    })?;
    Ok(folder)
}

/// Builds the Go program of a folder beside this file.
///
/// # Errors
/// Where there is no Go, or its modules cannot be had.
pub fn go_build(module: &str, out: &Path, stamp: &str) -> Result<()> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("scripts/benchmark")
        .join(module);
    Tool::new("go", Kind::Assets)
        .dir(source)
        .env("CGO_ENABLED", "0")
        .env("GOOS", "linux")
        .env("GOARCH", arch()?)
        .env("GOWORK", "off")
        .args([
            "build",
            "-mod=readonly",
            "-trimpath",
            "-buildvcs=false",
            "-tags=grpcnotrace",
        ])
        .arg(format!("-ldflags=-s -w {stamp}"))
        .arg("-o")
        .arg(out)
        .arg(".")
        .deadline(Duration::from_secs(1800))
        .run(None)?;
    Ok(())
}
