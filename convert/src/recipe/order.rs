//! The order of tensors in the output, and the layer in a tensor's name.

use std::cmp::Ordering;

/// Compares two tensor names by their place in the output: names without a layer first, then by
/// layer, then byte by byte.
///
/// `llama-quantize` keeps tensors in this order whatever the input's was, and the mixes count
/// tensors in it: it decides types as well as offsets.
pub fn output_order(a: &str, b: &str) -> Ordering {
    let place = |name| scan_layer(name).unwrap_or(-1);
    place(a).cmp(&place(b)).then_with(|| a.cmp(b))
}

/// The number after a leading `blk.`, as C's `sscanf(name, "blk.%d.")` reads it.
///
/// The reference leaves the parsing to `sscanf`, so names that only hostile files hold (a sign, a
/// number beyond 32 bits, nothing after it) sort as `sscanf` sees them.
pub(super) fn scan_layer(name: &str) -> Option<i32> {
    let rest = name.strip_prefix("blk.")?;
    let rest = rest.trim_start_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r']);
    let (negative, digits) = match rest.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, rest.strip_prefix('+').unwrap_or(rest)),
    };
    let len = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    let digits = digits.get(..len).filter(|digits| !digits.is_empty())?;
    let wide = digits.bytes().fold(0i64, |n, digit| {
        n.saturating_mul(10).saturating_add(i64::from(digit.saturating_sub(b'0')))
    });
    // Beyond 64 bits the value saturates, then its low 32 bits are kept: what glibc does.
    let wide = match (negative, wide) {
        (true, i64::MAX) => i64::MIN,
        (true, n) => n.saturating_neg(),
        (false, n) => n,
    };
    Some(wide as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_sort_as_numbers_after_everything_else() {
        let mut names = [
            "blk.10.attn_q.weight",
            "token_embd.weight",
            "blk.2.ffn_up.weight",
            "blk.2.attn_q.weight",
            "output.weight",
            "rope_freqs.weight",
        ];
        names.sort_by(|a, b| output_order(a, b));
        assert_eq!(
            names,
            [
                "output.weight",
                "rope_freqs.weight",
                "token_embd.weight",
                "blk.2.attn_q.weight",
                "blk.2.ffn_up.weight",
                "blk.10.attn_q.weight",
            ]
        );
    }

    #[test]
    fn layers_are_read_as_sscanf_reads_them() {
        for (name, layer) in [
            ("blk.7.attn_q.weight", Some(7)),
            ("blk.007.x", Some(7)),
            ("blk. +12", Some(12)),
            ("blk.-3.x", Some(-3)),
            ("blk.4294967296.x", Some(0)),
            ("blk.99999999999999999999.x", Some(-1)),
            ("blk.-99999999999999999999.x", Some(0)),
            ("blk.x", None),
            ("blk.-", None),
            ("blk.", None),
            ("v.blk.1.x", None),
            ("", None),
        ] {
            assert_eq!(scan_layer(name), layer, "{name}");
        }
    }
}
