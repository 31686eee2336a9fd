//! What to do about an error, in the words of the command line.

use quant_convert::{Error, grouped::Refusal};
use quant_core::GgmlType;

/// The hint that takes the place of the library's, if that speaks of what an option does here.
pub(crate) fn hint(error: &Error) -> Option<&'static str> {
    Some(match error {
        Error::ImportanceNeeded { .. } => {
            "make a matrix with `quantwright imatrix` and give it with --imatrix, or choose a larger type"
        }
        Error::ImportanceTooLarge { .. } => {
            "the matrix is damaged: make it again, or leave the tensor out with --exclude-weights"
        }
        Error::Requantize { .. } => {
            "start from the original checkpoint, or insist with --allow-requantize"
        }
        Error::Overflow { importance: Some(_), .. } => {
            "the importance matrix is damaged: make it again, or leave the tensor out with \
             --exclude-weights"
        }
        Error::Overflow { ty: GgmlType::BF16, .. } => "keep it in F32 (--type f32)",
        Error::Overflow { .. } => {
            "keep it in BF16 or F32 (--type bf16, or --tensor-type NAME=bf16)"
        }
        Error::TooSmall { .. } => {
            "allow more, name smaller types with --candidates, or, if the input is quantized, make others \
             of its tensors with --allow-requantize"
        }
        Error::NoCandidate { .. } => "name a type with smaller blocks in --candidates too",
        Error::Sensitivities { .. } => "measure them again with --calibration",
        Error::GroupSize { .. } => {
            "choose a --group-size that divides them, or --group-size-fallback ignore or adjust"
        }
        Error::Threads { .. } => "try fewer with --threads",
        Error::PreTokenizer { .. } => {
            "if you know llama.cpp's name for it, give it with --pre-tokenizer NAME"
        }
        Error::Grouped { refusal, .. } => refused(*refusal)?,
        _ => return None,
    })
}

fn refused(refusal: Refusal) -> Option<&'static str> {
    Some(match refusal {
        Refusal::NoLayer => {
            "the names of this model's layers are not known, or --ratio and --backup, or \
             --group-size-fallback ignore, leave all as they are"
        }
        Refusal::NoImportance => {
            "give one with --imatrix that has all layers, or choose --sensitivity weights"
        }
        Refusal::ExpertRows => {
            "choose a --group-size that divides all of them, or --group-size-fallback adjust"
        }
        Refusal::ExpertZeroPoints => {
            "choose int4_sym or int8_sym as --type, and int8_sym or none as --backup"
        }
        Refusal::ExpertSchemes => "leave out --per-layer, or take --ratio 1",
        Refusal::NoBlocks => {
            "for GGUF choose int4_sym with a --group-size that is a multiple of 32, or write a folder \
             (an output whose name does not end in .gguf)"
        }
        Refusal::NoBackupBlocks => {
            "leave out --backup, or choose int8_sym (written as Q8_0) or none"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hint is what a message ends with, so that it can be replaced.
    #[test]
    fn messages_end_with_their_hints() {
        let tensor = || "t".to_owned();
        for error in [
            Error::ImportanceNeeded { tensor: tensor(), ty: GgmlType::Q2_K },
            Error::Requantize { tensor: tensor(), source_type: GgmlType::Q8_0, ty: GgmlType::Q4_K },
            Error::Overflow {
                tensor: tensor(),
                ty: GgmlType::F16,
                magnitude: 1e6,
                index: 3,
                importance: None,
            },
            Error::GroupSize { tensor: tensor(), row: 96, group: 64 },
            Error::Threads { message: "none".into() },
            Error::PreTokenizer { path: "p".into(), found: "x".into(), names: "a, b".into() },
            Error::Grouped { refusal: Refusal::ExpertRows, problem: "rows".into() },
            Error::ImportanceTooLarge {
                path: "p".into(),
                tensor: tensor(),
                index: 0,
                value: 1e31,
                most: 1e30,
            },
        ] {
            let message = error.to_string();
            assert!(message.ends_with(error.hint().unwrap()), "{message}");
            assert!(!message.contains("--"), "{message}");
            let told = crate::failure::Failure::from(&error);
            let hint = hint(&error).unwrap();
            assert!(told.message.ends_with(hint) && told.hint.as_deref() == Some(hint));
        }
    }
}
