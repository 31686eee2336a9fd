//! Properties of the recipes on arbitrary input, and what the errors say.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use proptest::prelude::*;
use quant_convert::recipe::{
    self, Assignment, Error, FileType, ModelFacts, Pruning, Request, TensorFacts,
};
use quant_core::GgmlType;

fn llama(layers: u32) -> ModelFacts {
    ModelFacts { arch: "llama".into(), layers, heads: 8, kv_heads: 8, ..ModelFacts::default() }
}

fn assign(
    facts: &ModelFacts,
    tensors: &[(&str, &[u64])],
    request: &Request,
) -> Result<Vec<Assignment>, Error> {
    let tensors: Vec<_> = tensors
        .iter()
        .map(|&(name, shape)| TensorFacts { name, shape, ty: GgmlType::F32 })
        .collect();
    recipe::assign(facts, &tensors, request, false)
}

#[test]
fn a_fallback_is_reported_and_strict_lists_them_all() {
    let tensors: [(&str, &[u64]); 4] = [
        ("output.weight", &[256, 4]),
        ("blk.0.attn_k.weight", &[288, 4]),
        ("blk.0.attn_norm.weight", &[100]),
        ("blk.0.attn_q.weight", &[100, 4]),
    ];
    let mut request = Request::new(FileType::Q4_K_M);
    let got = assign(&llama(1), &tensors, &request).unwrap();
    let got: Vec<_> = got.iter().map(|a| (a.ty, a.wanted)).collect();
    assert_eq!(
        got,
        [
            (GgmlType::Q6_K, None),
            (GgmlType::Q5_0, Some(GgmlType::Q4_K)),
            (GgmlType::F32, None),
            (GgmlType::F16, Some(GgmlType::Q4_K)),
        ]
    );

    request.strict = true;
    let error = assign(&llama(1), &tensors, &request).unwrap_err();
    assert_eq!(
        error.to_string(),
        "2 tensors cannot have the type asked for: \
         \"blk.0.attn_k.weight\" has rows of 288 values, Q4_K needs a multiple of 256 and `strict` forbids Q5_0; \
         \"blk.0.attn_q.weight\" has rows of 100 values, Q4_K needs a multiple of 256 and `strict` forbids F16; \
         choose a type with smaller blocks for them"
    );
}

#[test]
fn a_type_named_outright_does_not_fall_back() {
    let tensors: [(&str, &[u64]); 2] =
        [("output.weight", &[288, 4]), ("token_embd.weight", &[288, 4])];
    let request = Request {
        output_tensor_type: Some(GgmlType::Q6_K),
        token_embedding_type: Some(GgmlType::Q8_0),
        ..Request::new(FileType::Q4_K_M)
    };
    let error = assign(&llama(1), &tensors, &request).unwrap_err().to_string();
    assert!(
        error.contains("\"output.weight\" has rows of 288 values, Q6_K needs a multiple of 256 and `output_tensor_type` leaves no choice"),
        "{error}"
    );
    assert!(!error.contains("token_embd"), "{error}");
}

#[test]
fn a_tied_embedding_takes_the_type_of_the_output() {
    let tied: [(&str, &[u64]); 1] = [("token_embd.weight", &[288, 4])];
    let request =
        Request { output_tensor_type: Some(GgmlType::Q6_K), ..Request::new(FileType::Q4_K_M) };
    let got = assign(&llama(1), &tied, &request).unwrap();
    assert_eq!(got[0].ty, GgmlType::Q8_0);
    assert_eq!(got[0].wanted, Some(GgmlType::Q6_K));
}

#[test]
fn options_that_name_a_tensor_work_without_a_mix() {
    let tensors: [(&str, &[u64]); 4] = [
        ("output.weight", &[256, 4]),
        ("token_embd.weight", &[256, 4]),
        ("blk.0.attn_k.weight", &[256, 4]),
        ("blk.0.attn_v.weight", &[256, 4]),
    ];
    let options = |file_type| Request {
        file_type,
        overrides: recipe::parse_tensor_types("attn_v=q8_0,attn_norm=q4_0", "types").unwrap(),
        output_tensor_type: Some(GgmlType::Q6_K),
        token_embedding_type: Some(GgmlType::Q4_K),
        ..Request::default()
    };
    for (file_type, rest) in [(None, GgmlType::F32), (Some(FileType::F16), GgmlType::F16)] {
        let got = assign(&llama(1), &tensors, &options(file_type)).unwrap();
        let types: Vec<_> = got.iter().map(|a| (a.ty, a.asked)).collect();
        let expected =
            [(GgmlType::Q6_K, true), (GgmlType::Q4_K, true), (rest, false), (GgmlType::Q8_0, true)];
        assert_eq!(types, expected, "{file_type:?}");
    }
}

