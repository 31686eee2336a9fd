//! What the tokenizers know of characters.

use unicode_normalization::char::decompose_canonical;

/// Characters of text that was meant to be UTF-8: a replacement character stands for each byte that
/// is not. The bytes of a special token may end inside a character.
pub(super) fn characters(bytes: &[u8]) -> Vec<char> {
    let mut characters = Vec::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        characters.extend(chunk.valid().chars());
        characters.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    characters
}

/// The length of a character by its first byte, whatever the others are.
pub(super) fn length_by_first_byte(byte: u8) -> usize {
    match byte >> 4 {
        0xC | 0xD => 2,
        0xE => 3,
        0xF => 4,
        _ => 1,
    }
}

/// The lower case of a character, where that is one character; of İ it is i without the dot above.
pub(super) fn lower(character: char) -> char {
    character.to_lowercase().next().unwrap_or(character)
}

/// The first character of the canonical decomposition. llama.cpp drops the others.
pub(super) fn base(character: char) -> char {
    let mut first = None;
    decompose_canonical(character, |part| first = first.or(Some(part)));
    first.unwrap_or(character)
}

/// Chinese characters as BERT's tokenizer counts them; one range begins where Hugging Face's has it.
pub(super) fn is_bert_chinese(character: char) -> bool {
    matches!(u32::from(character),
        0x4E00..=0x9FFF | 0x3400..=0x4DBF | 0x20000..=0x2A6DF | 0x2A700..=0x2B73F
        | 0x2B740..=0x2B81F | 0x2B920..=0x2CEAF | 0xF900..=0xFAFF | 0x2F800..=0x2FA1F)
}

/// Han characters as llama.cpp counts them for Kimi K2.
pub(super) fn is_han(character: char) -> bool {
    matches!(u32::from(character),
        0x4E00..=0x9FFF | 0x3400..=0x4DBF | 0x20000..=0x2A6DF | 0x2A700..=0x2EBEF
        | 0xF900..=0xFAFF | 0x2F800..=0x2FA1F)
}

/// The characters that byte-level BPE writes bytes as.
pub(super) const BYTE_CHARACTERS: [char; 256] = byte_characters();

const fn byte_characters() -> [char; 256] {
    let mut characters = ['\0'; 256];
    let (mut byte, mut others) = (0, 0);
    while byte < 256 {
        characters[byte] = if matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF) {
            byte as u8 as char
        } else {
            others += 1;
            match char::from_u32(255 + others) {
                Some(character) => character,
                None => '\0',
            }
        };
        byte += 1;
    }
    characters
}

/// The byte that a character stands for.
pub(super) fn byte_of(character: char) -> Option<u8> {
    // The characters of other bytes follow each other.
    let candidate = match u32::from(character) {
        code @ (0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF) => code,
        code @ 256..=288 => code - 256,
        code @ 289..=322 => code - 289 + 0x7F,
        323 => 0xAD,
        _ => return None,
    };
    u8::try_from(candidate).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_of_bytes_and_back() {
        for byte in 0..=255u8 {
            assert_eq!(byte_of(BYTE_CHARACTERS[usize::from(byte)]), Some(byte));
        }
        assert_eq!((byte_of(' '), byte_of('ń'), byte_of('€')), (None, None, None));
        assert_eq!(BYTE_CHARACTERS[usize::from(b' ')], 'Ġ');
    }

    #[test]
    fn characters_of_broken_text() {
        assert_eq!(characters("aé".as_bytes()), ['a', 'é']);
        assert_eq!(characters(b"a\xE2\x96b"), ['a', '\u{FFFD}', '\u{FFFD}', 'b']);
    }

    #[test]
    fn bases_and_lower_case() {
        assert_eq!((base('é'), base('한'), base('x')), ('e', '\u{1112}', 'x'));
        assert_eq!((lower('É'), lower('İ'), lower('字')), ('é', 'i', '字'));
    }
}
