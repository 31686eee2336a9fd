//! Model families: how the tensors and hyper-parameters of each become GGUF's.
//!
//! A family is one file that declares an [`Architecture`]; the engine beside it
//! ([`parameters`], [`tensors`]) does the work. To add one: declare it, list it in [`ALL`].

pub(crate) mod adapted;
mod assumed;
mod defaults;
mod dim;
mod family;
mod find;
mod forms;
pub(crate) mod head;
mod layers;
mod llama3;
mod mapping;
mod names;
pub(crate) mod nextn;
mod parameter;
pub mod parameters;
mod refusals;
pub(crate) mod rerank;
mod rope;
mod rule;
mod shared;
#[cfg(test)]
mod slots;
pub mod tensors;

mod afmoe;
mod apertus;
mod arcee;
mod arctic;
mod baichuan;
mod bailing;
mod bailing3;
mod bert;
mod bloom;
mod chatglm;
mod codeshell;
mod cogvlm;
mod cohere;
mod cohere2;
mod cohere2moe;
mod dbrx;
mod deci;
mod deepseek;
mod deepseek2;
mod deepseek4;
mod deepseek_ocr;
mod distilbert;
mod dots1;
mod dream;
mod encoder;
mod ernie4_5;
mod ernie4_5_moe;
mod eurobert;
mod exaone;
mod exaone4;
mod exaone_moe;
mod falcon;
mod falcon_h1;
mod gemma;
mod gemma2;
mod gemma3;
pub(crate) mod gemma3n;
mod gemma4;
mod glm;
mod glm4_moe;
mod glm5_next;
mod gpt2;
mod gpt_oss;
mod gptneox;
mod granite;
mod granite_swa;
mod granitehybrid;
mod granitemoe;
mod grovemoe;
mod hrm_text;
mod hunyuan;
mod hy_v3;
mod hy_v4;
mod indexer;
mod internlm2;
mod jais2;
mod jamba;
mod jina_bert;
mod kda;
mod kimi_linear;
mod laguna;
mod lfm2;
mod llama;
mod llama4;
mod maincoder;
mod mamba;
mod maple;
mod mellum;
mod mimo;
mod minicpm;
mod minicpm3;
mod minimax;
pub(crate) mod minimax01;
mod mistral3;
mod mistral_format;
mod mixtral;
mod modern_bert;
mod mpt;
mod muse_glimmer;
mod nanbeige;
mod nemotron;
mod nemotron_h;
mod neobert;
mod nomic_bert;
mod olmo;
mod olmo2;
mod olmoe;
mod openelm;
mod orion;
mod pangu;
mod phi2;
mod phi3;
mod phimoe;
mod qwen2;
mod qwen2moe;
mod qwen2vl;
mod qwen3;
mod qwen3moe;
mod qwen3next;
mod qwen3vl;
mod refact;
mod roberta;
mod seed_oss;
mod smallthinker;
mod smollm3;
mod spark;
mod stablelm;
mod starcoder;
mod starcoder2;
mod step35;
mod t5;
mod talkie;
mod windows;

use gguf_io::metadata::Metadata;

use crate::{Config, Result, model::Tensor};

pub use defaults::{Default, Fill, ModelDefaults};
pub use family::{Architecture, BASE, Computed};

