//! Tokens, which prove that the CPU has an instruction set, and what is written with them.

use quant_core::lanes::{Lanes, Scalar};

/// A token that can be had where the CPU supports it.
pub(crate) trait Token: Lanes {
    fn detect() -> Option<Self>;
}

impl Token for Scalar {
    fn detect() -> Option<Self> {
        Some(Self)
    }
}

/// The token of a table that was handed out: its instruction set was detected then.
pub(crate) fn token<T: Token>() -> T {
    match T::detect() {
        Some(token) => token,
        None => unreachable!("tables() hands out supported tables only"),
    }
}

/// The methods of a [`Lanes`] that are one expression of intrinsics each.
#[cfg(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    all(target_arch = "wasm32", target_feature = "simd128")
))]
macro_rules! lane_ops {
    ($($name:ident($($arg:ident: $ty:ty),*) -> $out:ty $body:block)*) => {$(
        #[cfg_attr(target_arch = "wasm32", allow(unused_unsafe, reason = "intrinsics are safe"))]
        #[inline(always)]
        fn $name(self, $($arg: $ty),*) -> $out {
            // SAFETY: the token proves that the CPU has the instructions; the pointers, where
            // there are any, come from references to arrays of at least as many lanes.
            unsafe { $body }
        }
    )*};
}
#[cfg(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    all(target_arch = "wasm32", target_feature = "simd128")
))]
pub(super) use lane_ops;

/// Functions compiled with some features, one of whose arguments is a token that proves them; or
/// without features of their own.
macro_rules! with_features {
    (: $($item:item)*) => {$(#[inline] $item)*};
    ($features:literal: $(
        $(#[$attribute:meta])*
        fn $name:ident $(<$format:ident: $bound:path $(, const $number:ident: usize)?>)?
            ($($arg:ident: $ty:ty),* $(,)?)
            $(-> $out:ty)? $body:block
    )*) => {$(
        $(#[$attribute])*
        #[inline]
        fn $name $(<$format: $bound $(, const $number: usize)?>)? ($($arg: $ty),*) $(-> $out)? {
            #[target_feature(enable = $features)]
            fn with_features $(<$format: $bound $(, const $number: usize)?>)? (
                $($arg: $ty),*
            ) $(-> $out)? $body
            // SAFETY: the token proves every feature named.
            unsafe { with_features $(::<$format $(, $number)?>)? ($($arg),*) }
        }
    )*};
}
pub(crate) use with_features;

/// [`Lanes::call`] compiled with some features.
#[cfg(target_arch = "x86_64")]
macro_rules! call_with_features {
    ($features:literal) => {
        #[inline(always)]
        fn call<O: quant_core::lanes::Call<Self>>(self, op: O) -> O::Output {
            #[inline(never)]
            #[target_feature(enable = $features)]
            fn with_features<S: Lanes, O: quant_core::lanes::Call<S>>(s: S, op: O) -> O::Output {
                op.eval(s)
            }
            // SAFETY: the token proves every feature named.
            unsafe { with_features(self, op) }
        }
    };
}
#[cfg(target_arch = "x86_64")]
pub(super) use call_with_features;
