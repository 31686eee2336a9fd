//! Why a command failed: a line for people, an object for machines.

use std::{
    fmt,
    io::{self, Write},
};

use serde::Serialize;
use serde_json::{Value, json};

use crate::{hints, input, text};

/// An error as JSON has it.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Failure {
    /// The line on standard error, without `error: `.
    pub(crate) message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tensor: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) byte: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
}

impl Failure {
    /// A failure that has no more to say than its message and the file it is about.
    pub(crate) fn of_file(message: String, file: String) -> Self {
        Self { message: one_line(&message), file: Some(file), ..Self::default() }
    }

    /// What standard output gets where nothing else is printed there.
    pub(crate) fn as_json(&self) -> Value {
        json!({ "error": self })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// The accessors of the libraries' errors are the same, their types are not.
macro_rules! fields {
    ($error:expr) => {{
        let error = $error;
        Failure {
            message: one_line(&error.to_string()),
            file: error.file().map(text::path).map(input::told),
            tensor: error.tensor().map(Into::into),
            key: error.key().map(Into::into),
            byte: error.byte(),
            hint: error.hint().map(one_line),
        }
    }};
}

impl From<&quant_convert::Error> for Failure {
    /// The hint is in the words of the command line.
    fn from(error: &quant_convert::Error) -> Self {
        let mut failure: Self = fields!(error);
        if let (Some(of_library), Some(hint)) = (&failure.hint, hints::hint(error))
            && let Some(message) = failure.message.strip_suffix(of_library)
        {
            failure.message = format!("{message}{hint}");
            failure.hint = Some(hint.to_owned());
        }
        failure
    }
}

impl From<&gguf_io::Error> for Failure {
    fn from(error: &gguf_io::Error) -> Self {
        fields!(error)
    }
}

impl From<&quant_evaluate::Error> for Failure {
    fn from(error: &quant_evaluate::Error) -> Self {
        fields!(error)
    }
}

impl From<&quant_weights::Error> for Failure {
    fn from(error: &quant_weights::Error) -> Self {
        fields!(error)
    }
}

impl From<&anyhow::Error> for Failure {
    fn from(error: &anyhow::Error) -> Self {
        /// The parts of a cause, if it is an error of this type.
        fn of<'a, E>(cause: &'a (dyn std::error::Error + 'static)) -> Option<Failure>
        where
            E: std::error::Error + 'static,
            Failure: From<&'a E>,
        {
            cause.downcast_ref::<E>().map(Failure::from)
        }
        let found = error.chain().find_map(|cause| {
            of::<quant_convert::Error>(cause)
                .or_else(|| of::<quant_evaluate::Error>(cause))
                .or_else(|| of::<quant_weights::Error>(cause))
                .or_else(|| of::<gguf_io::Error>(cause))
        });
        Self { message: message(error), ..found.unwrap_or_default() }
    }
}

/// An error that the JSON on standard output holds already, beside what the command has to show.
#[derive(Debug)]
pub(crate) struct Told(pub(crate) Failure);

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Told {}

/// Ends the program because of wrong usage, or because help was asked for.
pub(crate) fn wrong_usage(error: &clap::Error, json: bool) -> ! {
    if json && error.use_stderr() {
        let text = error.to_string();
        // What follows the first paragraph is the usage of the command, and where to find help.
        let lines: Vec<_> = text.lines().map(str::trim).take_while(|l| !l.is_empty()).collect();
        let message = lines.join(" ");
        let message = message.strip_prefix("error: ").unwrap_or(&message).to_owned();
        let failure = Failure { message, ..Failure::default() };
        // If nobody reads it, the lines below say the same.
        let _ = writeln!(io::stdout(), "{}", failure.as_json());
    }
    error.exit()
}

/// Errors are one line, also where the operating system or a file's text has its say.
pub(crate) fn message(error: &anyhow::Error) -> String {
    match error.downcast_ref::<quant_convert::Error>() {
        Some(error) => Failure::from(error).message,
        None => one_line(&causes(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")),
    }
}

/// An error and its causes, up to the first that is a library's: its message holds its own causes.
pub(crate) fn causes(
    error: &anyhow::Error,
) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    let mut told = false;
    error.chain().take_while(move |cause| {
        let of_library = cause.is::<gguf_io::Error>()
            || cause.is::<quant_convert::Error>()
            || cause.is::<quant_evaluate::Error>()
            || cause.is::<quant_weights::Error>();
        !std::mem::replace(&mut told, of_library)
    })
}

fn one_line(text: &str) -> String {
    let line =
        hints::in_words(text).chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    input::told(line)
}
