use super::*;

fn said(role: &str, content: &str) -> Message {
    Message { role: role.into(), content: content.into() }
}

fn render(source: &str) -> Result<String, ChatError> {
    let messages = [said("system", "Be brief."), said("user", "<b>\"Hi\" & 'bye'</b>\\u003c")];
    ChatTemplate::new(source, "<s>", "</s>").unwrap().render(&messages, true, Some(1_709_210_096))
}

#[test]
fn conversations_are_rendered_as_transformers_does() {
    let chatml = "{% for message in messages %}\n  {{ '<|im_start|>' + message['role'] + '\\n' + message.content | trim + '<|im_end|>' + '\\n' }}\n{% endfor %}\n{% if add_generation_prompt %}\n{{ '<|im_start|>assistant\\n' }}\n{% endif %}\n";
    let expected = "  <|im_start|>system\nBe brief.<|im_end|>\n\n  <|im_start|>user\n<b>\"Hi\" & 'bye'</b>\\u003c<|im_end|>\n\n<|im_start|>assistant\n\n";
    assert_eq!(render(chatml).unwrap(), expected);
    assert_eq!(render("{{ bos_token }}{{ eos_token }}").unwrap(), "<s></s>");
    let namespace = "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% if loop.last %}{% break %}{% endif %}{% endfor %}{{ ns.n }}";
    assert_eq!(render(namespace).unwrap(), "2");
    let python = "{{ messages[0].content.split(' ')[1].strip('.').upper() }} {{ messages[0].get('tool_calls', 'none') }} {{ messages[0].items() | length }}";
    assert_eq!(render(python).unwrap(), "BRIEF none 2");
    let training = "a {%- generation -%} b {% endgeneration %}{{ 'c' }}";
    assert_eq!(render(training).unwrap(), "ab c");
}

#[test]
fn json_is_as_python_writes_it() {
    assert_eq!(
        render("{{ messages[1] | tojson }}").unwrap(),
        r#"{"role": "user", "content": "<b>\"Hi\" & 'bye'</b>\\u003c"}"#
    );
    assert_eq!(
        render("{{ {'a': [1, 2.5, none, true], 'é': {}} | tojson(indent=2) }}").unwrap(),
        "{\n  \"a\": [\n    1,\n    2.5,\n    null,\n    true\n  ],\n  \"é\": {}\n}"
    );
}

#[test]
fn the_time_is_what_the_caller_says() {
    assert_eq!(
        render("{{ strftime_now('%d %b %Y, %A %-I:%M %p') }}").unwrap(),
        "29 Feb 2024, Thursday 12:34 PM"
    );
    assert_eq!(formatted("%F %T %j%", 0), "1970-01-01 00:00:00 %j%");
    assert_eq!(formatted("%F", 951_782_400), "2000-02-29");
    assert_eq!(formatted("%F", 4_107_542_400), "2100-03-01");
    assert_eq!(formatted("%F", 1_735_603_200), "2024-12-31");
    let template = ChatTemplate::new("{{ strftime_now('%Y') }}", "", "").unwrap();
    let message = template.render(&[], false, None).unwrap_err().to_string();
    assert!(message.contains("asks for the time"), "{message}");
}

