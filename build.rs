//! Tells the compiler which builds can be told to fail by tests (see `src/fault.rs`): all but releases.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(faults)");
    if std::env::var_os("PROFILE").is_some_and(|profile| profile == "debug") {
        println!("cargo::rustc-cfg=faults");
    }
}
