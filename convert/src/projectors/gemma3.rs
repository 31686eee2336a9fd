//! Gemma 3: SigLIP, averaged over squares of patches.

use super::{
    Encoder, Kept, Projector, nothing,
    shared::{self, *},
};
use crate::architectures::{
    Architecture, ModelDefaults,
    parameters::{Constant, Parameter},
    tensors::Rule,
};

pub(super) const GEMMA3: Projector = Projector {
    classes: &["Gemma3ForConditionalGeneration"],
    name: "gemma3",
    encoders: &[Encoder {
        config: &["vision_config"],
        starts: &["vision_tower.", "vision_model.", "multi_modal_projector."],
        prepare: nothing,
        family: &FAMILY,
    }],
    types: &[
        // ggml-org/llama.cpp#13025
        ("mm.input_projection.", Kept::F16),
        ("v.patch_embd.", Kept::F32),
    ],
};

const FAMILY: Architecture = Architecture {
    defaults: &[ModelDefaults {
        model_type: "siglip_vision_model",
        values: &[shared::SIGLIP_DEFAULTS],
        in_wrapper: &[],
    }],
    parameters: &[
        VISION,
        &[
            Parameter::Constant("projector_type", Constant::Text("gemma3")),
            EPSILON,
            USE_GELU,
            Parameter::With(scale_factor),
        ],
    ],
    wrappers: TOWERS,
    tensors: &[
        SIGLIP_LAYERS,
        SIGLIP_ENDS,
        SIGLIP_HEAD,
        &[
            Rule::exact(
                "multi_modal_projector.mm_input_projection_weight",
                "mm.input_projection.weight",
                &[WIDTH, TEXT_WIDTH],
            ),
            Rule::new("multi_modal_projector.mm_soft_emb_norm", "mm.soft_emb_norm", &[WIDTH])
                .plus_one(),
        ],
    ],
    ..CLIP
};