/// All families.
pub const ALL: &[&Architecture] = &[
    &afmoe::AFMOE,
    &apertus::APERTUS,
    &arcee::ARCEE,
    &arctic::ARCTIC,
    &baichuan::BAICHUAN,
    &bailing::BAILINGMOE,
    &bailing::BAILINGMOE2,
    &bailing::SARVAM,
    &bailing3::BAILINGMOE3,
    &bert::BERT,
    &bloom::BLOOM,
    &codeshell::CODESHELL,
    &cogvlm::COGVLM,
    &cohere::COHERE,
    &cohere2::COHERE2,
    &cohere2moe::COHERE2MOE,
    &dbrx::DBRX,
    &deci::DECI,
    &deepseek::DEEPSEEK,
    &deepseek2::DEEPSEEK2,
    &deepseek4::DEEPSEEK4,
    &deepseek_ocr::DEEPSEEK_OCR,
    &distilbert::DISTILBERT,
    &dots1::DOTS1,
    &dream::DREAM,
    &dream::LLADA,
    &dream::LLADA_MOE,
    &dream::RND1,
    &ernie4_5::ERNIE4_5,
    &ernie4_5_moe::ERNIE4_5_MOE,
    &ernie4_5_moe::PADDLEOCR,
    &eurobert::EUROBERT,
    &exaone::EXAONE,
    &exaone4::EXAONE4,
    &exaone_moe::EXAONE4_5,
    &exaone_moe::EXAONE_MOE,
    &falcon::FALCON,
    &falcon_h1::FALCON_H1,
    &gemma::GEMMA,
    &gemma2::GEMMA2,
    &gemma3::GEMMA3,
    &gemma3::GEMMA_EMBEDDING,
    &gemma3n::GEMMA3N,
    &gemma4::GEMMA4,
    &gemma4::GEMMA4_ASSISTANT,
    &chatglm::CHATGLM,
    &glm::DEEPSEEK32,
    &glm::GLM4,
    &glm::GLM4_MOE_LITE,
    &glm::GLM_DSA,
    &glm4_moe::GLM4_MOE,
    &glm4_moe::SOLAR,
    &glm5_next::GLM5_NEXT,
    &gpt2::GPT2,
    &gpt_oss::GPT_OSS,
    &gptneox::GPTNEOX,
    &granite::GRANITE,
    &granite_swa::GRANITE_SWA,
    &granite_swa::GRANITE_MOE_SWA,
    &granitehybrid::GRANITE_HYBRID,
    &granitemoe::GRANITEMOE,
    &grovemoe::GROVEMOE,
    &hrm_text::HRM_TEXT,
    &hunyuan::HUNYUAN_DENSE,
    &hunyuan::HUNYUAN_VL,
    &hunyuan::HUNYUAN_MOE,
    &hy_v3::HY_V3,
    &hy_v4::HY_V4,
    &internlm2::INTERNLM2,
    &jais2::JAIS2,
    &jamba::JAMBA,
    &jina_bert::JINA_BERT_V2,
    &kimi_linear::KIMI_LINEAR,
    &laguna::LAGUNA,
    &lfm2::LFM2,
    &lfm2::LFM2_EMBEDDING,
    &lfm2::LFM2MOE,
    &llama::LLAMA,
    &llama::LLAMA_EMBED,
    &llama::INTERNLM3,
    &llama::SARASHINA,
    &llama4::LLAMA4,
    &maincoder::MAINCODER,
    &mamba::MAMBA2,
    &mamba::MAMBA,
    &maple::MAPLE,
    &mellum::MELLUM,
    &mimo::MIMO2,
    &minicpm::MINICPM,
    &minicpm3::MINICPM3,
    &minicpm3::PLM,
    &minimax01::MINIMAX01,
    &minimax::MINIMAX_M2,
    &minimax::MINIMAX_M3,
    &mistral3::MISTRAL3,
    &mixtral::MIXTRAL,
    &modern_bert::MODERN_BERT,
    &mpt::MPT,
    &muse_glimmer::MUSE_GLIMMER,
    &nanbeige::NANBEIGE,
    &nemotron::NEMOTRON,
    &nemotron_h::NEMOTRON_H,
    &nemotron_h::NEMOTRON_PUZZLE,
    &neobert::NEO_BERT,
    &nomic_bert::NOMIC_BERT,
    &olmo::OLMO,
    &olmo2::OLMO2,
    &olmoe::OLMOE,
    &openelm::OPENELM,
    &orion::ORION,
    &pangu::PANGU_EMBED,
    &phi2::PHI2,
    &phi3::PHI3,
    &phimoe::PHIMOE,
    &qwen2::QWEN2,
    &qwen2::KORMO,
    &qwen2moe::QWEN2MOE,
    &qwen2vl::QWEN2VL,
    &qwen3::QWEN3,
    &qwen3moe::QWEN3MOE,
    &qwen3next::QWEN3NEXT,
    &qwen3next::QWEN35,
    &qwen3next::QWEN35MOE,
    &qwen3vl::QWEN3VL,
    &qwen3vl::QWEN3VLMOE,
    &qwen3vl::QWEN3ASR,
    &qwen3vl::QWEN3OMNI,
    &refact::REFACT,
    &roberta::ROBERTA,
    &roberta::XLM_ROBERTA,
    &seed_oss::SEED_OSS,
    &smallthinker::SMALLTHINKER,
    &smollm3::SMOLLM3,
    &spark::SPARK2_5,
    &stablelm::STABLELM,
    &starcoder::STARCODER,
    &starcoder2::STARCODER2,
    &step35::STEP35,
    &t5::T5,
    &t5::T5ENCODER,
    &talkie::TALKIE,
];

