//! What `--version` says: the version, the commit, and the instruction set that this CPU is given.

use std::sync::OnceLock;

use quant_kernels::Kernels;

/// The version of the program and the commit that it was built from, where that is known.
pub(crate) fn program() -> &'static str {
    match env!("QUANTWRIGHT_COMMIT") {
        "" => env!("CARGO_PKG_VERSION"),
        _ => concat!(env!("CARGO_PKG_VERSION"), " (", env!("QUANTWRIGHT_COMMIT"), ")"),
    }
}

/// The same, with the instruction set whose kernels run here.
pub(crate) fn long() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| format!("{}, {}", program(), Kernels::best().isa().name()))
}
