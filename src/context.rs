//! What every command works with: flags, folders, progress.

use std::sync::Arc;

use serde::Serialize;

use crate::cli::{Global, OutputFormat};
use crate::error::Result;
use crate::progress::Progress;
use crate::store::Store;
use crate::{output, ui};

/// The surroundings of one command.
pub struct Context {
    /// The global flags.
    pub global: Global,
    /// State and assets.
    pub store: Store,
    /// Where progress goes.
    pub progress: Arc<dyn Progress>,
}

impl Context {
    /// From the global flags and the environment.
    ///
    /// # Errors
    /// When `KUBBY_HOME` or `KUBBY_CACHE` make no sense.
    pub fn new(global: Global) -> Result<Self> {
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

    /// Prints a result: `text` for people, `data` for programs as an object of `kind`.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub fn report(&self, kind: &str, data: &impl Serialize, text: &str) -> Result<()> {
        match self.global.output {
            OutputFormat::Json => ui::print(&output::json(kind, data)),
            OutputFormat::Text => ui::print(text),
        }
    }
}
