//! Types that tensors have in files of other programs: of ggml before it removed them, of
//! BitNet's fork, of ik_llama.cpp. None is read; each is named.

/// A type that is not read: its name with whose it is, and what to do.
pub(super) fn describe(id: u32) -> Option<(String, &'static str)> {
    const AGAIN: &str = "quantize the original model again";
    const BITNET: &str = "take the original checkpoint: TQ1_0 and TQ2_0 hold the same ternary \
        weights; a file of older ggml is to be quantized again";
    const IK: &str = "quantize the original model again, or take a file of the model for llama.cpp";
    let removed = |name: &str| Some((format!("{name}, which ggml has removed"), AGAIN));
    let either = |bitnet: &str, ggml: &str| {
        let names = format!("{bitnet} of BitNet's llama.cpp, or {ggml}, which ggml has removed");
        Some((names, BITNET))
    };
    match id {
        4 => removed("Q4_2"),
        5 => removed("Q4_3"),
        31 => removed("Q4_0_4_4"),
        32 => removed("Q4_0_4_8"),
        33 => removed("Q4_0_8_8"),
        36 => either("I2_S", "IQ4_NL_4_4"),
        37 => either("I8_S", "IQ4_NL_4_8"),
        38 => either("TL1", "IQ4_NL_8_8"),
        _ => IK_LLAMA
            .iter()
            .find(|(known, _)| *known == id)
            .map(|(_, name)| (format!("{name}, which only ik_llama.cpp knows"), IK)),
    }
}

/// The types of ik_llama.cpp. Those from 202 on are others with their rows interleaved.
const IK_LLAMA: &[(u32, &str)] = &[
    (97, "Q8_0_X4"),
    (98, "Q8_1_X4"),
    (99, "Q8_2_X4"),
    (133, "Q6_0"),
    (134, "IQ1_BN"),
    (135, "IQ2_BN"),
    (136, "Q8_K64"),
    (137, "IQ2_K"),
    (138, "IQ3_K"),
    (139, "IQ4_K"),
    (140, "IQ5_K"),
    (141, "IQ6_K"),
    (144, "IQ4_KS"),
    (145, "IQ2_KS"),
    (146, "IQ4_KSS"),
    (147, "Q8_K16"),
    (148, "Q8_K32"),
    (149, "Q8_KR8"),
    (150, "Q8_K128"),
    (151, "Q8_KV"),
    (152, "IQ5_KS"),
    (153, "IQ2_KT"),
    (154, "IQ3_KT"),
    (155, "IQ4_KT"),
    (156, "IQ3_KS"),
    (157, "IQ2_KL"),
    (158, "IQ1_KT"),
    (202, "Q4_0_R8"),
    (206, "Q5_0_R4"),
    (208, "Q8_0_R8"),
    (210, "Q2_K_R4"),
    (211, "Q3_K_R4"),
    (212, "Q4_K_R4"),
    (213, "Q5_K_R4"),
    (214, "Q6_K_R4"),
    (216, "IQ2_XXS_R4"),
    (217, "IQ2_XS_R4"),
    (218, "IQ3_XXS_R4"),
    (219, "IQ1_S_R4"),
    (220, "IQ4_NL_R4"),
    (221, "IQ3_S_R4"),
    (222, "IQ2_S_R4"),
    (223, "IQ4_XS_R8"),
    (229, "IQ1_M_R4"),
    (230, "BF16_R16"),
    (233, "Q6_0_R4"),
    (335, "IQ2_BN_R4"),
    (337, "IQ2_K_R4"),
    (338, "IQ3_K_R4"),
    (339, "IQ4_K_R4"),
    (340, "IQ5_K_R4"),
    (344, "IQ4_KS_R4"),
    (352, "IQ5_KS_R4"),
    (353, "MXFP4_R8"),
    (397, "Q8_K_R16"),
    (398, "Q8_KV_R8"),
    (399, "Q8_K_R8"),
];

#[cfg(test)]
mod tests {
    use quant_core::GgmlType;

    use super::*;

    #[test]
    fn no_type_is_both_read_and_foreign() {
        for id in 0..1000 {
            assert!(GgmlType::from_id(id).is_none() || describe(id).is_none(), "{id}");
        }
    }
}
