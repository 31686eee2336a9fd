//! Bytes as tokenizer files write them.

/// The bytes of a text in base64, with its padding.
pub(super) fn base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    let (mut bytes, mut held, mut bits) = (Vec::with_capacity(text.len() / 4 * 3), 0u32, 0);
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        held = held << 6 | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits) as u8);
            held &= (1 << bits) - 1;
        }
    }
    let padded = text.len().is_multiple_of(4) && text.len() - digits.len() <= 2;
    // Bits that are left over are zero.
    (padded && held == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_from_base_64() {
        for (text, bytes) in [
            ("", &b""[..]),
            ("AA==", b"\0"),
            ("Zg==", b"f"),
            ("Zm8=", b"fo"),
            ("Zm9v", b"foo"),
            ("AP+/", b"\0\xff\xbf"),
            ("/+4=", b"\xff\xee"),
        ] {
            assert_eq!(base64(text).as_deref(), Some(bytes), "{text}");
        }
        // No digit, no padding, half a byte, bits that are left over.
        for text in ["Y!==", "Zm 9v", "Zm9v!", "Zg", "Y", "Z===", "====", "YR=="] {
            assert_eq!(base64(text), None, "{text}");
        }
    }
}
