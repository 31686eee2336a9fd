//! SIMD instances of the quantizers (placeholder head while the crate is laid out).
