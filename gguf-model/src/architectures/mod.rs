//! The architectures, a file each.

use crate::{Architecture, Kind};

mod afmoe;
mod arcee;
mod bailing;
mod bailing3;
mod bert;
mod bloom;
mod cohere2;
mod cohere2moe;
mod command_r;
mod deepseek;
mod deepseek2;
mod deepseek32;
mod deepseek_ocr;
mod dense;
mod dots1;
mod ernie4_5;
mod exaone4;
mod falcon;
mod gemma;
mod gemma2;
mod gemma3;
mod gemma3n;
mod gemma4;
mod glm;
mod glm4_moe;
mod glm5_next;
mod gpt2;
mod gpt_oss;
mod gptneox;
mod granite;
mod grovemoe;
mod hy_v4;
mod kimi_linear;
mod laguna;
mod lfm2;
mod llama;
mod mamba;
mod maple;
mod mellum;
mod mimo2;
mod minicpm3;
mod minimax;
mod mistral3;
mod mixtures;
mod modern_bert;
mod mpt;
mod muse_glimmer;
mod nemotron;
mod olmo;
mod olmo2;
mod olmoe;
mod phi2;
mod phi3;
mod qwen2;
mod qwen2moe;
mod qwen3;
mod qwen3moe;
mod qwen3next;
mod seed_oss;
mod shared;
mod smallthinker;
mod smollm3;
mod spark;
mod stablelm;
mod starcoder;
mod starcoder2;
mod step35;
mod t5;

/// Every architecture that is described.
pub static ALL: &[&Architecture] = &[
    &afmoe::AFMOE,
    &arcee::ARCEE,
    &bailing::BAILINGMOE,
    &bailing::BAILINGMOE2,
    &bailing3::BAILINGMOE3,
    &bert::BERT,
    &bloom::BLOOM,
    &cohere2::COHERE2,
    &cohere2moe::COHERE2MOE,
    &command_r::COMMAND_R,
    &deepseek::DEEPSEEK,
    &deepseek2::DEEPSEEK2,
    &deepseek32::DEEPSEEK32,
    &deepseek32::GLM_DSA,
    &deepseek_ocr::DEEPSEEK_OCR,
    &dots1::DOTS1,
    &ernie4_5::ERNIE4_5,
    &exaone4::EXAONE4,
    &falcon::FALCON,
    &gemma::GEMMA,
    &gemma2::GEMMA2,
    &gemma3::GEMMA3,
    &gemma3::GEMMA_EMBEDDING,
    &gemma3n::GEMMA3N,
    &gemma4::GEMMA4,
    &gemma4::GEMMA4_ASSISTANT,
    &glm::CHATGLM,
    &glm::GLM4,
    &glm4_moe::GLM4MOE,
    &glm5_next::GLM5_NEXT,
    &gpt_oss::GPT_OSS,
    &gpt2::GPT2,
    &gptneox::GPTNEOX,
    &granite::GRANITE,
    &granite::GRANITEMOE,
    &grovemoe::GROVEMOE,
    &hy_v4::HY_V4,
    &kimi_linear::KIMI_LINEAR,
    &laguna::LAGUNA,
    &llama::LLAMA,
    &llama::LLAMA_EMBED,
    &maple::MAPLE,
    &mellum::MELLUM,
    &mimo2::MIMO2,
    &minimax::MINIMAX_M2,
    &minimax::MINIMAX_M3,
    &mistral3::MISTRAL3,
    &modern_bert::MODERN_BERT,
    &mpt::MPT,
    &muse_glimmer::MUSE_GLIMMER,
    &nemotron::NEMOTRON,
    &bert::NOMIC_BERT,
    &olmo::OLMO,
    &olmo2::OLMO2,
    &olmoe::OLMOE,
    &phi2::PHI2,
    &phi3::PHI3,
    &qwen2::QWEN2,
    &qwen2::QWEN2VL,
    &qwen2moe::QWEN2MOE,
    &qwen3::QWEN3,
    &qwen3::QWEN3VL,
    &qwen3moe::QWEN3MOE,
    &qwen3moe::QWEN3VLMOE,
    &qwen3next::QWEN3NEXT,
    &qwen3next::QWEN35,
    &qwen3next::QWEN35MOE,
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
    &dense::BAICHUAN,
    &dense::CODESHELL,
    &dense::DREAM,
    &dense::EXAONE,
    &dense::INTERNLM2,
    &dense::JAIS2,
    &dense::LLADA,
    &dense::MAINCODER,
    &dense::MINICPM,
    &dense::NANBEIGE,
    &dense::ORION,
    &dense::PADDLEOCR,
    &dense::PANGU_EMBED,
    &minicpm3::MINICPM3,
    &minicpm3::PLM,
    &mixtures::ERNIE4_5_MOE,
    &mixtures::LLADA_MOE,
    &mixtures::LLAMA4,
    &mixtures::PHIMOE,
    &mixtures::RND1,
    &lfm2::LFM2,
    &lfm2::LFM2MOE,
    &mamba::MAMBA,
    &mamba::MAMBA2,
    &mamba::GRANITE_HYBRID,
    &dense::HUNYUAN_DENSE,
    &dense::HUNYUAN_VL,
    &dense::EUROBERT,
    &mixtures::HUNYUAN_MOE,
    &mixtures::EXAONE_MOE,
    &bert::JINA_BERT_V2,
    &bert::NEO_BERT,
    &mamba::JAMBA,
    &mamba::NEMOTRON_H,
    &mamba::NEMOTRON_H_MOE,
    &mixtures::GRANITE_SWA,
    &mixtures::HY_V3,
    &dense::REFACT,
    &dense::OPENELM,
    &dense::DECI,
    &mixtures::ARCTIC,
    &mixtures::DBRX,
    &dense::APERTUS,
    &mamba::FALCON_H1,
];

