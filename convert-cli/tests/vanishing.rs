//! Weights that would become zero or infinite, importance that is not what it should be, layers
//! that are left out, and metadata in types that no loader takes.
#![allow(clippy::unwrap_used, reason = "a test that cannot prepare its data has failed")]

mod common;
#[path = "vanishing/edited.rs"]
mod edited;

use std::{fs, path::Path};

use common::{Safetensors, convert, copy_checkpoint, fixture, refused, run, stderr, try_convert};
use edited::{Edited, Folder, UP, data, write};
use gguf_io::{
    GgufFile, Imatrix, Layout, Limits, TensorSpec,
    metadata::{Array, Metadata, Value},
};
use quant_core::GgmlType;
use tempfile::{TempDir, tempdir};

/// Importance of zero erases an expert, as it does in llama.cpp, but not in silence.
#[test]
fn what_zero_importance_erases_is_named_llama_cpp_8661() {
    const DOWN: &str = "blk.0.ffn_down_exps.weight";
    let folder = Folder::new();
    let input = fixture("tiny-mixtral");
    let options = |matrix: &Path| {
        ["-t", "q6_k", "--pure", "--imatrix", matrix.to_str().unwrap()].map(str::to_owned)
    };
    let warned = |change: &dyn Fn(&mut Vec<f32>), more: &[&str]| {
        let options = options(&folder.matrix("tiny-mixtral", DOWN, change));
        let options = options.iter().map(String::as_str).chain(more.iter().copied());
        let text = folder.warnings(&input, &options.collect::<Vec<_>>());
        let lines = text.lines().filter(|line| line.contains("importance of"));
        (lines.map(str::to_owned).collect::<Vec<_>>(), data(&folder.path("out.gguf"), DOWN))
    };
    let expert = |n: usize, of: &mut Vec<f32>| {
        let len = of.len() / 4;
        of[n * len..(n + 1) * len].fill(0.0);
    };
    let (none, sound) = warned(&|_| {}, &[]);
    assert!(none.is_empty(), "a sound matrix: {none:?}");

    let (one, erased) = warned(&|v| expert(1, v), &[]);
    assert_eq!(one.len(), 1, "{one:?}");
    for part in [&format!("expert 1 of {DOWN:?} is zero: 25 % of"), "Q6_K", "--imatrix-prior"] {
        assert!(one[0].contains(part), "{one:?}");
    }
    // The other experts keep the bytes that they have with a sound matrix.
    let quarter = sound.len() / 4;
    assert_eq!(erased[..quarter], sound[..quarter]);
    assert_eq!(erased[2 * quarter..], sound[2 * quarter..]);
    let scales = erased[quarter..2 * quarter].chunks(210).map(|block| &block[208..]);
    assert!(scales.clone().all(|scale| scale == [0, 0]));

    let (two, _) = warned(&|v| [0, 3].into_iter().for_each(|n| expert(n, v)), &[]);
    assert!(two[0].contains("experts 0, 3 of") && two[0].contains("50 %"), "{two:?}");
    let (all, _) = warned(&|v| v.fill(0.0), &[]);
    assert!(all[0].contains(&format!("{DOWN:?} is zero: 100 %")), "{all:?}");
    // Sixteen weights share a scale: they are lost though others of their block are not.
    let (some, _) = warned(&|v| v[..40].fill(0.0), &[]);
    assert!(some[0].contains("zero in 32 of"), "{some:?}");
    let (few, _) = warned(&|v| v[..15].fill(0.0), &[]);
    assert!(few.is_empty(), "{few:?}");

    // A dry run knows it too; a type without a search for the scale loses nothing.
    let (dry, _) = warned(&|v| expert(1, v), &["--dry-run"]);
    assert_eq!(dry, one);
    let matrix = folder.matrix("tiny-mixtral", DOWN, |v| v.fill(0.0));
    let matrix = matrix.to_str().unwrap();
    let text = folder.warnings(&input, &["-t", "q8_0", "--imatrix", matrix]);
    assert!(!text.contains("zero"), "{text}");

    // With a prior nothing is zero, and an expert of equal importance is quantized.
    let (prior, kept) = warned(&|v| expert(1, v), &["--imatrix-prior", "1e-3"]);
    assert!(prior.is_empty(), "{prior:?}");
    assert!(kept[quarter..2 * quarter].chunks(210).all(|block| block[208..] != [0, 0]));
    let (_, zero) = warned(&|v| expert(1, v), &["--imatrix-prior", "0"]);
    assert_eq!(zero, erased);
}

