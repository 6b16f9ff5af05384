//! The source of an archive: a file, standard input, or a container engine of this host.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::reference::Reference;
use crate::error::{Error, Kind, Result, ResultExt};
use crate::progress::StepSink;
use crate::{interrupt, tool, wait};

/// The engines that images are taken from, in this order.
const ENGINES: [&str; 2] = ["docker", "podman"];
/// The time limit of an engine's report whether it has an image.
const INSPECT: Duration = Duration::from_secs(30);
/// The time limit of an engine's end after the end of its archive.
const ENGINE_END: Duration = Duration::from_secs(2);
/// Endings that make a word a file's name rather than an image's.
const ARCHIVE_ENDINGS: [&str; 6] = [".tar", ".tgz", ".gz", ".zst", ".tzst", ".oci"];

/// A readable archive.
pub(super) struct Source {
    /// The source's name in messages.
    pub label: String,
    /// The size in bytes, where that is known beforehand.
    pub total: Option<u64>,
    /// The name that an engine has for the image.
    pub name: Option<Reference>,
    input: OwnedFd,
    engine: Option<(String, Child)>,
    /// The number of bytes that were read.
    pub done: u64,
    /// The receiver of that number.
    pub sink: Option<Arc<dyn StepSink>>,
}

impl Source {
    /// Opens standard input for `-`, else a file or, where there is none, a local image.
    ///
    /// # Errors
    /// [`Kind::Usage`] for a terminal, a folder, or a word that is neither a file nor an image.
    pub(super) fn open(what: &str) -> Result<Source> {
        if what == "-" {
            return Source::stdin();
        }
        match std::fs::metadata(what) {
            Ok(meta) if meta.is_dir() => Err(Error::usage(format!(
                "{what} is a folder, not an archive of container images"
            ))
            .with_hint("pack an OCI layout: tar -C DIR -cf image.tar .")
            .with_hint("build an image from a folder with a Dockerfile: kubby image build DIR")),
            Ok(meta) => {
                let file = File::open(what)
                    .context(Kind::Usage, || format!("cannot open the archive {what}"))?;
                let total = meta.is_file().then_some(meta.len());
                Ok(Source::new(what.to_owned(), total, file.into()))
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => from_engine(what),
            Err(e) => Err(e).context(Kind::Usage, || format!("cannot open the archive {what}")),
        }
    }

    fn stdin() -> Result<Source> {
        let stdin = io::stdin();
        if stdin.is_terminal() {
            let message = "standard input is a terminal, not an archive of container images";
            return Err(Error::usage(message)
                .with_hint("pipe one in: docker image save NAME | kubby image load -"));
        }
        let fail = || "cannot use standard input".to_owned();
        let fd = stdin.as_fd().try_clone_to_owned();
        let file = File::from(fd.context(Kind::Internal, fail)?);
        let meta = file.metadata().ok().filter(std::fs::Metadata::is_file);
        let total = meta.map(|meta| meta.len());
        Ok(Source::new("standard input".into(), total, file.into()))
    }

    fn new(label: String, total: Option<u64>, input: OwnedFd) -> Source {
        Source {
            label,
            total,
            name: None,
            input,
            engine: None,
            done: 0,
            sink: None,
        }
    }

    /// Checks that the engine that wrote the archive, if any, succeeded.
    ///
    /// # Errors
    /// [`Kind::Assets`] when it failed, with its output.
    pub(super) fn finish(&mut self) -> Result<()> {
        let Some((engine, child)) = self.engine.take() else {
            return Ok(());
        };
        let fail = || format!("cannot wait for {engine}");
        let output = child.wait_with_output().context(Kind::Internal, fail)?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let message = format!("{engine} could not save {}", self.label);
        Err(Error::assets(message).with_detail(format!("{engine} says"), said))
    }

    /// Returns the engine's error in place of one about its archive, which is cut off if the engine
    /// failed.
    pub(super) fn explain(&mut self, error: Error) -> Error {
        let end = Instant::now() + ENGINE_END;
        let has_failed = |child: &mut Child| {
            let fail = || "cannot wait for the engine".to_owned();
            let ask = || child.try_wait().context(Kind::Assets, fail);
            let ended = wait::poll(end, Duration::from_millis(20), ask);
            // An engine that still writes was not the reason.
            matches!(ended, Ok(Some(status)) if !status.success())
        };
        let engine = self.engine.as_mut();
        let failed =
            error.kind() == Kind::Assets && engine.is_some_and(|(_, child)| has_failed(child));
        if failed {
            return self.finish().err().unwrap_or(error);
        }
        error
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        if let Some((_, child)) = &mut self.engine {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Read for Source {
    /// Waits in slices, so that Ctrl-C ends a wait for a pipe that gives nothing.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let slice = Timespec {
            tv_sec: 0,
            tv_nsec: 100_000_000,
        };
        loop {
            interrupt::check().map_err(|e| io::Error::other(e.to_string()))?;
            let mut fds = [PollFd::new(&self.input, PollFlags::IN)];
            match poll(&mut fds, Some(&slice)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => break,
                Err(e) => return Err(e.into()),
            }
        }
        let n = rustix::io::read(&self.input, buffer)?;
        self.done += n as u64;
        if let Some(sink) = &self.sink {
            sink.bytes(self.done, self.total);
        }
        Ok(n)
    }
}

/// Streams an image out of docker or podman, whichever has it.
fn from_engine(what: &str) -> Result<Source> {
    let no_file = || Error::usage(format!("there is no file {what}"));
    let parent = Path::new(what).parent();
    let path_like = what.starts_with(['/', '.', '~'])
        || ARCHIVE_ENDINGS.iter().any(|ending| what.ends_with(ending))
        || parent.is_some_and(|p| p.is_dir() && p != Path::new(""));
    if path_like {
        return Err(no_file().with_hint("write one: docker image save NAME -o FILE"));
    }
    let name: Reference = what.parse().map_err(|why: String| {
        no_file().with_source(format!("nor can it be a local image, since {why}"))
    })?;
    let mut said = String::new();
    for engine in ENGINES {
        let Some(program) = tool::find(engine) else {
            said.push_str(&format!("{engine} is not installed\n"));
            continue;
        };
        let inspected = tool::Tool::new(program.to_string_lossy(), Kind::Usage)
            .args(["image", "inspect", "--format", "{{.Id}}", "--", what])
            .deadline(INSPECT)
            .run(None);
        match inspected {
            Ok(_) => return save(engine, &program, what, name),
            Err(e) if e.kind() == Kind::Interrupted => return Err(e),
            Err(e) => {
                let why = e.details().last().map_or(e.message(), |(_, text)| text);
                let last = why.lines().last().unwrap_or_default();
                said.push_str(&format!("{engine}: {last}\n"));
            }
        }
    }
    Err(Error::usage(format!(
        "`{what}` is neither a file nor an image that docker or podman has here"
    ))
    .with_detail("they say", said)
    .with_hint(format!("pull it on the node: kubby image pull {what}")))
}

fn save(engine: &str, program: &Path, what: &str, name: Reference) -> Result<Source> {
    let mut child = Command::new(program)
        .args(["image", "save", "--", what])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context(Kind::Usage, || format!("cannot run {}", program.display()))?;
    let no_output = || Error::internal("a program has no output");
    let stdout = child.stdout.take().ok_or_else(no_output)?;
    let label = format!("{engine}'s image {what}");
    let mut source = Source::new(label, None, stdout.into());
    source.name = Some(name);
    source.engine = Some((engine.to_owned(), child));
    Ok(source)
}