/// Architectures of which llama.cpp loads either part alone: the layers that predict the next token,
/// or those that predict further ones.
const LACK_FURTHER: [&str; 9] = [
    "bailingmoe3",
    "cohere2moe",
    "deepseek2",
    "deepseek32",
    "glm-dsa",
    "glm4moe",
    "hy_v3",
    "mimo2",
    "step35",
];

/// Architectures of which it loads the layers that predict further tokens alone.
const LACK_TRUNK: [&str; 5] = ["nemotron_h", "nemotron_h_moe", "qwen35", "qwen35moe", "qwen3next"];

impl Architecture {
    /// The description of an architecture, by the value of `general.architecture`.
    ///
    /// ```
    /// let llama = gguf_model::Architecture::find("llama").unwrap();
    /// assert!(llama.slots().any(|slot| slot.name == "blk.{}.ffn_down"));
    /// assert!(gguf_model::Architecture::find("flux").is_none());
    /// ```
    pub fn find(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|architecture| architecture.name == name).copied()
    }

    /// Whether the layers that predict further tokens may be missing, although the metadata counts
    /// them.
    pub(crate) fn may_lack_further(&self) -> bool {
        LACK_FURTHER.contains(&self.name)
    }

    /// Whether the layers that predict further tokens may be a file of their own.
    pub(crate) fn may_lack_trunk(&self) -> bool {
        self.may_lack_further() || LACK_TRUNK.contains(&self.name)
    }
}

impl Kind {
    /// The kind of a key in the first architecture that has it: a key has values of one type in all
    /// of them, but the bounds may differ. The name is the part below that of the architecture.
    ///
    /// ```
    /// use gguf_model::Kind;
    ///
    /// assert_eq!(Kind::of_key("rope.freq_base"), Some(Kind::Float));
    /// assert_eq!(Kind::of_key("colour"), None);
    /// ```
    pub fn of_key(name: &str) -> Option<Self> {
        let mut keys = ALL.iter().flat_map(|architecture| architecture.keys());
        keys.find(|key| key.name == name).map(|key| key.kind)
    }
}
