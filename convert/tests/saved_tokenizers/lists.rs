//! Tokenizers that are lists of tokens: vocab.json with merges.txt, vocab.txt.

use super::*;

/// tokenizer.json as the files that older tokenizers have.
fn as_lists(dir: &Path, class: &str) {
    let tokenizer: Json =
        serde_json::from_slice(&fs::read(dir.join("tokenizer.json")).unwrap()).unwrap();
    fs::remove_file(dir.join("tokenizer.json")).unwrap();
    fs::write(dir.join("vocab.json"), tokenizer["model"]["vocab"].to_string()).unwrap();
    let merges: Vec<String> = tokenizer["model"]["merges"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pair| [&pair[0], &pair[1]].map(|part| part.as_str().unwrap()).join(" "))
        .collect();
    fs::write(dir.join("merges.txt"), format!("#version: 0.2\n{}\n", merges.join("\n"))).unwrap();
    let vocabulary = &tokenizer["model"]["vocab"];
    let added: Json = tokenizer["added_tokens"]
        .as_array()
        .unwrap()
        .iter()
        .map(|token| (token["content"].as_str().unwrap().to_owned(), token["id"].clone()))
        .filter(|(token, _)| vocabulary.get(token).is_none())
        .collect::<serde_json::Map<_, _>>()
        .into();
    fs::write(dir.join("added_tokens.json"), added.to_string()).unwrap();
    edit(dir, "tokenizer_config.json", |config| config["tokenizer_class"] = class.into());
}

#[test]
fn vocab_json_with_merges_txt_is_a_tokenizer() {
    for (name, class, pre) in [
        ("tiny-qwen2", "Qwen2Tokenizer", "qwen2"),
        ("tiny-qwen2", "Qwen2TokenizerFast", "qwen2"),
        ("tiny-phi2", "GPT2Tokenizer", "gpt-2"),
        ("tiny-phi2", "CodeGenTokenizer", "gpt-2"),
    ] {
        let dir = copy(name);
        let whole = read(dir.path(), &DECODER).unwrap();
        as_lists(dir.path(), class);
        let listed = read(dir.path(), &DECODER).unwrap();
        assert_eq!(listed.get_str("tokenizer.ggml.pre"), Some(pre));
        for key in ["model", "tokens", "token_type", "merges", "bos_token_id", "eos_token_id"] {
            let key = format!("tokenizer.ggml.{key}");
            assert_eq!(listed.get(&key), whole.get(&key), "{class} {key}");
        }
        // A class whose way of splitting is not known has to be told it.
        edit(dir.path(), "tokenizer_config.json", |config| {
            config["tokenizer_class"] = "Own".into()
        });
        assert!(refusal(dir.path(), &DECODER).contains("only vocab.json"));
        let told = read(dir.path(), &Options { pre_tokenizer: Some(pre), ..DECODER }).unwrap();
        assert_eq!(told, listed);
        // The model's type says it where the tokenizer's class does not.
        edit(dir.path(), "tokenizer_config.json", |config| config["tokenizer_class"] = Json::Null);
        let kind = if pre == "qwen2" { "qwen3_moe" } else { "gpt2" };
        edit(dir.path(), "config.json", |config| config["model_type"] = kind.into());
        assert_eq!(read(dir.path(), &DECODER).unwrap(), listed);
    }
}

/// As `vocab.txt`, the list that BERT's class makes of its tokenizer.
fn as_words(dir: &Path) -> String {
    let path = dir.join("tokenizer.json");
    let tokenizer: Json = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    fs::remove_file(path).unwrap();
    let mut words: Vec<(&String, u64)> = tokenizer["model"]["vocab"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(word, id)| (word, id.as_u64().unwrap()))
        .collect();
    words.sort_by_key(|(_, id)| *id);
    words.into_iter().map(|(word, _)| format!("{word}\n")).collect()
}

#[test]
fn lists_of_tokens_may_have_been_edited_but_are_lists() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n";
    let page = "<!DOCTYPE html>\n<html></html>\n";
    let pairs = copy("tiny-qwen2");
    as_lists(pairs.path(), "Qwen2Tokenizer");
    let merges = fs::read_to_string(pairs.path().join("merges.txt")).unwrap();
    let words = copy("tokenizers/bert");
    let list = as_words(words.path());
    for (dir, name, text, options) in
        [(&pairs, "merges.txt", merges, DECODER), (&words, "vocab.txt", list, ENCODER)]
    {
        let path = dir.path().join(name);
        fs::write(&path, &text).unwrap();
        let expected = read(dir.path(), &options).unwrap();
        for edited in [format!("\u{feff}{text}"), text.replace('\n', "\r\n")] {
            fs::write(&path, edited).unwrap();
            assert_eq!(read(dir.path(), &options).unwrap(), expected, "{name}");
        }
        for (other, what) in [(pointer, "Git-LFS"), (page, "a web page")] {
            fs::write(&path, other).unwrap();
            let message = refusal(dir.path(), &options);
            assert!(message.contains(what) && message.contains(name), "{message}");
        }
    }
}

#[test]
fn a_list_is_no_tokenizer() {
    let dir = copy("tiny-llama3");
    read(dir.path(), &DECODER).unwrap();
    fs::write(dir.path().join("tokenizer.json"), " [[], null, null, null, null, {}]").unwrap();
    let message = refusal(dir.path(), &DECODER);
    assert!(message.contains("found a list, expected an object"), "{message}");
}

#[test]
fn merges_that_are_cut_short_are_told() {
    let dir = copy("tiny-qwen2");
    as_lists(dir.path(), "Qwen2Tokenizer");
    let path = dir.path().join("merges.txt");
    let whole = fs::read_to_string(&path).unwrap();
    let told = |text: &str| {
        fs::write(&path, text).unwrap();
        warnings(|| read(dir.path(), &DECODER).unwrap()).1
    };
    assert_eq!(told(&whole), "");
    assert_eq!(told(whole.trim_end()), "");
    // In the middle, and within the last line.
    let half = whole.lines().take(300).collect::<Vec<_>>().join("\n");
    let text = told(&half);
    assert!(text.contains("its 299 merges do not make 4"), "{text}");
    // Its last line is "Ġo ver" then.
    let (end, _) = whole.trim_end().rsplit_once('\n').unwrap();
    let text = told(&end[..end.len() - 1]);
    assert!(text.contains("which is no token of the vocabulary"), "{text}");
}
