//! Instruction sets: detection, and a static table of kernels for each.
//!
//! To add one: a file beside this with a token that only its `new` can make, its
//! [`Lanes`](quant_core::lanes::Lanes) and its `run`; a variant of [`Isa`], a row in [`TABLES`] and one
//! in [`run`]. Tests and benchmarks visit every table the machine supports.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(all(feature = "matrix", target_arch = "x86_64"))]
mod avx2_matrix;
#[cfg(all(feature = "avx512", target_arch = "x86_64"))]
mod avx512;
#[cfg(all(feature = "avx512", feature = "matrix", target_arch = "x86_64"))]
mod avx512_vnni;
#[cfg(feature = "matrix")]
mod matrix;
#[cfg(feature = "matrix")]
mod matrix_macros;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(all(feature = "matrix", target_arch = "aarch64"))]
mod neon_matrix;
#[cfg(feature = "matrix")]
mod scalar_matrix;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod simd128;
#[cfg(all(feature = "matrix", target_arch = "wasm32", target_feature = "simd128"))]
mod simd128_matrix;
#[cfg(all(feature = "sse41", target_arch = "x86_64"))]
mod sse41;
#[cfg(all(feature = "sse41", feature = "matrix", target_arch = "x86_64"))]
mod sse41_matrix;
mod token;

#[cfg(feature = "matrix")]
use quant_core::GgmlType;
use quant_core::lanes::{Call, Lanes, Scalar};

#[cfg(feature = "matrix")]
use self::matrix::{MatrixKernels, MatrixTable, matrix_table};
use self::token::Token;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_feature = "simd128"))]
use self::token::token;
use crate::LaneOp;

/// An instruction set this crate has kernels for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Isa {
    /// No SIMD: the reference.
    Scalar,
    /// x86-64 SSE4.1.
    Sse41,
    /// x86-64 AVX2, FMA and F16C.
    Avx2,
    /// x86-64 AVX2, FMA, F16C and AVX-VNNI.
    AvxVnni,
    /// x86-64 AVX-512 F, BW, DQ and VL; matrix products are those of [`Avx2`](Self::Avx2).
    Avx512,
    /// x86-64 AVX-512 F, BW, DQ and VL with VNNI.
    Avx512Vnni,
    /// aarch64 NEON.
    Neon,
    /// aarch64 NEON with the dot product instructions (FEAT_DotProd).
    NeonDot,
    /// aarch64 NEON with the dot product and matrix product instructions (FEAT_I8MM).
    NeonI8mm,
    /// WebAssembly simd128, with relaxed-simd if the module was compiled with it.
    Simd128,
}

impl Isa {
    /// The name in lower case, as benchmarks print it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Sse41 => "sse4.1",
            Self::Avx2 => "avx2",
            Self::AvxVnni => "avxvnni",
            Self::Avx512 => "avx512",
            Self::Avx512Vnni => "avx512vnni",
            Self::Neon => "neon",
            Self::NeonDot => "neondot",
            Self::NeonI8mm => "neoni8mm",
            Self::Simd128 => "simd128",
        }
    }
}

/// The kernels of one instruction set. Only tables whose instruction set the CPU has can be had.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) isa: Isa,
    supported: fn() -> bool,
    #[cfg(feature = "matrix")]
    pub(crate) dot: fn(GgmlType, &[u8], &[u8]) -> f32,
    #[cfg(feature = "matrix")]
    pub(crate) matrix: MatrixTable,
}

/// A row of the table: the token of the lanes and, if there are any, matrix products.
macro_rules! row {
    ($lanes:ty, $products:ty, $isa:ident) => {{
        #[cfg(feature = "matrix")]
        let row = table::<$lanes, $products>(Isa::$isa);
        #[cfg(not(feature = "matrix"))]
        let row = table::<$lanes>(Isa::$isa);
        row
    }};
}

/// The table that every CPU supports.
pub(crate) static SCALAR: Table = row!(Scalar, scalar_matrix::Kernels, Scalar);

