//! The chat template of a model: how a conversation becomes the text that the model continues.
//!
//! Templates are programs in Jinja that come with a file from anyone. They are run here with nothing but
//! the messages and the names of two tokens, without access to files, the network or the environment,
//! and with a bounded supply of fuel, which bounds their time and their memory too. What a template can
//! still do is to write a text of its choice: do not take a rendered text for the user's words.

use std::{fmt, thread::ScopedJoinHandle};

use gguf_model::Tokenizer;
use minijinja::{
    Environment, Error, ErrorKind, State, Value, context,
    syntax::SyntaxConfig,
    value::{Kwargs, Rest, StringInput, ValueKind},
};

/// Steps that a template may take; each also stands for 64 bytes.
const FUEL: u64 = 500_000;
/// Calls inside calls.
const DEPTH: usize = 64;
/// A template is no longer than this: published ones have some 30 KiB at most.
const LONGEST: usize = 64 << 10;
/// The stack that a template runs on. The library recurses as deep as an expression says, which takes up to 1 KiB
/// of stack for each byte of a template when nothing is optimised, and as deep as lists are put into lists, up to
/// 3 KiB for each, of which the fuel is enough for some 50,000. Only what is used of it takes memory.
const STACK: usize = 256 << 20;

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who speaks: `system`, `user`, `assistant`.
    pub role: String,
    /// What is said.
    pub content: String,
}

/// Why a template cannot be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum ChatError {
    /// The file has none.
    NoTemplate,
    /// It is longer than any template is.
    TooLong {
        /// Its bytes.
        bytes: usize,
    },
    /// It is no sound template, ran out of fuel, or does not take these messages.
    Template {
        /// The line of the template, if it is known.
        line: Option<usize>,
        /// What went wrong, in one line.
        message: String,
    },
}

impl fmt::Display for ChatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTemplate => f.write_str(
                "the model has no chat template (tokenizer.chat_template); leave the chat out, or add \
                 one to the file",
            ),
            Self::TooLong { bytes } => {
                write!(f, "the chat template has {bytes} bytes, expected at most {LONGEST}")
            }
            Self::Template { line: Some(line), message } => {
                write!(f, "the chat template, line {line}: {message}")
            }
            Self::Template { line: None, message } => write!(f, "the chat template: {message}"),
        }
    }
}

impl std::error::Error for ChatError {}

/// A template with the names of the tokens that it may write.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    source: String,
    bos: String,
    eos: String,
}

impl ChatTemplate {
    /// The template of a GGUF file.
    ///
    /// # Errors
    /// If there is none, or it is absurdly long.
    pub fn from_metadata(
        metadata: &gguf_io::Metadata,
        tokenizer: &Tokenizer,
    ) -> Result<Self, ChatError> {
        let source = metadata.get_str("tokenizer.chat_template").ok_or(ChatError::NoTemplate)?;
        let name = |id: Option<u32>| {
            let text = id.map(|id| tokenizer.token(id)).unwrap_or_default();
            String::from_utf8_lossy(text).into_owned()
        };
        let special = tokenizer.special();
        Self::new(source, &name(special.bos), &name(special.eos))
    }

    /// A template, with the names of the tokens for the beginning and the end of a text.
    ///
    /// # Errors
    /// If it is absurdly long.
    pub fn new(source: &str, bos: &str, eos: &str) -> Result<Self, ChatError> {
        if source.len() > LONGEST {
            return Err(ChatError::TooLong { bytes: source.len() });
        }
        // An extension that marks what training is on; the text stays.
        let source = without_tag(&without_tag(source, "generation"), "endgeneration");
        Ok(Self { source, bos: bos.to_owned(), eos: eos.to_owned() })
    }

