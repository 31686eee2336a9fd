//! The mixes: which tensors of which recipes get another type than the recipe's base type.
//!
//! This is data. A rule applies if the tensor's role is among its roles, the recipe among its
//! files, and all its conditions hold; the first rule in [`MIXES`] that applies decides, and no
//! rule means the base type. Then every rule in [`CORRECTIONS`] that applies replaces the type
//! chosen so far. To add a recipe, add its row to the table in `file_type.rs` and its rules here:
//! special cases above general ones.

use quant_core::GgmlType::{self, *};

use super::{FileType, role::Role};

/// One rule of a mix.
pub(super) struct Rule {
    pub(super) roles: Roles,
    pub(super) files: Files,
    pub(super) when: &'static [Cond],
    pub(super) then: Then,
}

pub(super) enum Roles {
    Any,
    Of(&'static [Role]),
}

pub(super) enum Files {
    Any,
    Of(&'static [FileType]),
    Not(&'static [FileType]),
}

pub(super) enum Then {
    /// The recipe's base type: stops the search before a more general rule.
    Base,
    Type(GgmlType),
}

/// What a rule may ask. A tensor's *place* is its number among its like, of as many as the model
/// has: layers, in plain words.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Cond {
    /// The place is in the first eighth.
    FirstEighth,
    /// The place is in the first sixteenth.
    FirstSixteenth,
    /// The place is neither in the first nor in the last eighth.
    MiddleThreeQuarters,
    /// The place is in the first or last eighth, or every third between.
    MoreBits,
    /// The place is below this number.
    Below(u64),
    /// Four or more query heads share a key-value head.
    Gqa4,
    /// The model is of the 70B class.
    Class70B,
    /// Exactly eight experts, as in Mixtral.
    Experts8,
    /// Four experts or more.
    Experts4OrMore,
    /// Experts are stacked in the tensor's third dimension.
    Stacked,
    /// There is an importance matrix.
    Imatrix,
    /// There is none.
    NoImatrix,
    Arch(&'static str),
    NotArch(&'static str),
    /// The name contains one of these.
    Named(&'static [&'static str]),
    /// A row is not a whole number of blocks of the base type.
    RowNotWhole,
    /// The type chosen so far is one of these (for corrections).
    Chosen(&'static [GgmlType]),
}

use Cond::{
    Arch, Below, Chosen, Class70B, Experts4OrMore, Experts8, FirstEighth, FirstSixteenth, Gqa4,
    Imatrix, MiddleThreeQuarters, MoreBits, Named, NoImatrix, NotArch, RowNotWhole, Stacked,
};
use FileType as Ft;
use Then::{Base, Type};

const ALL: Roles = Roles::Any;
const ANY: Files = Files::Any;
/// After tying: an embedding that is also the output counts as the output.
const OUTPUT: Roles = Roles::Of(&[Role::Output]);
const EMBEDDING: Roles = Roles::Of(&[Role::TokenEmbedding]);
const ATTN_Q: Roles = Roles::Of(&[Role::AttnQ]);
const ATTN_K: Roles = Roles::Of(&[Role::AttnK]);
const ATTN_V: Roles = Roles::Of(&[Role::AttnV, Role::AttnQkv, Role::AttnKvB]);
const ATTN_OUTPUT: Roles = Roles::Of(&[Role::AttnOutput]);
const FFN_DOWN: Roles = Roles::Of(&[Role::FfnDown]);
const FFN_IN: Roles = Roles::Of(&[Role::FfnUp, Role::FfnGate]);
const FFN: Roles = Roles::Of(&[Role::FfnUp, Role::FfnGate, Role::FfnDown]);

/// Recipes of two and a half bits or less: their rules are a world of their own.
pub(super) const LOW: &[FileType] =
    &[Ft::IQ1_S, Ft::IQ1_M, Ft::IQ2_XXS, Ft::IQ2_XS, Ft::IQ2_S, Ft::IQ2_M];
const IQ1: Files = Files::Of(&[Ft::IQ1_S, Ft::IQ1_M]);
const IQ2_S_M: Files = Files::Of(&[Ft::IQ2_S, Ft::IQ2_M]);
const IQ4: Files = Files::Of(&[Ft::IQ4_NL, Ft::IQ4_XS]);

/// Recipes that spend more on `attn_output` if the model has eight experts, where it is a small
/// part of the whole.
const SPEND_ON_ATTN_OUTPUT: Files = Files::Of(&[
    Ft::Q2_K,
    Ft::Q3_K_S,
    Ft::Q3_K_M,
    Ft::Q4_K_S,
    Ft::Q4_K_M,
    Ft::IQ3_XXS,
    Ft::IQ3_XS,
    Ft::IQ3_S,
    Ft::IQ3_M,
    Ft::IQ4_NL,
    Ft::IQ4_XS,
]);

const fn rule(roles: Roles, files: Files, when: &'static [Cond], then: Then) -> Rule {
    Rule { roles, files, when, then }
}

/// A rule for one recipe, the commonest kind.
macro_rules! only {
    ($roles:expr, $file:ident, $when:expr, $then:expr) => {
        rule($roles, Files::Of(&[Ft::$file]), $when, $then)
    };
}

/// The rules in order; the first that applies decides.
#[rustfmt::skip]
pub(super) const MIXES: &[Rule] = &[
    // Small projections that GLM-5 cannot do with fewer bits.
    rule(ALL, ANY, &[Arch("glm5-next"), Named(&["attn_q_a", "attn_q_b", "nextn.eh_proj"])], Type(Q8_0)),

    // The output, or the embedding that doubles as one.
    only!(OUTPUT, MXFP4_MOE, &[], Type(Q8_0)),
    rule(OUTPUT, ANY, &[Arch("falcon")], Type(Q8_0)),
    rule(OUTPUT, ANY, &[RowNotWhole], Type(Q8_0)),
    rule(OUTPUT, Files::Of(LOW), &[], Type(Q5_K)),
    only!(OUTPUT, IQ3_XXS, &[], Type(Q5_K)),
    only!(OUTPUT, Q8_0, &[], Base),
    rule(OUTPUT, ANY, &[], Type(Q6_K)),

    // MXFP4 is for experts; everything else is small and stays at eight bits. Multi-head latent
    // attention stacks projections too, so Bailing names its experts.
    only!(ALL, MXFP4_MOE, &[Stacked, NotArch("bailingmoe3")], Type(MXFP4)),
    only!(FFN, MXFP4_MOE, &[Stacked], Type(MXFP4)),
    only!(ALL, MXFP4_MOE, &[], Type(Q8_0)),

    // An embedding beside an output of its own.
    rule(EMBEDDING, Files::Of(&[Ft::IQ1_S, Ft::IQ1_M, Ft::IQ2_XXS, Ft::IQ2_XS]), &[], Type(Q2_K)),
    rule(EMBEDDING, Files::Of(&[Ft::IQ2_S, Ft::IQ2_M, Ft::IQ3_XXS]), &[], Type(IQ3_S)),
    rule(EMBEDDING, Files::Of(&[Ft::TQ1_0, Ft::TQ2_0, Ft::Q2_0]), &[], Type(Q4_K)),

    // Recipes of very few bits.
    rule(ATTN_V, Files::Of(LOW), &[Gqa4], Type(Q4_K)),
    rule(ATTN_V, Files::Of(LOW), &[Experts4OrMore], Type(Q4_K)),
    rule(ATTN_V, IQ2_S_M, &[], Type(IQ3_S)),
    rule(ATTN_V, Files::Of(LOW), &[], Type(Q2_K)),
    rule(ATTN_K, Files::Of(LOW), &[Experts8], Type(Q4_K)),
    rule(FFN_DOWN, IQ2_S_M, &[FirstEighth], Type(IQ3_S)),
    rule(FFN_DOWN, Files::Of(LOW), &[FirstEighth], Type(Q2_K)),
    rule(ATTN_OUTPUT, Files::Of(LOW), &[Experts8], Type(Q5_K)),
    rule(ATTN_OUTPUT, IQ1, &[], Type(IQ2_XXS)),
    rule(ATTN_OUTPUT, IQ2_S_M, &[], Type(IQ3_S)),
    // Nothing below is meant for them.
    rule(ALL, Files::Of(LOW), &[], Base),

    // Values. With eight experts they are so small a part that eight bits cost next to nothing.
    rule(ATTN_V, ANY, &[Experts8], Type(Q8_0)),
    only!(ATTN_V, Q2_K, &[Gqa4], Type(Q4_K)),
    only!(ATTN_V, Q2_K, &[], Type(Q3_K)),
    only!(ATTN_V, Q2_K_S, &[Gqa4], Type(Q4_K)),
    only!(ATTN_V, Q3_K_M, &[Below(2)], Type(Q5_K)),
    only!(ATTN_V, Q3_K_M, &[], Type(Q4_K)),
    only!(ATTN_V, Q3_K_L, &[], Type(Q5_K)),
    only!(ATTN_V, Q4_K_S, &[Below(4)], Type(Q5_K)),
    only!(ATTN_V, Q4_K_M, &[MoreBits], Type(Q6_K)),
    only!(ATTN_V, Q5_K_M, &[MoreBits], Type(Q6_K)),
    only!(ATTN_V, IQ3_XXS, &[Gqa4], Type(Q4_K)),
    only!(ATTN_V, IQ3_XXS, &[NoImatrix], Type(IQ3_S)),
    rule(ATTN_V, Files::Of(&[Ft::IQ3_XS, Ft::IQ3_S]), &[Gqa4], Type(Q4_K)),
    only!(ATTN_V, IQ3_M, &[], Type(Q4_K)),
    rule(ATTN_V, IQ4, &[Gqa4], Type(Q5_K)),

    // Keys and queries.
    rule(ATTN_K, ANY, &[Experts8], Type(Q8_0)),
    only!(ATTN_K, IQ3_XS, &[], Type(IQ3_XXS)),
    only!(ATTN_K, IQ3_XXS, &[], Type(IQ2_S)),
    only!(ATTN_Q, IQ3_XS, &[], Type(IQ3_XXS)),
    only!(ATTN_Q, IQ3_XXS, &[], Type(IQ2_S)),

    // The way down, where outliers are.
    only!(FFN_DOWN, Q2_K, &[], Type(Q3_K)),
    only!(FFN_DOWN, Q2_K_S, &[FirstEighth], Type(Q4_K)),
    only!(FFN_DOWN, Q3_K_M, &[FirstSixteenth], Type(Q5_K)),
    only!(FFN_DOWN, Q3_K_M, &[NotArch("falcon")], Type(Q4_K)),
    only!(FFN_DOWN, Q3_K_M, &[MoreBits], Type(Q4_K)),
    only!(FFN_DOWN, Q3_K_L, &[Arch("falcon")], Type(Q4_K)),
    only!(FFN_DOWN, Q3_K_L, &[], Type(Q5_K)),
    only!(FFN_DOWN, Q4_K_S, &[NotArch("falcon"), FirstEighth], Type(Q5_K)),
    only!(FFN_DOWN, Q4_K_M, &[Arch("falcon"), FirstSixteenth], Type(Q6_K)),
    only!(FFN_DOWN, Q4_K_M, &[Arch("falcon"), MoreBits], Type(Q5_K)),
    only!(FFN_DOWN, Q4_K_M, &[NotArch("falcon"), MoreBits], Type(Q6_K)),
    only!(FFN_DOWN, Q5_K_M, &[MoreBits], Type(Q6_K)),
    only!(FFN_DOWN, IQ3_XXS, &[NoImatrix, FirstEighth], Type(Q4_K)),
    only!(FFN_DOWN, IQ3_XXS, &[NoImatrix], Type(Q3_K)),
    only!(FFN_DOWN, IQ3_M, &[FirstEighth], Type(Q4_K)),
    only!(FFN_DOWN, IQ3_M, &[Experts8, MoreBits], Type(Q4_K)),
    rule(FFN_DOWN, IQ4, &[NoImatrix, FirstEighth], Type(Q5_K)),
    // An importance matrix can lead the first layers astray; without one the recipes stay what
    // they were before there were importance matrices.
    only!(FFN_DOWN, Q4_0, &[Imatrix, FirstEighth], Type(Q4_1)),
    only!(FFN_DOWN, Q5_0, &[Imatrix, FirstEighth], Type(Q5_1)),

    // The way out of attention.
    only!(ATTN_OUTPUT, Q3_K_L, &[Arch("falcon")], Type(Q4_K)),
    rule(ATTN_OUTPUT, ANY, &[Arch("falcon")], Base),
    rule(ATTN_OUTPUT, SPEND_ON_ATTN_OUTPUT, &[Experts8], Type(Q5_K)),
    rule(ATTN_OUTPUT, ANY, &[Experts8], Base),
    only!(ATTN_OUTPUT, Q2_K, &[], Type(Q3_K)),
    only!(ATTN_OUTPUT, Q3_K_M, &[], Type(Q4_K)),
    only!(ATTN_OUTPUT, Q3_K_L, &[], Type(Q5_K)),
    only!(ATTN_OUTPUT, IQ3_XXS, &[], Type(IQ3_S)),
    only!(ATTN_OUTPUT, IQ3_M, &[], Type(Q4_K)),

    // The way in.
    only!(FFN_IN, IQ3_XS, &[MiddleThreeQuarters], Type(IQ3_XXS)),
];

/// Rules on the type that [`MIXES`] chose; each that applies replaces it.
#[rustfmt::skip]
pub(super) const CORRECTIONS: &[Rule] = &[
    // Eight heads share the values of a 70B model, so they are small and more bits are cheap.
    rule(ATTN_V, Files::Not(LOW), &[Chosen(&[Q3_K, Q4_K]), Class70B], Type(Q5_K)),
];

/// What a type falls back to if the row is not a whole number of its blocks. If the row does not
/// suit the second either, it is F16.
pub(super) const FALLBACKS: &[(GgmlType, GgmlType)] = &[
    (IQ1_S, IQ4_NL),
    (IQ1_M, IQ4_NL),
    (IQ2_XXS, IQ4_NL),
    (IQ2_XS, IQ4_NL),
    (IQ2_S, IQ4_NL),
    (IQ3_XXS, IQ4_NL),
    (IQ3_S, IQ4_NL),
    (IQ4_XS, IQ4_NL),
    (Q2_0, Q4_0),
    (Q2_K, Q4_0),
    (Q3_K, Q4_0),
    (TQ1_0, Q4_0),
    (TQ2_0, Q4_0),
    (Q4_K, Q5_0),
    (Q5_K, Q5_1),
    (Q6_K, Q8_0),
];

/// Types that are garbage without an importance matrix, and the one recipe that condition is
/// confined to, if any. Embedding and output are exempt, unless the quantizer refuses.
pub(super) const NEED_IMATRIX: &[(GgmlType, Option<FileType>)] = &[
    (IQ1_S, None),
    (IQ1_M, None),
    (IQ2_XXS, None),
    (IQ2_XS, None),
    (IQ2_S, None),
    (IQ3_XXS, None),
    (Q2_K, Some(Ft::Q2_K_S)),
];
