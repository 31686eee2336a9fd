//! One file per command.

pub(crate) mod compare;
pub(crate) mod convert;
pub(crate) mod inspect;
pub(crate) mod manual;
pub(crate) mod presets;
pub(crate) mod verify;
