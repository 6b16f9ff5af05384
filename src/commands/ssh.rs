//! `kubby ssh`.

use std::process::ExitCode;

use crate::cli::SshArgs;
use crate::cluster::Access;
use crate::context::Context;
use crate::error::Result;
use crate::remote;

/// Runs the command. The exit code is the remote one.
pub fn run(context: &Context, args: &SshArgs) -> Result<ExitCode> {
    let access = Access::open(&context.store, &context.global.profile)?;
    let target = access.target()?;
    let hint = |e: crate::error::Error| {
        let flag = access.profile.name.flag();
        e.with_hint(format!(
            "kubby status{flag} tells what runs; kubby start{flag} brings it back"
        ))
    };
    let code = if args.command.is_empty() {
        remote::shell(&target).map_err(hint)?
    } else {
        remote::exec_streaming(&target, &remote::join(&args.command), args.tty).map_err(hint)?
    };
    Ok(exit_code(code))
}

/// A remote code as this process's: what does not fit a byte is a failure all the same.
pub fn exit_code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(255))
}