#[test]
fn the_prior_is_a_finite_number_for_a_matrix() {
    let folder = Folder::new();
    let (input, matrix) = (fixture("tiny-llama2"), fixture("tiny-llama2/imatrix.gguf"));
    let matrix = matrix.to_str().unwrap();
    for (options, code) in [
        (vec!["--imatrix-prior", "1"], 2),
        (vec!["--imatrix", matrix, "--imatrix-prior", "-1"], 2),
        (vec!["--imatrix", matrix, "--imatrix-prior", "nan"], 2),
        (vec!["--imatrix", matrix, "--imatrix-prior", "inf"], 2),
        (vec!["--imatrix", matrix, "--imatrix-prior", "3e38"], 2),
        (vec!["--imatrix", matrix, "--imatrix-prior", "0.5"], 0),
    ] {
        let output = folder.path("out.gguf");
        let done = try_convert(&input, &output, &[&["--no-sync"][..], &options].concat());
        assert_eq!(done.status.code(), Some(code), "{options:?}: {}", stderr(&done));
        assert_eq!(output.exists(), code == 0, "{options:?}");
    }
}

/// What is wrong with an entry matters only where the entry is used.
#[test]
fn entries_that_are_not_used_do_not_matter_llama_cpp_7816() {
    let folder = Folder::new();
    let input = fixture("tiny-llama2");
    type Change = fn(&mut Vec<f32>);
    let faults: [(Change, &str); 4] = [
        (|v| v[3] = f32::NAN, "NaN as value 3"),
        (|v| v[3] = -1.0, "-1 as value 3"),
        (|v| v[3] = 3e38, "3e38 as value 3"),
        (|v| v.truncate(7), "has 7 values"),
    ];
    for (fault, says) in faults {
        let matrix = folder.matrix("tiny-llama2", UP, fault);
        let matrix = matrix.to_str().unwrap();
        folder.refused(&input, &["--imatrix", matrix], &["i.dat", UP, says]);
        for unused in [
            &["--exclude-weights", "blk.1.ffn_up"][..],
            &["--include-weights", "attn_q"],
            // Has no search that importance would bend.
            &["--tensor-type", "blk.1.ffn_up=q8_0"],
            &["--tensor-type", "blk.1.ffn_up=f16"],
        ] {
            folder.warnings(&input, &[unused, &["-t", "q4_k_m", "--imatrix", matrix]].concat());
        }
        folder.warnings(&input, &["-t", "q8_0", "--imatrix", matrix]);
        folder.warnings(&input, &["-t", "f16", "--imatrix", matrix]);
    }
}

/// A matrix in a GGUF file says how many matrices its values are for.
#[test]
fn entries_for_another_number_of_experts_are_refused() {
    let folder = Folder::new();
    let path = folder.path("i.gguf");
    let options = ["-t", "q4_k_m", "--imatrix", path.to_str().unwrap()];
    for (name, matrices, columns, fits) in [
        ("blk.0.ffn_gate_exps.weight", 4, 256, true),
        ("blk.0.ffn_gate_exps.weight", 8, 128, false),
        ("blk.0.ffn_gate_exps.weight", 2, 256, false),
        ("blk.0.attn_q.weight", 1, 256, true),
        ("blk.0.attn_q.weight", 2, 128, false),
    ] {
        let mut metadata = Metadata::new();
        metadata.insert("general.type", "imatrix");
        metadata.insert("imatrix.datasets", Value::Array(Array::String(vec!["x".into()])));
        metadata.insert("imatrix.chunk_count", 1u32);
        metadata.insert("imatrix.chunk_size", 512u32);
        let sums = vec![1.0; (matrices * columns) as usize];
        // The last expert was never used: it has ones.
        let counts: Vec<f32> = (0..matrices).map(|i| f32::from(i + 1 < matrices)).collect();
        write(
            &path,
            &metadata,
            &[
                Edited::new(&format!("{name}.in_sum2"), &[columns, matrices], &sums),
                Edited::new(&format!("{name}.counts"), &[1, matrices], &counts),
            ],
        );
        let input = fixture("tiny-mixtral");
        if fits {
            let text = folder.warnings(&input, &options);
            assert!(!text.contains("zero"), "{text}");
        } else {
            let found = format!("in {matrices} matrices");
            folder.refused(&input, &options, &["i.gguf", name, &found]);
        }
    }
}

