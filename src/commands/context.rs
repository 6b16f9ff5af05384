//! The context of a command: flags, store and progress.

use std::process::ExitCode;
use std::sync::Arc;

use serde::Serialize;

use crate::cli::{Global, OutputFormat};
use crate::cluster::env::{Env, Real};
use crate::error::Result;
use crate::progress::Progress;
use crate::store::Store;
use crate::{output, ui};

/// The context of one command.
pub(super) struct Context {
    /// The global flags.
    pub global: Global,
    /// The folders of state and assets.
    pub store: Store,
    /// The receiver of progress.
    pub progress: Arc<dyn Progress>,
}

impl Context {
    /// Creates the context from the global flags and the environment.
    ///
    /// # Errors
    /// When `KUBBY_HOME` or `KUBBY_CACHE` is invalid.
    pub(super) fn new(global: Global) -> Result<Self> {
        let style = ui::Style {
            quiet: global.quiet,
            verbose: global.verbose,
        };
        Ok(Context {
            store: Store::from_env()?.without_waiting(global.no_wait),
            progress: ui::progress(style),
            global,
        })
    }

    /// Returns the surroundings of operations on clusters.
    pub(super) fn env(&self) -> Env<'_> {
        self.env_with(self.progress.as_ref())
    }

    /// Returns the same with another receiver of progress.
    pub(super) fn env_with<'a>(&'a self, progress: &'a dyn Progress) -> Env<'a> {
        Env {
            store: &self.store,
            backend: &Real,
            progress,
        }
    }

    /// Prints a result: `text`, or with `-o json` `data` as an object of this `kind`. Returns the exit
    /// code of success.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub(super) fn report(&self, kind: &str, data: &impl Serialize, text: &str) -> Result<ExitCode> {
        match self.global.output {
            OutputFormat::Json => ui::print(&output::json(kind, data))?,
            OutputFormat::Text => ui::print(text)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}