    /// The text of a conversation, with the beginning of the answer if that is to be generated. It has
    /// the names of special tokens in it, which have to be parsed, and mostly that for the beginning of
    /// a text: see [`starts_with_bos`](Self::starts_with_bos).
    ///
    /// `now` is the time that the template is told, in seconds since 1970, UTC; without it a template that
    /// asks for the time is an error.
    ///
    /// # Errors
    /// [`ChatError::Template`]; among others if the template itself refuses the messages.
    pub fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
        now: Option<u64>,
    ) -> Result<String, ChatError> {
        std::thread::scope(|scope| {
            let render = || self.render_here(messages, add_generation_prompt, now);
            let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, render);
            match thread.map(ScopedJoinHandle::join) {
                Ok(Ok(text)) => text,
                Ok(Err(panic)) => std::panic::resume_unwind(panic),
                Err(error) => Err(ChatError::Template {
                    line: None,
                    message: format!(
                        "the system gives no thread with {} MiB of stack for it: {error}",
                        STACK >> 20
                    ),
                }),
            }
        })
    }

    /// As [`render`](Self::render), on the stack that there is.
    fn render_here(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
        now: Option<u64>,
    ) -> Result<String, ChatError> {
        let mut environment = Environment::new();
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(DEPTH);
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|error| explain(&error))?);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.set_unknown_method_callback(|state, value, method, arguments| {
            if method == "format" && value.as_str().is_some_and(is_wide) {
                return Err(Error::new(ErrorKind::OutOfFuel, "a field of many characters"));
            }
            if let ("join", Some(_), [items]) = (method, value.as_str(), arguments) {
                let items = [listed(items)?];
                return minijinja_contrib::pycompat::unknown_method_callback(
                    state, value, method, &items,
                );
            }
            minijinja_contrib::pycompat::unknown_method_callback(state, value, method, arguments)
        });
        environment.set_formatter(|out, state, value| {
            check_size(value)?;
            minijinja::escape_formatter(out, state, value)
        });
        environment.add_filter("string", |value: Value| -> Result<Value, Error> {
            check_size(&value)?;
            Ok(if value.as_str().is_some() { value } else { Value::from(value.to_string()) })
        });
        environment.add_filter("join", join);
        environment.add_filter("tojson", to_json);
        environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_function("strftime_now", move |format: String| {
            let now = now.ok_or_else(|| {
                Error::new(ErrorKind::InvalidOperation, "it asks for the time, which was not given")
            })?;
            Ok::<_, Error>(formatted(&format, now))
        });
        let messages: Vec<Value> = messages
            .iter()
            .map(|message| context! { role => message.role.as_str(), content => message.content.as_str() })
            .collect();
        let template =
            environment.template_from_str(&self.source).map_err(|error| explain(&error))?;
        template
            .render(context! {
                messages,
                add_generation_prompt,
                bos_token => self.bos.as_str(),
                eos_token => self.eos.as_str(),
            })
            .map_err(|error| explain(&error))
    }

    /// Whether a text begins with the name of the token for the beginning: then none has to be added.
    pub fn starts_with_bos(&self, text: &str) -> bool {
        !self.bos.is_empty() && text.starts_with(&self.bos)
    }
}

fn explain(error: &Error) -> ChatError {
    let message = match (error.kind(), error.detail()) {
        (ErrorKind::OutOfFuel, _) => {
            format!("it takes more than {FUEL} steps or {} MiB", (FUEL * 64) >> 20)
        }
        (ErrorKind::InvalidOperation, Some(detail)) => detail.to_owned(),
        (kind, Some(detail)) => format!("{kind}: {detail}"),
        (kind, None) => kind.to_string(),
    };
    // The template's own words may have any length and line breaks.
    let message: String = message.chars().take(300).collect();
    ChatError::Template { line: error.line(), message: message.escape_debug().to_string() }
}

/// A template without the tags of this name.
fn without_tag(source: &str, name: &str) -> String {
    let mut kept = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at);
        let Some(end) = tag.find("%}") else { break };
        let (tag, behind) = tag.split_at(end + 2);
        let inside = tag.trim_start_matches("{%").trim_end_matches("%}");
        if inside.trim_matches(['-', '+']).trim() == name {
            // White space goes with the marks, as with any tag.
            let is_stripped = inside.starts_with('-');
            kept.push_str(if is_stripped { before.trim_end() } else { before });
            rest = if inside.ends_with('-') { behind.trim_start() } else { behind };
        } else {
            kept.push_str(before);
            kept.push_str(tag);
            rest = behind;
        }
    }
    kept.push_str(rest);
    kept
}

/// Refuses to write out a value of more parts than there is fuel, or of longer texts. What a list holds
/// twice, and that again, takes little memory and no end of text.
fn check_size(value: &Value) -> Result<(), Error> {
    let too_large = || Error::new(ErrorKind::OutOfFuel, "a value of many parts");
    let mut left = FUEL;
    let mut open = vec![value.clone()];
    while let Some(value) = open.pop() {
        let bytes = value.as_str().map_or(0, str::len) as u64;
        left = left.checked_sub(1 + bytes / 64).ok_or_else(too_large)?;
        // What is open takes memory as well: it is not more than there is fuel for.
        let room = left.saturating_sub(open.len() as u64);
        let is_listed = match value.kind() {
            ValueKind::Seq | ValueKind::Map => true,
            // A list made of others that are not copied. What has no length is written as its name.
            ValueKind::Iterable => value.len().is_some(),
            _ => false,
        };
        if !is_listed {
            continue;
        }
        let is_map = value.kind() == ValueKind::Map;
        for (i, item) in (0u64..).zip(value.try_iter()?) {
            if i >= room {
                return Err(too_large());
            }
            if is_map {
                open.push(value.get_item(&item)?);
            }
            open.push(item);
        }
    }
    Ok(())
}

/// minijinja's filter, which writes items out before it asks for the fuel.
fn join(
    state: &mut State<'_, '_>,
    value: &Value,
    joiner: Option<StringInput<'_>>,
    attribute: Option<&str>,
    named: Kwargs,
) -> Result<Value, Error> {
    let items = listed(value)?;
    minijinja::filters::join(state, &items, joiner, attribute, named)
}

