//! How an instruction set multiplies the codes of a layout: what the kernel, its panels and its inputs have to
//! agree on.

use super::{coded::Layout, dot_lanes::DotLanes};

/// Whether panels have codes in 16 bits, times their factors: [`DotLanes::widened`].
pub(crate) const fn widens<S: DotLanes, L: Layout>() -> bool {
    !S::WIDE && L::WHOLE
}

/// Whether with panels the dots of sub-blocks are multiplied by their factors one by one, which costs nothing
/// where they would be multiplied by one: [`DotLanes::finish_scaled`].
pub(crate) const fn scales_dots<S: DotLanes, L: Layout>() -> bool {
    !S::WIDE && !L::WHOLE && !L::SINGLE
}

/// Whether sums of 16 bits in panels start from minus the bias times their inputs, if those are scaled dots. So
/// they end as sums of values, which are smaller than those of codes; what leaves 16 bits on the way comes back.
/// Each half of a lane has eight neighbours at a time then, codes and inputs both: [`DotLanes::by_eights`].
pub(crate) const fn centres<S: DotLanes, L: Layout>() -> bool {
    scales_dots::<S, L>() && !L::OFFSET
}

/// Whether sums start from minus the bias times the sum of the inputs: the starts of
/// [`Columns`](super::tile::Columns).
pub(crate) const fn biased<S: DotLanes, L: Layout>() -> bool {
    !(L::OFFSET || L::WHOLE && S::SIGNED_BYTES)
}

/// What the starts multiply that sum by, negated, where the code of zero is `bias`.
pub(crate) const fn bias<S: DotLanes, L: Layout>(bias: i32) -> i32 {
    let bias = if L::WHOLE && S::SIGNED_BYTES { bias - 128 } else { bias };
    assert!((bias != 0) == biased::<S, L>(), "a bias or minima");
    bias
}

/// Dots that fit partial sums, of the steps in 32 columns or in a sub-block; with panels if they have a way of
/// their own.
pub(crate) const fn run<S: DotLanes, L: Layout>(panel: bool) -> usize {
    let steps = if L::SUB == 16 { 4 } else { 8 };
    // Each step adds two products with 127 to a sum of 16 bits: of codes, or of values.
    let fit = match L::BITS {
        _ if S::WIDE => steps,
        8 => 1,
        n if panel && centres::<S, L>() => 32767 / (2 * 127 * (1 << (n - 1))),
        n => 32767 / (2 * 127 * ((1 << n) - 1)),
    };
    // A power of two, so that it divides the steps.
    let mut run = 1;
    while 2 * run <= fit && 2 * run <= steps {
        run *= 2;
    }
    run
}
