//! Importance matrices.

use super::*;

#[test]
fn a_matrix_is_named_where_it_was_used_llama_cpp_5754() {
    let folder = tempdir().unwrap();
    let matrix = fixture("tiny-llama2/imatrix.gguf");
    let matrix = matrix.to_str().unwrap();
    let lossless = folder.path().join("f16.gguf");
    convert(&fixture("tiny-llama2"), &lossless, &["-t", "f16"]);
    let quantized = folder.path().join("q4_k_m.gguf");
    convert(&lossless, &quantized, &[]);
    for (input, options, named) in [
        (&lossless, &["-t", "q4_0"][..], true),
        (&lossless, &["-t", "q8_0"], false),
        (&lossless, &["-t", "q8_0", "--like-reference"], true),
        (&lossless, &["-t", "q8_0", "--tensor-type", "attn_v=q4_k"], true),
        (&lossless, &["-t", "bf16"], false),
        (&lossless, &["-t", "int4_sym"], false),
        (&lossless, &["-t", "int4_sym", "--refine-scales"], true),
        (&lossless, &["-t", "int4_sym", "--ratio", "0.5"], true),
        (&lossless, &["-t", "int4_sym", "--ratio", "0.5", "--sensitivity", "weights"], false),
        (&lossless, &["-t", "q4_0", "--exclude-weights", "blk"], false),
        (&quantized, &["-t", "q4_k_m"], false),
    ] {
        let output = folder.path().join("out.gguf");
        convert(input, &output, &[options, &["--force", "--imatrix", matrix]].concat());
        let metadata = inspected(&output)["metadata"].as_object().unwrap().clone();
        let keys = metadata.keys().filter(|key| key.starts_with("quantize.imatrix.")).count();
        assert_eq!(keys > 0, named, "{options:?}");
    }
    // A copy keeps what its input says; blocks that are made anew do not.
    let with_matrix = folder.path().join("q5_k_m.gguf");
    convert(&lossless, &with_matrix, &["-t", "q5_k_m", "--imatrix", matrix]);
    for (options, named) in [
        (&["-t", "auto"][..], true),
        // Its output.weight is Q6_K in both.
        (&["-t", "q4_0"], true),
        (&["-t", "q8_0"], false),
        (&["-t", "f16"], false),
        (&["-t", "f16", "--like-reference"], true),
    ] {
        let output = folder.path().join("out.gguf");
        convert(&with_matrix, &output, &[options, &["--force", "--allow-requantize"]].concat());
        let metadata = inspected(&output)["metadata"].as_object().unwrap().clone();
        assert_eq!(metadata.contains_key("quantize.imatrix.file"), named, "{options:?}");
    }
}

#[test]
fn the_importance_matrix_is_used_where_asked() {
    let folder = tempdir().unwrap();
    let input = fixture("tiny-llama2");
    let imatrix = input.join("imatrix.gguf").into_os_string().into_string().unwrap();
    let data = |name: &str, options: &[&str]| {
        let output = folder.path().join(name);
        // Only the tensors: the header says how many entries were used.
        let bytes =
            convert(&input, &output, &[&["-t", "q4_k_s", "--threads", "2"], options].concat());
        let tensors = inspected(&output)["tensors"].as_array().unwrap().clone();
        let of = |t: &Value| {
            let at = t["offset"].as_u64().unwrap() as usize;
            (text(&t["name"]), bytes[at..][..t["bytes"].as_u64().unwrap() as usize].to_vec())
        };
        tensors.iter().map(of).collect::<Vec<_>>()
    };
    let differing = |a: &[(String, Vec<u8>)], b: &[(String, Vec<u8>)]| -> BTreeSet<String> {
        let pairs = a.iter().zip(b).filter(|(a, b)| a.1 != b.1);
        pairs.map(|(a, _)| a.0.split('.').rev().nth(1).unwrap().to_owned()).collect()
    };
    let plain = data("plain", &[]);
    let all = data("all", &["--imatrix", &imatrix]);
    // Not those that have no search for the weights to bend, or no entry.
    let changed = differing(&plain, &all);
    for name in ["attn_q", "attn_v", "ffn_down", "ffn_gate"] {
        assert!(changed.contains(name), "{name} of {changed:?}");
    }
    // The matrix has no entry for these two; those that it is not used for are not missing.
    let warned = |options: &[&str]| {
        let mut command = quantwright();
        command.arg("convert").arg(&input).args(["--dry-run", "--imatrix", &imatrix]).args(options);
        stderr(&command.output().unwrap())
    };
    assert_eq!(
        warned(&[]),
        "warning: the importance matrix has no entry for 2 tensors: \
         output.weight, token_embd.weight\n"
    );
    assert_eq!(warned(&["--include-weights", "ffn_"]), "");
    assert_eq!(warned(&["--exclude-weights", "ffn_"]), warned(&[]));
    let run =
        |name: &str, options: &[&str]| data(name, &[&["--imatrix", &imatrix], options].concat());
    let included = run("included", &["--include-weights", "ffn_"]);
    assert_eq!(
        differing(&plain, &included),
        ["ffn_down", "ffn_gate", "ffn_up"].map(Into::into).into()
    );
    let excluded = run("excluded", &["--exclude-weights", "ffn_"]);
    let left: BTreeSet<String> =
        changed.iter().filter(|name| !name.starts_with("ffn_")).cloned().collect();
    assert_eq!(differing(&plain, &excluded), left);
}