#[test]
fn without_a_recipe_everything_keeps_its_type() {
    let tensor =
        TensorFacts { name: "blk.0.attn_q.weight", shape: &[256, 4], ty: GgmlType::IQ2_XS };
    let got = recipe::assign(&llama(1), &[tensor], &Request::default(), false).unwrap();
    assert_eq!(got[0].ty, GgmlType::IQ2_XS);
    assert!(!got[0].quantizable && !got[0].requires_imatrix);
}

#[test]
fn very_low_types_need_an_imatrix_most_of_them_not_at_the_ends() {
    let tensors: [(&str, &[u64]); 3] = [
        ("output.weight", &[256, 4]),
        ("token_embd.weight", &[256, 4]),
        ("blk.0.attn_q.weight", &[256, 4]),
    ];
    let needs = |file_type| -> Vec<bool> {
        let pure = Request { pure: true, ..Request::new(file_type) };
        let got = assign(&llama(1), &tensors, &pure).unwrap();
        got.iter().map(|a| a.requires_imatrix).collect()
    };
    for file_type in [FileType::IQ1_M, FileType::IQ2_M, FileType::IQ3_XXS, FileType::Q2_K_S] {
        assert_eq!(needs(file_type), [false, false, true], "{file_type}");
    }
    // llama-quantize aborts in the middle of its work where these lack weights.
    for file_type in [FileType::IQ1_S, FileType::IQ2_XXS, FileType::IQ2_XS, FileType::IQ2_S] {
        assert_eq!(needs(file_type), [true; 3], "{file_type}");
    }
    for file_type in [FileType::Q2_K, FileType::IQ3_S, FileType::IQ4_XS, FileType::F16] {
        assert_eq!(needs(file_type), [false; 3], "{file_type}");
    }
}

#[test]
fn experts_need_a_layer_in_the_name() {
    let moe = ModelFacts { experts: 4, ..llama(2) };
    for name in ["mtp.ffn_down.weight", "blk.2.ffn_down.weight", "blk.-1.ffn_up.weight"] {
        let tensors: [(&str, &[u64]); 1] = [(name, &[256, 4])];
        let error = assign(&moe, &tensors, &Request::new(FileType::Q4_K_M)).unwrap_err();
        assert!(matches!(error, Error::NoLayer { layers: 2, .. }), "{error}");
        assert!(assign(&llama(2), &tensors, &Request::new(FileType::Q4_K_M)).is_ok());
    }
}

fn name() -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec![
        "blk.",
        "0",
        "7",
        ".",
        "-",
        "99999999999",
        "attn_q",
        "attn_k",
        "attn_v",
        "attn_qkv",
        "attn_output",
        "ffn_up",
        "ffn_gate",
        "ffn_down",
        "_exps",
        ".weight",
        ".bias",
        "token_embd",
        "output",
        "_norm",
        "é",
        "\n",
    ]);
    prop_oneof![
        prop::collection::vec(part, 0..6).prop_map(|parts| parts.concat()),
        (0u32..40, "attn_(q|k|v|qkv|output)|ffn_(up|gate|down)(_exps)?")
            .prop_map(|(layer, name)| format!("blk.{layer}.{name}.weight")),
        Just("token_embd.weight".to_owned()),
        Just("output.weight".to_owned()),
        any::<String>(),
    ]
}

fn dimension() -> impl Strategy<Value = u64> {
    prop_oneof![Just(256u64), (0u64..40).prop_map(|n| n * 32), 0u64..300, any::<u64>()]
}

fn any_type() -> impl Strategy<Value = GgmlType> {
    prop::sample::select(GgmlType::ALL.to_vec())
}

prop_compose! {
    fn facts()(
        arch in prop_oneof![prop::sample::select(vec!["llama", "falcon", "qwen2", "glm5-next", "bailingmoe3"]).prop_map(str::to_owned), any::<String>()],
        layers in prop_oneof![Just(80u32), 0u32..40, any::<u32>()],
        nextn_layers in prop_oneof![Just(0u32), any::<u32>()],
        heads in prop_oneof![0u32..64, any::<u32>()],
        kv_heads in prop_oneof![0u32..16, any::<u32>()],
        experts in prop_oneof![Just(0u32), Just(8u32), any::<u32>()],
    ) -> ModelFacts {
        ModelFacts { arch, layers, nextn_layers, heads, kv_heads, experts }
    }
}