/// The items of a value that are to be written out, which may be iterated over once only.
fn listed(value: &Value) -> Result<Value, Error> {
    if value.kind() != ValueKind::Iterable {
        check_size(value)?;
        return Ok(value.clone());
    }
    let items: Vec<Value> = value.try_iter()?.take(FUEL as usize).collect();
    let items = Value::from(items);
    check_size(&items)?;
    Ok(items)
}

/// Whether a text for `str.format` has a field of ten thousand characters or more, or one whose width is
/// another field.
fn is_wide(format: &str) -> bool {
    format.split('{').skip(1).any(|field| {
        let (field, is_nested) = match field.split_once('}') {
            Some((field, _)) => (field, false),
            None => (field, field.contains(':')),
        };
        is_nested || field.split(|c: char| !c.is_ascii_digit()).any(|digits| digits.len() > 4)
    })
}

/// The widest indent of JSON.
const INDENT: i64 = 64;

/// JSON as Python's `json.dumps` writes it, which models were trained on: with nothing escaped for HTML.
fn to_json(value: &Value, arguments: Rest<Value>, options: Kwargs) -> Result<Value, Error> {
    let indent = match arguments.first() {
        Some(indent) => Some(indent.clone()),
        None => options.get::<Option<Value>>("indent")?,
    };
    let width = indent.as_ref().and_then(|indent| i64::try_from(indent.clone()).ok());
    if width.is_some_and(|width| width > INDENT) {
        let message = format!("tojson indents by at most {INDENT}");
        return Err(Error::new(ErrorKind::InvalidOperation, message));
    }
    check_size(value)?;
    // Hugging Face's filter takes these too; they are as it has them by default.
    let _ = options.get::<Option<Value>>("ensure_ascii")?;
    let _ = options.get::<Option<Value>>("separators")?;
    let _ = options.get::<Option<Value>>("sort_keys")?;
    let none: Kwargs = std::iter::empty::<(&str, Value)>().collect();
    let json = minijinja::filters::tojson(value, indent.filter(|value| !value.is_none()), none)?;
    Ok(Value::from(unescaped(json.as_str().unwrap_or_default())))
}

/// JSON without the escapes that are for HTML alone.
fn unescaped(json: &str) -> String {
    let mut plain = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        plain.push_str(before);
        let html = [("\\u003c", '<'), ("\\u003e", '>'), ("\\u0026", '&'), ("\\u0027", '\'')];
        if let Some((code, character)) = html.iter().find(|(code, _)| escape.starts_with(code)) {
            plain.push(*character);
            rest = &escape[code.len()..];
        } else {
            let len = 1 + escape[1..].chars().next().map_or(0, char::len_utf8);
            plain.push_str(&escape[..len]);
            rest = &escape[len..];
        }
    }
    plain.push_str(rest);
    plain
}

/// A time in the words of `strftime`, as far as templates use them.
fn formatted(format: &str, seconds: u64) -> String {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    const DAYS: [&str; 7] =
        ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];
    let days = seconds / 86_400;
    let (year, month, day) = date(days);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let month_name = MONTHS.get(month as usize - 1).copied().unwrap_or_default();
    let day_name = DAYS.get((days % 7) as usize).copied().unwrap_or_default();
    let mut text = String::new();
    let mut rest = format.chars();
    while let Some(character) = rest.next() {
        if character != '%' {
            text.push(character);
            continue;
        }
        let (code, padded) = match rest.next() {
            Some('-') => (rest.next(), false),
            code => (code, true),
        };
        let two = |number: u64| if padded { format!("{number:02}") } else { number.to_string() };
        text.push_str(&match code {
            Some('Y') => year.to_string(),
            Some('y') => two(year % 100),
            Some('m') => two(month),
            Some('d') => two(day),
            Some('e') => format!("{day:2}"),
            Some('H') => two(hour),
            Some('I') => two((hour + 11) % 12 + 1),
            Some('M') => two(minute),
            Some('S') => two(second),
            Some('p') => (if hour < 12 { "AM" } else { "PM" }).to_owned(),
            Some('B') => month_name.to_owned(),
            Some('b') => month_name.chars().take(3).collect(),
            Some('A') => day_name.to_owned(),
            Some('a') => day_name.chars().take(3).collect(),
            Some('F') => format!("{year}-{month:02}-{day:02}"),
            Some('T') => format!("{hour:02}:{minute:02}:{second:02}"),
            Some('Z') => "UTC".to_owned(),
            Some('%') => "%".to_owned(),
            Some(other) => format!("%{other}"),
            None => "%".to_owned(),
        });
    }
    text
}

/// Year, month and day, for days since 1970.
fn date(days: u64) -> (u64, u64, u64) {
    let (mut year, mut left) = (1970 + days / 146_097 * 400, days % 146_097);
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    loop {
        let len = 365 + u64::from(is_leap(year));
        if left < len {
            break;
        }
        left -= len;
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    for (month, len) in (1..).zip([31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30]) {
        if left < len {
            return (year, month, left + 1);
        }
        left -= len;
    }
    (year, 12, left + 1)
}

#[cfg(test)]
mod tests;
