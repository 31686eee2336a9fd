//! From tokens back to text.

use std::borrow::Cow;

use super::{
    encode::Tokenizer,
    kind::Kind,
    others::unescape,
    tokens::Attributes,
    unicode::{byte_of, characters},
};

/// How tokens become text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeOptions {
    /// Whether control tokens and the unknown token are shown by their names. Default: `false`.
    pub show_special: bool,
    /// Whether the tokens that encoding puts around a text are left out. Default: `false`.
    pub remove_special: bool,
}

#[allow(clippy::derivable_impls, reason = "the defaults are part of the documentation")]
impl Default for DecodeOptions {
    fn default() -> Self {
        Self { show_special: false, remove_special: false }
    }
}

impl Tokenizer {
    /// The bytes of one token, which may be part of a character; for text as it is generated.
    ///
    /// A token that is none, and with `show_special` off a control token, has no bytes. In front of
    /// the first token of a text SentencePiece has a space, which [`Tokenizer::decode`] takes away.
    pub fn piece(&self, id: u32, show_special: bool) -> Cow<'_, [u8]> {
        let attributes = self.tokens.attributes.get(id as usize).copied().unwrap_or_default();
        let hidden = Attributes::CONTROL.or(Attributes::UNKNOWN);
        if !show_special && attributes.is(hidden) {
            return Cow::Borrowed(&[]);
        }
        let text = self.tokens.text(id);
        match self.kind {
            Kind::None => Cow::Borrowed(&[]),
            Kind::Rwkv => Cow::Owned(unescape(text)),
            Kind::Plamo2 => match hex(text).filter(|_| attributes.is(Attributes::BYTE)) {
                Some(byte) => Cow::Owned(vec![byte]),
                None => Cow::Borrowed(text),
            },
            _ if attributes.is(hidden.or(Attributes::USER_DEFINED)) => Cow::Borrowed(text),
            _ if attributes.is(Attributes::NORMAL) => {
                if self.marks_spaces() {
                    Cow::Owned(unmark(text))
                } else {
                    Cow::Owned(bytes_of(text))
                }
            }
            _ if attributes.is(Attributes::BYTE) => hex(text).into_iter().collect(),
            _ => Cow::Borrowed(&[]),
        }
    }

    /// The text of tokens, as bytes: a sequence of tokens need not end with a whole character.
    ///
    /// The space that was put in front of the text is taken away, and for the kinds of which llama.cpp
    /// does so, spaces before punctuation.
    pub fn decode(&self, ids: &[u32], options: DecodeOptions) -> Vec<u8> {
        let mut ids = ids;
        let mut remove_space = self.add_space_prefix;
        if options.remove_special
            && self.add_bos
            && let Some((first, rest)) = ids.split_first()
            && Some(*first) == self.special.bos
        {
            remove_space = false;
            ids = rest;
        }
        if options.remove_special
            && self.add_eos
            && let Some((last, rest)) = ids.split_last()
            && Some(*last) == self.special.eos
        {
            ids = rest;
        }
        let mut text = Vec::new();
        for &id in ids {
            let piece = self.piece(id, options.show_special);
            let piece = match piece.strip_prefix(b" ").filter(|_| remove_space) {
                Some(rest) => rest,
                None => &piece,
            };
            text.extend_from_slice(piece);
            remove_space = false;
        }
        if self.clean_spaces { clean(&text) } else { text }
    }
}

/// The byte of a token such as `<0x0A>`.
fn hex(text: &[u8]) -> Option<u8> {
    let digits = std::str::from_utf8(text.get(3..5)?).ok()?;
    u8::from_str_radix(digits, 16).ok()
}

/// SentencePiece's marks as the spaces that they stand for.
fn unmark(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, others)) = rest.split_first() {
        match rest.strip_prefix("\u{2581}".as_bytes()) {
            Some(behind) => {
                plain.push(b' ');
                rest = behind;
            }
            None => {
                plain.push(byte);
                rest = others;
            }
        }
    }
    plain
}

/// The bytes that the characters of a byte-level token stand for.
fn bytes_of(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for character in characters(text) {
        match byte_of(character) {
            Some(byte) => bytes.push(byte),
            // llama.cpp shows what it cannot decode in this way.
            None => {
                bytes.extend(b"[UNK_BYTE_0x");
                for byte in character.encode_utf8(&mut [0; 4]).bytes() {
                    bytes.extend(format!("{byte:02x}").bytes());
                }
                bytes.extend_from_slice(text);
                bytes.push(b']');
            }
        }
    }
    bytes
}

/// Takes spaces away that tokenizing put between words and signs, in llama.cpp's three passes.
fn clean(text: &[u8]) -> Vec<u8> {
    let mut signs: Vec<u8> = Vec::with_capacity(text.len());
    for (at, &byte) in text.iter().enumerate() {
        if at > 0 && text[at - 1] == b' ' && matches!(byte, b'?' | b'!' | b'.' | b',') {
            signs.pop();
        }
        signs.push(byte);
    }
    let mut alone: Vec<u8> = Vec::with_capacity(signs.len());
    let mut skip = false;
    for (at, &byte) in signs.iter().enumerate() {
        if std::mem::take(&mut skip) {
            continue;
        }
        let between = at > 0 && signs[at - 1] == b' ' && signs.get(at + 1) == Some(&b' ');
        if byte == b'\'' && between && alone.last() == Some(&b' ') {
            alone.pop();
            skip = true;
        }
        alone.push(byte);
    }
    let mut clean: Vec<u8> = Vec::with_capacity(alone.len());
    for (at, &byte) in alone.iter().enumerate() {
        let short = matches!(&alone[at + 1..], [b's' | b'm', ..] | [b'r' | b'v', b'e', ..]);
        if byte == b'\'' && short && at > 0 && alone[at - 1] == b' ' {
            clean.pop();
        }
        clean.push(byte);
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spaces_around_signs() {
        let cases = [
            ("Hello , world ! Why ? So .", "Hello, world! Why? So."),
            ("it 's I 'm we 're I 've", "it's I'm we're I've"),
            ("don 't he 'd we 'll", "don 't he 'd we 'll"),
            ("rock ' n ' roll", "rock'n'roll"),
            (" .", "."),
            ("", ""),
            ("'", "'"),
        ];
        for (text, expected) in cases {
            assert_eq!(String::from_utf8(clean(text.as_bytes())).unwrap(), expected);
        }
    }

    #[test]
    fn texts_of_tokens() {
        assert_eq!(unmark("\u{2581}a\u{2581}\u{2581}b\u{e2}".as_bytes()), " a  b\u{e2}".as_bytes());
        assert_eq!(bytes_of("Ġhé".as_bytes()), b" h\xE9");
        assert_eq!(bytes_of("字".as_bytes()), "[UNK_BYTE_0xe5ad97字]".as_bytes());
        assert_eq!((hex(b"<0x0A>"), hex(b"<0xZZ>"), hex(b"a")), (Some(10), None, None));
    }
}
