//! A tokenizer of any kind with any vocabulary, on any text.
#![no_main]
use gguf_io::{Metadata, metadata::GgufString};
use gguf_model::tokenizer::{DecodeOptions, EncodeOptions, PRE_TOKENIZERS, Tokenizer};
use libfuzzer_sys::arbitrary::{Result, Unstructured};

const KINDS: &[&str] =
    &["llama", "gpt2", "whitespace", "gemma4", "bert", "t5", "rwkv", "plamo2", "none", "x"];

fn run(u: &mut Unstructured<'_>) -> Result<()> {
    let mut metadata = Metadata::new();
    let mut set = |name: &str, value: gguf_io::Value| {
        metadata.insert(format!("tokenizer.ggml.{name}"), value);
    };
    set("model", (*u.choose(KINDS)?).into());
    set("pre", (*u.choose(PRE_TOKENIZERS)?).into());
    let texts: Vec<Vec<u8>> = u.arbitrary()?;
    let merges: Vec<Vec<u8>> = u.arbitrary()?;
    let text: String = u.arbitrary()?;
    let types: Vec<i32> = (0..texts.len()).map(|_| u.int_in_range(0..=7)).collect::<Result<_>>()?;
    let scores = (0..texts.len()).map(|_| u.arbitrary()).collect::<Result<Vec<f32>>>()?;
    set("tokens", texts.into_iter().map(GgufString::from).collect::<Vec<_>>().into());
    set("merges", merges.into_iter().map(GgufString::from).collect::<Vec<_>>().into());
    set("token_type", types.into());
    set("scores", scores.into());
    if u.arbitrary()? {
        set("precompiled_charsmap", u.arbitrary::<Vec<u8>>()?.into());
    }
    for flag in ["add_bos_token", "add_eos_token", "add_space_prefix", "remove_extra_whitespaces"] {
        set(flag, u.arbitrary::<bool>()?.into());
    }
    set("unknown_token_id", u.arbitrary::<u32>()?.into());
    let Ok(tokenizer) = Tokenizer::from_metadata(&metadata) else { return Ok(()) };
    for parse_special in [false, true] {
        let ids = tokenizer.encode(&text, EncodeOptions { add_special: true, parse_special });
        assert!(ids.iter().all(|&id| (id as usize) < tokenizer.len()));
        tokenizer.decode(&ids, DecodeOptions { show_special: true, remove_special: parse_special });
    }
    tokenizer.piece(u.arbitrary()?, true);
    Ok(())
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let _ = run(&mut Unstructured::new(input));
});
