//! Settings of single modules, and those that stand beside config.json.

use super::*;

#[test]
fn gptq_modules_may_have_settings_of_their_own_gptqmodel_1680() {
    let dynamic = |rules: Value| json!({"quant_method": "gptq", "bits": 4, "dynamic": rules});
    let auto_round = |format: &str, more: Value| {
        json!({"quant_method": "auto-round", "bits": 4, "group_size": 64, "data_type": "int",
               "packing_format": format, "extra_config": more})
    };
    let eight = json!({DOWN: {"bits": 8}, "lm_head": {"bits": 16}});
    let cases = [
        ("left alone", 4, 1, dynamic(json!({"-:.*q_proj.*": {}}))),
        ("others wider", 4, 1, dynamic(json!({"+:.*up_proj.*": {"bits": 8, "group_size": 32}}))),
        ("wider", 8, 1, dynamic(json!({"-:.*gate.*": {}, "+:.*down_proj.*": {"bits": 8}}))),
        ("narrower", 3, 1, dynamic(json!({".*down_proj.*": {"bits": 3}}))),
        ("AutoRound", 4, 2, auto_round("auto_round", json!({}))),
        ("AutoRound as GPTQ", 4, 1, auto_round("auto_round:auto_gptq", json!({}))),
        ("AutoRound, wider", 8, 1, auto_round("auto_round:auto_gptq", eight)),
    ];
    let mut table = Vec::new();
    for (what, bits, version, config) in cases {
        let (parts, values) = gptq_down(bits, version);
        let value = move |row, column| values[row * COLUMNS + column];
        table.push((what, config, parts, Box::new(value) as Box<dyn Fn(usize, usize) -> f32>));
    }
    assert_restored(table);
    // Codes of a width that nothing announces.
    let message = refused(&dynamic(json!({"+:.*up_proj.*": {"bits": 2}})), &gptq_down(8, 1).0);
    assert!(message.contains("down_proj.qzeros\": found shape [1, 16]"), "{message}");
}

#[test]
fn older_settings_beside_config_json_count_vllm_7086() {
    let dir = tempfile::tempdir().unwrap();
    let (parts, values) = gptq_down(4, 1);
    small(dir.path(), &Value::Null, &parts);
    let message = restored(dir.path(), "blk.0.ffn_down.weight").unwrap_err().to_string();
    assert!(message.contains("a quantize_config.json"), "{message}");
    let settings = r#"{"bits": 4, "group_size": 128, "damp_percent": 0.01, "desc_act": false}"#;
    fs::write(dir.path().join("quantize_config.json"), settings).unwrap();
    assert_eq!(restored(dir.path(), "blk.0.ffn_down.weight").unwrap(), values);
    // What config.json says comes first.
    small(dir.path(), &gptq(8), &parts);
    assert!(restored(dir.path(), "blk.0.ffn_down.weight").is_err());
}

#[test]
fn modelopt_settings_beside_config_json_count() {
    let dir = tempfile::tempdir().unwrap();
    let weight = tensor("F8_E4M3", &[ROWS, COLUMNS], vec![0x3c; ROWS * COLUMNS]);
    small(dir.path(), &Value::Null, &[("weight", weight), ("weight_scale", floats(&[], [0.25]))]);
    let settings = |algorithm: &str| json!({"producer": {"name": "modelopt"}, "quantization": {"quant_algo": algorithm}});
    let path = dir.path().join("hf_quant_config.json");
    fs::write(&path, settings("NVFP4_AWQ").to_string()).unwrap();
    let message = restored(dir.path(), "blk.0.ffn_down.weight").unwrap_err().to_string();
    assert!(message.contains("hf_quant_config.json") && message.contains("nvfp4_awq"), "{message}");
    fs::write(&path, settings("FP8").to_string()).unwrap();
    let found = restored(dir.path(), "blk.0.ffn_down.weight").unwrap();
    assert_eq!(found, vec![0.375; ROWS * COLUMNS]);
}