#[test]
fn hostile_templates_run_out_of_fuel() {
    // A list that holds itself of the step before twice.
    let nested = |ending: &str| {
        let twice = "{% for i in range(60) %}{% set x.l = [x.l, x.l] %}{% endfor %}";
        format!("{{% set x = namespace(l=[1]) %}}{twice}{{{{ {ending} }}}}")
    };
    let bombs = [
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
        "{% set ns = namespace(s='xxxxxxxx') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s }}",
        "{{ 'x' * 100000000000 }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{{ messages | tojson(indent=1000000000) }}",
        "{{ '{:>2000000000}'.format(1) }}",
        "{{ '{:>{}}'.format(1, 2000000000) }}",
        &nested("x.l"),
        &nested("x.l | string | length"),
        &nested("x.l | tojson | length"),
        &nested("x.l | join(', ') | length"),
        &nested("', '.join([x.l, x.l]) | length"),
        &nested("x.l | reverse | join | length"),
        // Few parts of many bytes, and lists that are not copied.
        "{{ ['x' * 10000000] * 1000 }}",
        "{% set x = namespace(l=[1]) %}{% for i in range(6) %}{% set x.l = [x.l] * 1000 %}{% endfor %}{{ x.l }}",
    ];
    for bomb in bombs {
        let message = render(bomb).unwrap_err().to_string();
        assert!(!message.contains('\n') && message.len() < 500, "{message}");
    }
    assert!(render(bombs[0]).unwrap_err().to_string().contains("more than 500000 steps"));
    assert_eq!(render("{{ [[1], 'a'] | string }}{{ 3 | string }}").unwrap(), "[[1], 'a']3");
    let joined = "{{ [1, 'a', [2]] | join('-') }} {{ '+'.join(['a', 'b']) }} {{ messages | map(attribute='role') | join }}";
    assert_eq!(render(joined).unwrap(), "1-a-[2] a+b systemuser");
    assert_eq!(render("{{ [1] * 3 }}{{ 'abc' | join(' ') }}").unwrap(), "[1, 1, 1]a b c");
    assert_eq!(render("{{ '{:>4}|{}'.format(1, 'x') }}").unwrap(), "   1|x");
    let long = "x".repeat(LONGEST + 1);
    assert!(matches!(ChatTemplate::new(&long, "", ""), Err(ChatError::TooLong { .. })));
    assert!(ChatTemplate::new(&long[1..], "", "").is_ok());
}

#[test]
fn templates_nest_as_deep_as_their_length_allows() {
    // What comes before, what is repeated as often as there is room, what comes after.
    for (before, level, after) in [
        ("{{ ", "not ", "1 }}"),
        ("{{ ", "-", "1 }}"),
        ("{{ 1", "+1", " }}"),
        ("{{ 1", "**1", " }}"),
        ("{{ 1", " and 1", " }}"),
        ("{{ ", "1 if 1 else ", "1 }}"),
        ("{{ 1", " is none", " }}"),
        ("{{ 1", " in 1", " }}"),
        ("{{ 1", "|string", " }}"),
        ("{{ a", ".a", " }}"),
        ("{{ a", "[1]", " }}"),
        ("{{ a", "()", " }}"),
        ("{{ ", "(", "1 }}"),
        ("{{ ", "[", "1 }}"),
        ("{% if 0 %}", "{% elif 0 %}", "{% endif %}"),
        ("", "{% if 1 %}", ""),
        ("", "{% set a %}", ""),
    ] {
        let levels = (LONGEST - before.len() - after.len()) / level.len();
        // That it comes back is what counts; some are no sound templates. Not `~`: the library joins constants
        // before it counts steps, which takes time, but no stack.
        let _ = render(&format!("{before}{}{after}", level.repeat(levels)));
    }
}

#[test]
fn values_nest_as_deep_as_fuel_allows() {
    for (step, end) in [
        ("[ns.a]", ""),
        ("[ns.a]", "{{ ns.a }}"),
        ("[ns.a]", "{{ ns.a | tojson }}"),
        ("[ns.a]", "{{ ns.a == [ns.a] }}"),
        ("{'a': ns.a}", "{{ ns.a }}"),
        ("ns.a | reverse", "{{ ns.a }}"),
        ("ns.a | map('string')", "{{ ns.a | list }}"),
        ("ns.a | chain([2])", "{{ ns.a }}"),
    ] {
        let nested = |times: usize| {
            let set = "{% set ns = namespace(a=[1]) %}";
            format!(
                "{set}{{% for i in range({times}) %}}{{% set ns.a = {step} %}}{{% endfor %}}{end}"
            )
        };
        assert!(render(&nested(30_000)).is_ok(), "{step}, {end}");
        // More often than there is fuel for.
        assert!(render(&nested(100_000)).is_err(), "{step}, {end}");
    }
}

#[test]
fn refusals_and_faults_are_one_line() {
    let refused = render("a\n{{ raise_exception('roles must\\nalternate') }}").unwrap_err();
    assert_eq!(refused.to_string(), "the chat template, line 2: roles must\\nalternate");
    for broken in ["{% for %}", "{{ 1 / }}", "{% include 'x' %}", "{{ open('x') }}"] {
        assert!(!render(broken).unwrap_err().to_string().contains('\n'));
    }
}
