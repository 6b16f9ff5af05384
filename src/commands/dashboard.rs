//! `kubby dashboard`.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::{Value, json};

use super::context::Context;
use crate::cli::{DashboardArgs, OutputFormat};
use crate::cluster::operations::running::Running;
use crate::dashboard::{Dashboard, Subject};
use crate::error::{Kind, Result};
use crate::progress::Progress;
use crate::{browser, fsutil};

/// Runs the command. It serves the page until a signal ends it.
pub(super) fn run(context: &Context, args: &DashboardArgs) -> Result<ExitCode> {
    let so = ", so there is nothing to show";
    let Running { cluster, api, .. } = Running::open(&context.env(), &context.global.profile, so)?;
    let version: Value = api.get_json("/version").map_err(|e| {
        let flag = cluster.profile.name.flag();
        e.with_hint(format!("kubby status{flag} shows what is running"))
    })?;
    let version = version["gitVersion"].as_str().unwrap_or_default();
    let dashboard = Dashboard::bind(args.port.unwrap_or(0))?;
    let url = dashboard.url();
    let success = report(context, args, &url)?;
    // The file is removed when the command ends.
    let page = Page(cluster.dir.root().join("dashboard.html"));
    if !args.url && has_browser() {
        page.open(&url, &context.progress)?;
    } else if !args.url && context.global.output == OutputFormat::Text {
        let note = "no graphical browser found; open the address above yourself";
        context.progress.note(note);
    }
    let subject = Subject {
        profile: cluster.profile.name.to_string(),
        version: version.to_owned(),
        read_only: args.read_only,
    };
    dashboard.serve(api, subject)?;
    Ok(success)
}

/// Prints the address.
fn report(context: &Context, args: &DashboardArgs, url: &str) -> Result<ExitCode> {
    let text = match args.url {
        true => format!("{url}\n"),
        false => format!(
            "The dashboard of `{}` is at {url}\nIts address is a key to the cluster: keep it to \
             yourself. Ctrl-C ends it.\n",
            context.global.profile
        ),
    };
    let data = json!({"url": url, "readOnly": args.read_only});
    context.report("Dashboard", &data, &text)
}

/// Returns whether this terminal belongs to a graphical session with a browser.
fn has_browser() -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let screen = set("DISPLAY") || set("WAYLAND_DISPLAY");
    screen && std::io::stdout().is_terminal() && browser::is_there()
}

/// A file that redirects the browser to the page. The address itself, with its token, would be among the
/// arguments of the browser's process, which every user of the host can read.
struct Page(PathBuf);

impl Page {
    fn write(&self, url: &str) -> Result<()> {
        let text = format!(
            "<!doctype html><meta charset=\"utf-8\"><title>kubby</title>\
             <meta http-equiv=\"refresh\" content=\"0; url={url}\"><a href=\"{url}\">kubby</a>\n"
        );
        fsutil::write_atomic(&self.0, text.as_bytes(), 0o600)
    }

    /// Opens the browser in a thread, because the page is served meanwhile. A browser that does not
    /// open is a warning only, because the address has been printed.
    fn open(&self, url: &str, progress: &Arc<dyn Progress>) -> Result<()> {
        self.write(url)?;
        let (file, progress) = (self.0.clone(), Arc::clone(progress));
        std::thread::spawn(move || match browser::open(&file) {
            Err(e) if e.kind() != Kind::Interrupted => progress.warn(&e.to_string()),
            _ => {}
        });
        Ok(())
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let _ = fsutil::remove_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_redirect_is_a_private_file() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("dashboard.html");
        let page = Page(path.clone());
        page.write("http://127.0.0.1:1/#token=ab").unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(
            text.contains("url=http://127.0.0.1:1/#token=ab\""),
            "{text}"
        );
        drop(page);
        assert!(!path.exists());
    }
}