/// The family of a Hugging Face class.
///
/// # Errors
/// [`Error::Architecture`](crate::Error::Architecture) if no family covers the class.
pub fn find(config: &Config) -> Result<&'static Architecture> {
    find::find(ALL, config)
}

/// Writes how an embedding model's states become one, where its family has no place of its own for
/// that, and warns of a scaled rotary embedding that neither keys nor tensors tell.
///
/// # Errors
/// If the files of sentence-transformers ask for what GGUF does not know.
pub(crate) fn finish(
    architecture: &Architecture,
    config: &Config,
    tensors: &[Tensor],
    metadata: &mut Metadata,
) -> Result<()> {
    let key = |name: &str| format!("{}.{name}", architecture.name);
    // The reference converter writes it for some families only; engines then do no pooling.
    if metadata.get(&key("pooling_type")).is_none() && !config.like_reference() {
        encoder::pooling(config, &mut architecture.keys(metadata))?;
    }
    // The method alone scales nothing where each frequency has a factor of its own.
    let method = metadata.get_str(&key("rope.scaling.type"));
    let scaled = method.is_some_and(|kind| !["none", "longrope"].contains(&kind))
        || tensors.iter().any(|tensor| tensor.name.starts_with("rope_f"));
    let is_yarn = method == Some("yarn");
    rope::warn_left_out(config, scaled)?;
    // The reference converter does not look at it.
    if !config.like_reference() {
        // The reference converter leaves the base of some families out, as if all had llama.cpp's own.
        const BASE: f64 = 10_000.0;
        let turns = gguf_model::Architecture::find(architecture.name)
            .is_some_and(|known| known.graph.rope != gguf_model::Rope::None);
        if turns
            && metadata.get(&key("rope.freq_base")).is_none()
            && let Some(base) = rope::base(config)?.filter(|base| *base != BASE)
        {
            architecture.keys(metadata).set_number("rope.freq_base", base);
        }
        // Families with a logarithm of their own, and with latent attention, have it in other keys.
        let has = |name: &str| metadata.get(&key(name)).is_some();
        let own = ["rope.scaling.attn_factor", "rope.scaling.yarn_log_multiplier"];
        let is_told = own.into_iter().chain(["attention.kv_lora_rank"]).any(has);
        if is_yarn
            && !is_told
            && let Some(factor) = rope::attention_factor(config)?
        {
            architecture.keys(metadata).set_number("rope.scaling.attn_factor", factor);
        }
        windows::write(config, architecture.name, metadata);
        windows::warn(config, architecture.name, metadata);
        assumed::warn(config, architecture.name, metadata);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_class_is_claimed_twice() {
        let mut classes: Vec<_> = ALL.iter().flat_map(|family| family.classes).collect();
        let all = classes.len();
        classes.sort_unstable();
        classes.dedup();
        assert_eq!(classes.len(), all);
    }
}