prop_compose! {
    fn request()(
        file_type in prop::option::weighted(0.95, prop::sample::select(FileType::ALL.to_vec())),
        pure in any::<bool>(),
        leave_output_tensor in any::<bool>(),
        output_tensor_type in prop::option::weighted(0.2, any_type()),
        token_embedding_type in prop::option::weighted(0.2, any_type()),
        overridden in prop::option::weighted(0.3, any_type().prop_filter("integer", |ty| !ty.is_integer())),
        strict in prop::bool::weighted(0.2),
    ) -> Request {
        let overrides = overridden.map(|ty| recipe::parse_tensor_type(&format!("attn={ty}")).unwrap());
        Request {
            file_type, pure, leave_output_tensor, output_tensor_type, token_embedding_type,
            overrides: overrides.into_iter().collect(), strict,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_type_suits_its_row_or_all_is_refused(
        facts in facts(),
        tensors in prop::collection::vec((name(), prop::collection::vec(dimension(), 0..5)), 0..30),
        request in request(),
        has_imatrix in any::<bool>(),
    ) {
        let tensors: Vec<_> = tensors
            .iter()
            .map(|(name, shape)| TensorFacts { name, shape, ty: GgmlType::F32 })
            .collect();
        match recipe::assign(&facts, &tensors, &request, has_imatrix) {
            Ok(got) => {
                prop_assert_eq!(got.len(), tensors.len());
                for (tensor, got) in tensors.iter().zip(&got) {
                    let row = tensor.shape.first().copied().unwrap_or(1);
                    prop_assert!(got.ty.row_bytes(row).is_ok() || row > u64::MAX / 300);
                    prop_assert_eq!(row % got.ty.block_len() as u64, 0);
                    prop_assert!(got.quantizable || got.ty == GgmlType::F32);
                    if let Some(wanted) = got.wanted {
                        prop_assert!(!request.strict);
                        prop_assert_ne!(row % wanted.block_len() as u64, 0);
                    }
                }
            }
            Err(error) => prop_assert_eq!(error.to_string().lines().count(), 1),
        }
    }

    #[test]
    fn the_order_is_total(mut names in prop::collection::vec(name(), 0..12)) {
        // Sorting panics on an inconsistent order only by luck: check the laws.
        for a in &names {
            for b in &names {
                let ab = recipe::output_order(a, b);
                prop_assert_eq!(ab, recipe::output_order(b, a).reverse());
                prop_assert_eq!(ab.is_eq(), a == b);
            }
        }
        names.sort_by(|a, b| recipe::output_order(a, b));
        prop_assert!(names.is_sorted_by(|a, b| recipe::output_order(a, b).is_le()));
    }

    #[test]
    fn arguments_never_panic(text in prop_oneof![any::<String>(), "[0-9,. -]{0,12}", "[a-z(\\[*.]{0,8}=[a-z0-9_]{0,6}"], layers in any::<u32>()) {
        let line = |error: Error| error.to_string().lines().count();
        if let Err(error) = recipe::parse_tensor_type(&text) {
            prop_assert_eq!(line(error), 1);
        }
        if let Err(error) = FileType::parse_or_auto(&text) {
            prop_assert_eq!(line(error.into()), 1);
        }
        match Pruning::parse(&text, layers) {
            Err(error) => prop_assert_eq!(line(error), 1),
            Ok(pruning) => prop_assert!((1..layers).contains(&pruning.kept())),
        }
    }

    #[test]
    fn pruning_keeps_the_order_and_closes_the_gaps(
        pruned in prop::collection::btree_set(0u32..20, 1..19),
        name in name(),
    ) {
        let text: Vec<_> = pruned.iter().map(u32::to_string).collect();
        let pruning = Pruning::parse(&text.join(","), 20).unwrap();
        let left: Vec<_> = (0..20).filter_map(|n| pruning.rename(&format!("blk.{n}.w"))).collect();
        let expected: Vec<_> = (0..pruning.kept()).map(|n| format!("blk.{n}.w")).collect();
        prop_assert_eq!(left, expected);
        let _ = pruning.rename(&name);
    }
}
