//! Where chat templates are.

use super::*;

#[test]
fn chat_templates_come_from_any_of_their_places() {
    let dir = copy("tiny-llama3");
    let template =
        |dir: &Path| read(dir, None).unwrap().get_str("tokenizer.chat_template").map(str::to_owned);
    let inline = template(dir.path()).unwrap();
    fs::write(dir.path().join("chat_template.json"), r#"{"chat_template": "from json"}"#).unwrap();
    assert_eq!(template(dir.path()).as_deref(), Some(inline.as_str()));
    edit(dir.path(), "tokenizer_config.json", |config| {
        config.as_object_mut().unwrap().remove("chat_template");
    });
    assert_eq!(template(dir.path()).as_deref(), Some("from json"));
    // Templates are data, whatever is in them.
    let odd = "{{ \u{1b}[31m }}\n{% raw";
    fs::write(dir.path().join("chat_template.jinja"), odd).unwrap();
    assert_eq!(template(dir.path()).as_deref(), Some(odd));
    fs::create_dir(dir.path().join("additional_chat_templates")).unwrap();
    fs::write(dir.path().join("additional_chat_templates/tool use.jinja"), "tools").unwrap();
    let metadata = read(dir.path(), None).unwrap();
    assert_eq!(metadata.get_str("tokenizer.chat_template"), Some(odd));
    assert_eq!(metadata.get_str("tokenizer.chat_template.tool_use"), Some("tools"));
    fs::remove_file(dir.path().join("chat_template.jinja")).unwrap();
    edit(dir.path(), "tokenizer_config.json", |config| {
        config["chat_template"] = serde_json::json!([
            {"name": "rag", "template": "r"}, {"name": "default", "template": "d"}]);
    });
    let metadata = read(dir.path(), None).unwrap();
    assert_eq!(metadata.get_str("tokenizer.chat_template"), Some("d"));
    assert_eq!(metadata.get_str("tokenizer.chat_template.rag"), Some("r"));
    // An object of names and templates, which transformers takes too.
    edit(dir.path(), "tokenizer_config.json", |config| {
        config["chat_template"] = serde_json::json!({"default": "o\r\n", "rag": "r"});
    });
    let metadata = read(dir.path(), None).unwrap();
    assert_eq!(metadata.get_str("tokenizer.chat_template"), Some("o\n"));
    assert_eq!(metadata.get_str("tokenizer.chat_template.rag"), Some("r"));
    // Without one for all cases engines take one of their own.
    for (templates, says) in [
        (serde_json::json!({"rag": "r"}), "none of the chat templates is named default"),
        (serde_json::json!([{"name": "rag", "template": "r"}]), "none of the chat templates"),
        (serde_json::json!({"default": 1}), "neither text nor a list"),
    ] {
        edit(dir.path(), "tokenizer_config.json", |config| config["chat_template"] = templates);
        fs::write(dir.path().join("chat_template.json"), "{}").unwrap();
        let (metadata, told) = common::warnings(|| read(dir.path(), None).unwrap());
        let told = told.join("\n");
        assert_eq!(metadata.get_str("tokenizer.chat_template"), None);
        assert!(told.contains(says), "{told}");
    }
    fs::remove_file(dir.path().join("chat_template.json")).unwrap();
    edit(dir.path(), "tokenizer_config.json", |config| config["chat_template"] = 3.into());
    assert_eq!(template(dir.path()), None);
}
