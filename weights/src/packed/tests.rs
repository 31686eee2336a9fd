//! Any range of any view of a packed layer, against the layer restored as a whole.

use std::path::Path;

use gguf_io::{Checkpoint, Limits, SourceFile};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Window, row::Buffers};
use crate::{CodeBlock, Encoding, Offset, Quantization, Result, Settings, View, Weights};

/// A checkpoint of one layer whose parts hold any bytes, as it is read.
fn layer(settings: Value, parts: &[(&str, &str, &[u64])]) -> Weights {
    let (mut at, mut header) = (0u64, serde_json::Map::new());
    for (name, dtype, shape) in parts {
        let size: u64 = match *dtype {
            "F16" => 2,
            "I64" => 8,
            _ => 4,
        };
        let end = at + size * shape.iter().product::<u64>();
        header.insert(
            format!("m.{name}"),
            json!({"dtype": dtype, "shape": shape, "data_offsets": [at, end]}),
        );
        at = end;
    }
    let header = Value::Object(header).to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend((0..at).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8));
    // The shape of the weight, where there is one, is the last part.
    if parts.last().is_some_and(|(_, dtype, _)| *dtype == "I64") {
        let end = file.len();
        file[end - 16..end - 8].copy_from_slice(&24u64.to_le_bytes());
        file[end - 8..].copy_from_slice(&96u64.to_le_bytes());
    }
    let file = SourceFile::from_bytes("model.safetensors", file);
    let checkpoint = Checkpoint::read(vec![file], &Limits::default()).unwrap();
    let settings = Settings {
        path: Path::new("config.json"),
        quantization_config: Some(&settings),
        quantization: None,
    };
    let read: Result<_> = Quantization::read(&settings, |_| Ok(None));
    Weights::new(checkpoint, read.unwrap()).unwrap()
}

/// One of each layout, all of 24 rows and 96 columns.
fn layers() -> Vec<Weights> {
    let transposed = |bits: u64, words: u64| {
        let settings = json!({"quant_method": "gptq", "bits": bits});
        let zeros = (24 * bits).div_ceil(32);
        let shapes = [[words, 24], [3, 24], [3, zeros]];
        let [codes, scales, zeros] = shapes.each_ref().map(|shape| &shape[..]);
        layer(
            settings,
            &[("qweight", "I32", codes), ("scales", "F16", scales), ("qzeros", "I32", zeros)],
        )
    };
    let awq = [("qweight", "I32", &[96, 3][..]), ("scales", "F16", &[3, 24])];
    let awq = [&awq[..], &[("qzeros", "I32", &[3, 3])]].concat();
    let rows = [("weight_packed", "I32", &[24, 12][..]), ("weight_scale", "F16", &[24, 3])];
    let more = [("weight_zero_point", "I32", &[3, 3][..]), ("weight_shape", "I64", &[2])];
    let compressed = json!({
        "quant_method": "compressed-tensors",
        "config_groups": {"a": {"weights": {"num_bits": 4, "group_size": 32}}},
    });
    let mlx = [("weight", "U32", &[24, 9][..]), ("scales", "F16", &[24, 3])];
    let mlx = [&mlx[..], &[("biases", "F16", &[24, 3])]].concat();
    vec![
        transposed(4, 12),
        transposed(3, 9),
        transposed(8, 24),
        layer(json!({"quant_method": "awq", "bits": 4}), &awq),
        layer(compressed, &[&rows[..], &more].concat()),
        layer(json!({"bits": 3, "group_size": 32}), &mlx),
    ]
}

/// The bits of a value. Which NaN comes of a calculation is left open.
fn bits(value: f32) -> u32 {
    if value.is_nan() { f32::NAN } else { value }.to_bits()
}

proptest! {
    #[test]
    fn any_range_of_any_view_is_that_of_the_restored_whole(
        which in 0usize..6,
        steps in prop::collection::vec((0u8..4, 0usize..3, 0usize..3, 1u64..5), 0..4),
        bounds in (0u64..2400, 0u64..2400),
        len in 0u64..3000,
    ) {
        let weights = &layers()[which];
        let tensor = &weights.checkpoint().tensors["m.weight"];
        let Encoding::Packed(packed) = &weights.encoding("m.weight", tensor).unwrap() else {
            unreachable!("the layer is packed")
        };
        prop_assert_eq!(packed.shape(), [24, 96]);
        let mut view = View::whole(&[24, 96]).unwrap();
        for (step, a, b, n) in steps {
            let next = match step {
                0 => view.clone().swap(a, b),
                1 => view.clone().narrow(a, n - 1, n),
                2 => view.clone().every(a, n, n - 1),
                _ => view.clone().unfold(a, &[n]),
            };
            view = next.unwrap_or(view);
        }
        let files = &weights.checkpoint().files;
        let mut whole = vec![0.0; 24 * 96];
        packed.restore(files, 0, &mut whole, &mut Buffers::default()).unwrap();
        let count = view.count();
        let (a, b) = (bounds.0 % (count + 1), bounds.1 % (count + 1));
        let (start, end) = (a.min(b), a.max(b));
        let expected: Vec<_> = view
            .runs(start..end)
            .flat_map(|run| (0..run.len).map(move |i| run.first + i * run.stride))
            .map(|i| bits(whole[i as usize]))
            .collect();
        let mut found = vec![0.0f32; (end - start) as usize];
        let mut window = Window { len, ..Window::default() };
        window.read(packed, files, &view, start..end, &mut found).unwrap();
        let found: Vec<_> = found.into_iter().map(bits).collect();
        prop_assert_eq!(&found, &expected);
        // Their codes, where whole blocks of them are taken.
        let Some(view) = view.in_units(32) else { return Ok(()) };
        let (first, last) = (start.div_ceil(32), end / 32);
        if first >= last {
            return Ok(());
        }
        let mut blocks = vec![CodeBlock::default(); (last - first) as usize];
        let mut window = Window { len, ..Window::default() };
        window.read(packed, files, &view, first..last, &mut blocks).unwrap();
        let values = blocks.iter().flat_map(|block| {
            block.codes.iter().map(|code| match block.offset {
                Offset::Zero(zero) => (f32::from(*code) - zero) * block.scale,
                Offset::Bias(bias) => f32::from(*code) * block.scale + bias,
            })
        });
        let found: Vec<_> = values.map(bits).collect();
        let skipped = (first * 32 - start) as usize;
        prop_assert_eq!(&found[..], &expected[skipped..skipped + found.len()]);
    }
}