#[test]
fn entries_without_a_tensor_are_mentioned_once() {
    let folder = Folder::new();
    let stray = |rename: &dyn Fn(&str) -> String| {
        let path = fixture("tiny-llama2/imatrix.gguf");
        let entries = Imatrix::open(&path, &Limits::default()).unwrap().entries;
        let mut bytes = (entries.len() as i32).to_le_bytes().to_vec();
        for (name, entry) in entries {
            let name = rename(&name);
            bytes.extend((name.len() as i32).to_le_bytes());
            bytes.extend(name.as_bytes());
            bytes.extend(1i32.to_le_bytes());
            bytes.extend((entry.values.len() as i32).to_le_bytes());
            bytes.extend(entry.values.iter().flat_map(|v| v.to_le_bytes()));
        }
        fs::write(folder.path("i.dat"), bytes).unwrap();
        let matrix = folder.path("i.dat");
        let options = ["-t", "q4_k_m", "--dry-run", "--imatrix", matrix.to_str().unwrap()];
        let text = folder.warnings(&fixture("tiny-llama2"), &options);
        let lines = text.lines().filter(|line| line.contains("i.dat"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(stray(&str::to_owned).is_empty());
    let one = stray(&|name| name.replace("blk.1.ffn_up", "blk.7.ffn_up"));
    assert!(one.len() == 1 && one[0].contains("1 entry is for a tensor"), "{one:?}");
    assert!(one[0].contains("blk.7.ffn_up.weight"), "{one:?}");
    let all = stray(&|name| name.replace("blk", "layers"));
    assert!(all.len() == 1 && all[0].contains("made for another model"), "{all:?}");
}

/// What does not fit a type is refused with its place, whatever the type.
#[test]
fn blocks_that_are_not_finite_are_refused_with_their_place() {
    let folder = Folder::new();
    let large = |value: f32| folder.weights(move |i, v| if i == 70_000 { value } else { v });
    let input = large(3.4e38);
    for ty in ["bf16", "f16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1"] {
        let says = [UP, "3.4e38 at index 70000", &ty.to_uppercase()];
        folder.refused(&input, &["-t", ty], &says);
    }
    for ty in ["q2_k", "q3_k", "q4_k", "q5_k", "q6_k"] {
        let says = [UP, "3.4e38 at index 70000", &ty.to_uppercase()];
        folder.refused(&input, &["-t", ty, "--pure"], &says);
    }
    folder.warnings(&input, &["-t", "f32"]);
    // What is left of the largest number in BF16 is finite.
    folder.warnings(&large(3.38e38), &["-t", "bf16"]);
    folder.warnings(&large(65519.0), &["-t", "f16"]);
    folder.refused(&large(65520.0), &["-t", "f16"], &[UP, "6.552e4 at index 70000", "F16"]);
    // The scale of Q8_0 reaches to 127 times the largest number of half precision.
    folder.warnings(&large(8.3e6), &["-t", "q8_0"]);
    folder.refused(&large(-8.4e6), &["-t", "q8_0"], &[UP, "8.4e6 at index 70000", "Q8_0"]);
    // Grouped integers, in a GGUF file and in a folder.
    let grouped = ["-t", "int8_sym", "--group-size", "32"];
    folder.refused(&large(8.5e6), &grouped, &[UP, "8.5e6 at index 70000"]);
}

/// Weights that sums with their importance do not hold.
#[test]
fn importance_that_overflows_is_refused() {
    let folder = Folder::new();
    let matrix = |value: f32| folder.matrix("tiny-llama2", UP, |v| v[7] = value);
    let input = fixture("tiny-llama2");
    for ty in ["q6_k", "q3_k", "q4_k", "q2_k", "q4_0", "q5_1"] {
        let options = |path: &Path| {
            ["-t", ty, "--pure", "--imatrix", path.to_str().unwrap()].map(str::to_owned)
        };
        let bad = options(&matrix(3e38));
        folder.refused(&input, &bad.each_ref().map(String::as_str), &[UP, "3e38 as value 7"]);
        let good = options(&matrix(1e30));
        folder.warnings(&input, &good.each_ref().map(String::as_str));
    }
    let path = matrix(1e30);
    let options = ["-t", "q6_k", "--imatrix", path.to_str().unwrap()];
    let large = folder.weights(|i, v| if i == 70_000 { 1e4 } else { v });
    folder.refused(&large, &options, &[UP, "1e4 at index 70000", "importance of 1e30"]);
}

/// Weights too small for their scale vanish, which is said.
#[test]
fn blocks_that_lose_all_their_weights_are_warned_of() {
    let folder = Folder::new();
    // Two blocks of 256, and one of zeros.
    let input = folder.weights(|i, v| match i / 256 {
        300 | 500 => {
            if i % 2 == 0 {
                1e-6
            } else {
                -1e-6
            }
        }
        400 => 0.0,
        _ => v,
    });
    for (ty, blocks) in [("q8_0", 16), ("q4_0", 0), ("q6_k", 2), ("q3_k", 2), ("q5_k", 2)] {
        let text = folder.warnings(&input, &["-t", ty, "--pure"]);
        let line = text.lines().find(|line| line.contains("became zero"));
        if blocks == 0 {
            assert_eq!(line, None, "{ty}");
            continue;
        }
        let line = line.unwrap_or_else(|| panic!("{ty}: {text}"));
        for part in [UP, &format!("{blocks} blocks"), "first at index 76800", "1e-6"] {
            assert!(line.contains(part), "{ty}: {line}");
        }
    }
    // Values without a block that shares them: a whole tensor of them.
    let input = folder.weights(|_, _| 1e-9);
    let text = folder.warnings(&input, &["-t", "f16"]);
    assert!(text.contains(UP) && text.contains("100 %") && text.contains("F16"), "{text}");
    assert_eq!(folder.warnings(&input, &["-t", "bf16"]), "");
    let text = folder.warnings(&input, &["-t", "int8_sym", "--group-size", "32"]);
    assert!(text.contains(UP) && text.contains("groups"), "{text}");
    // A row of a folder of grouped integers.
    let checkpoint = copy_checkpoint("tiny-llama3", folder.0.path());
    let mut file = Safetensors::open(&checkpoint.join("model.safetensors"));
    const PROJECTION: &str = "model.layers.1.mlp.up_proj.weight";
    let tiny = (1e-9f32.to_bits() >> 16) as u16;
    (3 * 256..4 * 256).for_each(|i| file.set(PROJECTION, i, tiny));
    file.save();
    let out = folder.path("grouped");
    let done = try_convert(&checkpoint, &out, &["-t", "int8_sym", "--no-sync"]);
    let line = stderr(&done);
    for part in [PROJECTION, "1 group", "index 768", "int8_sym"] {
        assert!(done.status.success() && line.contains(part), "{part}: {line}");
    }
    // Nothing of a sound model.
    assert_eq!(folder.warnings(&fixture("tiny-llama2"), &["-t", "q8_0"]), "");
}

#[test]
fn a_pruned_model_with_arrays_is_sound_llama_cpp_27976() {
    let folder = Folder::new();
    let input = folder.llama(|metadata, _| {
        metadata.insert("llama.attention.head_count_kv", vec![2u32, 2]);
        metadata.insert("llama.feed_forward_length", vec![768u32, 768]);
    });
    let output = folder.path("pruned.gguf");
    convert(&input, &output, &["-t", "auto", "--prune-layers", "0"]);
    let file = GgufFile::open(&output, &Limits::default()).unwrap();
    let key = |key: &str| file.metadata.get(key).cloned();
    assert_eq!(key("llama.attention.head_count_kv"), Some(vec![2u32].into()));
    assert_eq!(key("llama.feed_forward_length"), Some(vec![768u32].into()));
    assert_eq!(key("llama.block_count"), Some(1u32.into()));
    let done = run([Path::new("verify"), &output]);
    assert!(done.status.success(), "{}", stderr(&done));
}

/// A matrix names the layers as they are in the model that it was measured on.
#[test]
fn importance_follows_the_numbers_before_pruning() {
    let folder = Folder::new();
    let (input, matrix) = (fixture("tiny-llama2"), fixture("tiny-llama2/imatrix.gguf"));
    let options = ["-t", "q4_k_s", "--imatrix", matrix.to_str().unwrap()];
    let (whole, pruned) = (folder.path("whole.gguf"), folder.path("pruned.gguf"));
    convert(&input, &whole, &options);
    convert(&input, &pruned, &[&options[..], &["--prune-layers", "0"]].concat());
    for name in ["attn_q", "attn_output", "ffn_gate"] {
        let of = |path: &Path, layer: u32| data(path, &format!("blk.{layer}.{name}.weight"));
        assert_eq!(of(&pruned, 0), of(&whole, 1), "{name}");
        assert_ne!(of(&pruned, 0), of(&whole, 0), "{name}");
    }
}

/// Sums of importance that small are zero in single precision: it is not the weights that are.
#[test]
fn weights_that_importance_makes_zero_are_not_called_small() {
    let folder = Folder::new();
    let matrix = folder.matrix("tiny-llama2", UP, |values| values.fill(1e-44));
    let options = ["-t", "q4_0", "--imatrix", matrix.to_str().unwrap()];
    let text = folder.warnings(&fixture("tiny-llama2"), &options);
    let line = text.lines().find(|line| line.contains("became zero")).unwrap();
    assert!(line.contains(UP) && line.contains("--imatrix-prior"), "{line}");
    assert!(!line.contains("BF16"), "{line}");
    let options = [&options[..], &["--imatrix-prior", "1e-6"]].concat();
    let text = folder.warnings(&fixture("tiny-llama2"), &options);
    assert!(!text.contains("became zero"), "{text}");
}

/// What no loader takes is refused where the tokenizer is of no use, and warned of else.
#[test]
fn outputs_that_do_not_load_are_not_written_in_silence_candle_2215() {
    let folder = Folder::new();
    let tokens = |metadata: &Metadata| match metadata.get("tokenizer.ggml.tokens") {
        Some(Value::Array(array)) => array.len(),
        other => panic!("{other:?}"),
    };
    let key = |key: &str, value: Value| folder.llama(|metadata, _| _ = metadata.insert(key, value));
    let refused: [(&str, Value); 5] = [
        ("tokenizer.ggml.scores", vec![0f32; 1000].into()),
        ("tokenizer.ggml.scores", vec![f32::NAN; 1024].into()),
        ("tokenizer.ggml.token_type", vec![1i32; 1023].into()),
        ("tokenizer.ggml.eos_token_id", vec![1u32, 2].into()),
        ("tokenizer.ggml.pre", vec![1u32].into()),
    ];
    for (name, value) in refused {
        folder.refused(&key(name, value), &["-t", "q8_0"], &["in.gguf", name, "expected"]);
    }
    let warned: [(&str, Value); 5] = [
        ("tokenizer.ggml.eos_token_id", 4000u32.into()),
        ("tokenizer.ggml.model", 1u32.into()),
        ("general.name", 1u32.into()),
        ("llama.rope.scaling.type", 1u32.into()),
        ("llama.attention.head_count", 7u32.into()),
    ];
    for (name, value) in warned {
        let text = folder.warnings(&key(name, value), &["-t", "q8_0"]);
        let starts = "warning: loaders are likely to refuse the output: ";
        assert!(text.starts_with(starts) && text.lines().count() == 1, "{name}: {text}");
        assert!(text.contains(name.rsplit('.').next().unwrap()), "{name}: {text}");
    }
    let input = folder.llama(|_, tensors| tensors.retain(|tensor| tensor.spec.name != UP));
    let text = folder.warnings(&input, &["-t", "q8_0"]);
    assert!(text.contains(UP) && text.lines().count() == 1, "{text}");
    // More elements than tokens do no harm, nor does a sound file.
    let input = folder.llama(|metadata, _| {
        let count = tokens(metadata) + 1;
        metadata.insert("tokenizer.ggml.token_type", vec![1i32; count]);
    });
    assert_eq!(folder.warnings(&input, &["-t", "q8_0"]), "");
    let sound = fixture("tiny-llama2");
    assert_eq!(folder.warnings(&sound, &["-t", "q8_0"]), "");
    // A file without the keys of a model is none that a loader is to take.
    let input = folder.llama(|metadata, tensors| {
        metadata.remove("llama.context_length");
        tensors.retain(|tensor| tensor.spec.name != UP);
    });
    assert_eq!(folder.warnings(&input, &["-t", "q8_0"]), "");
    // An option may be what breaks it.
    let options = ["-t", "q8_0", "--override-kv", "llama.block_count=int:5"];
    let by_option =
        folder.warnings(&sound, &["-t", "q8_0", "--override-kv", "tokenizer.ggml.pre=bool:true"]);
    assert!(by_option.contains("tokenizer.ggml.pre"), "{by_option}");
    let text = folder.warnings(&sound, &options);
    assert!(text.contains("layer 2 of 5") && text.lines().count() == 1, "{text}");
    for (name, says) in [("foo", "for the llama model"), ("qwen2", "qwen2.block_count")] {
        let setting = format!("general.architecture=str:{name}");
        for input in [&sound, &folder.llama(|_, _| {})] {
            let text = folder.warnings(input, &["-t", "q8_0", "--override-kv", &setting]);
            assert!(text.contains(says) && text.lines().count() == 1, "{name}: {text}");
        }
    }
}

/// Lists and numbers of a type that llama.cpp refuses are written in the one that it takes.
#[test]
fn metadata_is_mended_for_loaders_candle_2215() {
    let folder = Folder::new();
    let mut as_it_was = None;
    let input = folder.llama(|metadata, _| {
        as_it_was = Some(metadata.clone());
        let ints = |key: &str| match metadata.get(key) {
            Some(Value::Array(Array::Int32(v))) => v.iter().map(|n| *n as u32).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        };
        let types = ints("tokenizer.ggml.token_type");
        let scores: Vec<f64> = match metadata.get("tokenizer.ggml.scores") {
            Some(Value::Array(Array::Float32(v))) => v.iter().map(|v| f64::from(*v)).collect(),
            other => panic!("{other:?}"),
        };
        metadata.insert("tokenizer.ggml.token_type", types);
        metadata.insert("tokenizer.ggml.scores", scores);
        metadata.insert("tokenizer.ggml.eos_token_id", 2i64);
        metadata.insert("llama.context_length", 2048u64);
    });
    let context = as_it_was.as_ref().unwrap().get_u64("llama.context_length");
    let done = run([Path::new("verify"), &input]);
    assert_eq!(done.status.code(), Some(1));
    let text = folder.warnings(&input, &["-t", "q8_0"]);
    for part in ["token_type", "scores", "eos_token_id", "context_length", "UINT64 2048"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(text.lines().count(), 4, "{text}");
    let output = folder.path("out.gguf");
    let done = run([Path::new("verify"), &output]);
    assert!(done.status.success(), "{}", stderr(&done));
    let made = GgufFile::open(&output, &Limits::default()).unwrap().metadata;
    let before = as_it_was.unwrap();
    for key in ["tokenizer.ggml.token_type", "tokenizer.ggml.scores", "tokenizer.ggml.eos_token_id"]
    {
        assert_eq!(made.get(key), before.get(key), "{key}");
    }
    assert_eq!(context, Some(2048));
    assert_eq!(made.get("llama.context_length"), Some(&Value::Uint32(2048)));
    // What has no such value is refused by its key.
    let input = folder.llama(|metadata, _| {
        metadata.insert("tokenizer.ggml.token_type", vec![u32::MAX; 1024]);
    });
    folder.refused(&input, &["-t", "q8_0"], &["in.gguf", "token_type", "UINT32", "INT32"]);
}