/// The other tables, slowest first.
static TABLES: &[Table] = &[
    #[cfg(all(feature = "sse41", target_arch = "x86_64"))]
    row!(sse41::Sse41, sse41_matrix::Kernels, Sse41),
    #[cfg(target_arch = "x86_64")]
    row!(avx2::Token, avx2_matrix::Kernels, Avx2),
    #[cfg(all(feature = "avxvnni", feature = "matrix", target_arch = "x86_64"))]
    row!(avx2::Token, avx2_matrix::VnniKernels, AvxVnni),
    #[cfg(all(feature = "avx512", target_arch = "x86_64"))]
    row!(avx512::Token, avx2_matrix::Kernels, Avx512),
    #[cfg(all(feature = "avx512", feature = "matrix", target_arch = "x86_64"))]
    row!(avx512::Token, avx512_vnni::Kernels, Avx512Vnni),
    #[cfg(target_arch = "aarch64")]
    row!(neon::Token, neon_matrix::Kernels, Neon),
    #[cfg(all(feature = "matrix", target_arch = "aarch64"))]
    row!(neon::Token, neon_matrix::DotKernels, NeonDot),
    #[cfg(all(feature = "matrix", target_arch = "aarch64"))]
    row!(neon::Token, neon_matrix::I8mmKernels, NeonI8mm),
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    row!(simd128::Simd128, simd128_matrix::Kernels, Simd128),
];

/// The tables of all instruction sets this CPU has, slowest first. Never empty.
pub(crate) fn tables() -> impl DoubleEndedIterator<Item = &'static Table> {
    std::iter::once(&SCALAR).chain(TABLES.iter().filter(|table| (table.supported)()))
}

#[cfg(target_arch = "aarch64")]
impl<const DOT: bool, const I8MM: bool> Token for neon::Neon<DOT, I8MM> {
    fn detect() -> Option<Self> {
        Self::new()
    }
}

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
impl Token for simd128::Simd128 {
    fn detect() -> Option<Self> {
        Some(Self)
    }
}

#[cfg(all(feature = "sse41", target_arch = "x86_64"))]
impl Token for sse41::Sse41 {
    fn detect() -> Option<Self> {
        Self::new()
    }
}

#[cfg(target_arch = "x86_64")]
impl<const VNNI: bool> Token for avx2::Avx2<VNNI> {
    fn detect() -> Option<Self> {
        Self::new()
    }
}

#[cfg(all(feature = "avx512", target_arch = "x86_64"))]
impl<const VNNI: bool> Token for avx512::Avx512<VNNI> {
    fn detect() -> Option<Self> {
        Self::new()
    }
}

const fn table<L: Token, #[cfg(feature = "matrix")] M: MatrixKernels>(isa: Isa) -> Table {
    Table {
        isa,
        #[cfg(feature = "matrix")]
        supported: || L::detect().is_some() && M::Token::detect().is_some(),
        #[cfg(not(feature = "matrix"))]
        supported: || L::detect().is_some(),
        #[cfg(feature = "matrix")]
        dot: matrix::dot::<M>,
        #[cfg(feature = "matrix")]
        matrix: matrix_table::<M>(),
    }
}

/// A [`LaneOp`] for the lanes of one instruction set.
struct Run<O>(O);

impl<S: Lanes, O: LaneOp> Call<S> for Run<O> {
    type Output = O::Output;

    #[inline(always)]
    fn eval(self, s: S) -> O::Output {
        self.0.eval(s)
    }
}

/// Runs an operation with the lanes of an instruction set whose table was handed out.
#[inline]
pub(crate) fn run<O: LaneOp>(isa: Isa, op: O) -> O::Output {
    if isa == Isa::Scalar { Scalar.call(Run(op)) } else { run_vectors(isa, op) }
}

/// As [`run`], of an instruction set that is not scalar code: what `quant-core` has compiled for that is
/// not compiled again.
#[inline]
pub(crate) fn run_vectors<O: LaneOp>(isa: Isa, op: O) -> O::Output {
    #[cfg_attr(
        not(any(target_arch = "x86_64", target_arch = "aarch64", target_feature = "simd128")),
        allow(unused_variables, reason = "there is scalar code alone")
    )]
    let op = op;
    match isa {
        #[cfg(all(feature = "sse41", target_arch = "x86_64"))]
        Isa::Sse41 => token::<sse41::Sse41>().call(Run(op)),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 | Isa::AvxVnni => token::<avx2::Token>().call(Run(op)),
        #[cfg(all(feature = "avx512", target_arch = "x86_64"))]
        Isa::Avx512 | Isa::Avx512Vnni => token::<avx512::Token>().call(Run(op)),
        // These two are on in the whole program.
        #[cfg(target_arch = "aarch64")]
        Isa::Neon | Isa::NeonDot | Isa::NeonI8mm => op.eval(token::<neon::Token>()),
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        Isa::Simd128 => op.eval(token::<simd128::Simd128>()),
        _ => unreachable!("no table of {isa:?} is handed out"),
    }
}
