//! SIGINT, SIGTERM and SIGHUP ask the conversion to stop; it removes its temporary and returns.

use std::{
    process::ExitCode,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};

static STOP: LazyLock<Stop> = LazyLock::new(Stop::default);

#[derive(Default)]
struct Stop {
    asked: Arc<AtomicBool>,
    signal: Arc<AtomicUsize>,
}

/// Starts to listen. The flag is set by the first signal; a second one ends the process at once.
pub(crate) fn listen() -> std::io::Result<&'static AtomicBool> {
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // Order matters: this one acts only if the flag was set before.
        signal_hook::flag::register_conditional_shutdown(
            signal,
            128 + signal,
            Arc::clone(&STOP.asked),
        )?;
        let number = usize::try_from(signal).unwrap_or_default();
        signal_hook::flag::register_usize(signal, Arc::clone(&STOP.signal), number)?;
        signal_hook::flag::register(signal, Arc::clone(&STOP.asked))?;
    }
    // A limit on the size of files is an error of the write that meets it, not the end.
    signal_hook::flag::register(SIGXFSZ, Arc::default())?;
    Ok(&STOP.asked)
}

/// The flag that a signal sets.
#[cfg(feature = "remote")]
pub(crate) fn flag() -> Arc<AtomicBool> {
    Arc::clone(&STOP.asked)
}

/// The shell's code for a process that a signal ended, if one did.
pub(crate) fn exit_code() -> Option<ExitCode> {
    match STOP.signal.load(Ordering::Relaxed) {
        0 => None,
        signal => u8::try_from(128 + signal).ok().map(ExitCode::from),
    }
}
