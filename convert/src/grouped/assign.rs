//! The scheme of every layer.

use std::collections::BTreeMap;

use quant_core::grouped::{Fit, GroupSize, GroupedType};

use super::{
    Options, Refusal, Unit,
    experts::{self, is_expert},
    layers::{Order, Role},
    scheme::{Candidate, Rest, Scheme, per_channel},
    score::{self, Layer, Sensitivity},
    select,
};
use crate::{Control, Error, Result, model::Model, options::Running};

/// Chooses a scheme for each candidate. Reads weights only if the ratio is less than 1.
pub(crate) fn assign(
    model: &Model,
    candidates: &[Candidate<'_>],
    options: &Options,
    rest: Rest,
    running: &Running,
    control: Control<'_>,
) -> Result<Vec<Scheme>> {
    let mut schemes = vec![Scheme::Keep; candidates.len()];
    // Units of the ratio set by their place in the order of computation; a layer by itself is a
    // unit of one.
    let mut units: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    let as_one = rest.experts_as_one && !options.per_layer;
    let experts = if as_one { experts::find(model, candidates, options)? } else { None };
    for (i, candidate) in candidates.iter().enumerate() {
        let tensor = &model.tensors[candidate.tensor];
        let channel = |ty: Option<GroupedType>| per_channel(tensor.row_len(), ty);
        let order = match &candidate.role {
            Role::Other => continue,
            role if as_one && is_expert(role) => continue,
            Role::Embedding | Role::Output if !options.all_layers => {
                schemes[i] = channel(rest.ends);
                continue;
            }
            Role::Embedding => (0, Order::Last(i)),
            Role::Output => (2, Order::Last(i)),
            Role::Linear { order, fused: Some(fused) } if !options.per_layer => {
                let first = candidates.iter().filter_map(|c| match &c.role {
                    Role::Linear { order, fused: Some(other) } if other == fused => Some(*order),
                    _ => None,
                });
                (1, first.min().unwrap_or(*order))
            }
            Role::Linear { order, .. } => (1, *order),
        };
        let row_len = usize::try_from(tensor.row_len()).unwrap_or(usize::MAX);
        let size = options.group_size();
        match size.fit(row_len, options.fallback) {
            Ok(Fit::Groups(len)) => {
                units.entry(order).or_default().push(i);
                let channel = size == GroupSize::Channel;
                schemes[i] = Scheme::Groups { ty: options.ty, len, channel };
            }
            Ok(Fit::Backup) => schemes[i] = channel(rest.backup),
            Ok(Fit::Keep) => {}
            Err(_) => {
                return Err(Error::GroupSize {
                    tensor: tensor.name.clone(),
                    row: tensor.row_len(),
                    group: size.number(),
                });
            }
        }
    }
    let channel = options.group_size() == GroupSize::Channel;
    for &i in experts.iter().flat_map(|experts| &experts.members) {
        let row_len = model.tensors[candidates[i].tensor].row_len();
        schemes[i] = match experts.as_ref().map(|experts| experts.fit) {
            Some(Fit::Groups(len)) => {
                let len =
                    if channel { usize::try_from(row_len).unwrap_or(usize::MAX) } else { len };
                Scheme::Groups { ty: options.ty, len, channel }
            }
            Some(Fit::Backup) => per_channel(row_len, rest.backup),
            Some(Fit::Keep) | None => Scheme::Keep,
        };
    }
    if options.ratio >= 1.0 {
        return Ok(schemes);
    }

    let members: Vec<usize> = units.values().flatten().copied().collect();
    let layers: Vec<_> = members
        .iter()
        .map(|&i| Layer { tensor: candidates[i].tensor, squares: candidates[i].squares })
        .collect();
    let informed = layers.iter().any(|layer| layer.squares.is_some());
    let default = if informed { Sensitivity::Hessian } else { Sensitivity::Weights };
    let sensitivity = options.sensitivity.unwrap_or(default);
    if sensitivity != Sensitivity::Weights
        && let Some(layer) = layers.iter().find(|layer| layer.squares.is_none())
    {
        return Err(Error::Grouped {
            refusal: Refusal::NoImportance,
            problem: format!(
                "the sensitivity of tensor {:?} needs an importance matrix, which has no entry for it",
                model.tensors[layer.tensor].name
            ),
        });
    }
    let scores = score::scores(model, &layers, sensitivity, running, control)?;
    let mut scores = members.iter().zip(scores).collect::<std::collections::HashMap<_, _>>();
    let mut list: Vec<Unit> = units
        .values()
        .map(|members| Unit {
            elements: members.iter().map(|&i| model.tensors[candidates[i].tensor].elements()).sum(),
            // The most sensitive member decides for all.
            score: members.iter().filter_map(|i| scores.remove(i)).fold(f64::MIN, f64::max),
        })
        .collect();
    // Experts are most of a model's weights: they come first where the ratio has room for all of
    // them, else last, so that the walk goes on without them.
    let experts = experts.filter(|experts| matches!(experts.fit, Fit::Groups(_)));
    if let Some(experts) = &experts {
        let others = list.iter().map(|unit| unit.elements).fold(0, u64::saturating_add);
        let share = experts.elements as f64 / others.saturating_add(experts.elements) as f64;
        let fits = share < options.ratio;
        let score = if fits { f64::NEG_INFINITY } else { f64::INFINITY };
        list.push(Unit { elements: experts.elements, score });
        if !fits {
            tracing::warn!(
                kind = "experts",
                "the experts hold {:.1} % of the weights that `ratio` {} divides, and load only if \
                 all are quantized alike: they get {}; a ratio above {share:.3} gives them {}",
                share * 100.0,
                options.ratio,
                rest.backup.map_or("no quantization", |ty| ty.name()),
                options.ty
            );
        }
    }
    let units = units.values().chain(experts.iter().map(|experts| &experts.members));
    for (members, taken) in units.zip(select(&list, options.ratio)) {
        for &i in members.iter().filter(|_| !taken) {
            schemes[i] = per_channel(model.tensors[candidates[i].tensor].row_len(), rest.backup);
        }
    }
    Ok(schemes)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use gguf_io::{Checkpoint, Limits};
    use serde_json::Value;

    use super::*;
    use quant_weights::{Quantization, Weights};

    use crate::grouped::source;

    /// Every entry of what NNCF chose for the tiny checkpoints.
    #[test]
    fn the_choice_is_that_of_nncf() {
        let fixtures = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fixtures");
        let golden = std::fs::read(fixtures.join("golden/nncf-ratio.json")).unwrap();
        let golden: Value = serde_json::from_slice(&golden).unwrap();
        let (mut problems, mut cases) = (Vec::new(), 0);
        for (checkpoint, entries) in golden.as_object().unwrap() {
            let dir = fixtures.join(checkpoint);
            let stored = Checkpoint::open(&dir, &Limits::default()).unwrap();
            let model = source::model(Weights::new(stored, Quantization::none()).unwrap()).unwrap();
            for (case, expected) in entries.as_object().unwrap() {
                let mut words = case.split(' ');
                let ty = GroupedType::from_name(words.next().unwrap()).unwrap();
                let mut value = || words.next().unwrap().split_once('=').unwrap().1;
                let (ratio, group_size, all) = (value(), value(), value());
                let options = Options {
                    ratio: ratio.parse().unwrap(),
                    group_size: GroupSize::from_number(group_size.parse().unwrap()),
                    all_layers: all == "true",
                    per_layer: true,
                    ..Options::new(ty)
                };
                let candidates: Vec<_> = model
                    .tensors
                    .iter()
                    .enumerate()
                    .map(|(i, t)| Candidate {
                        tensor: i,
                        role: Role::of(&t.name, t.shape.len()),
                        squares: None,
                    })
                    .collect();
                let backup = Some(GroupedType::Int8Asym);
                let rest = Rest { backup, ends: backup, experts_as_one: false };
                let control = Control::default();
                let running = crate::Options { threads: 2, ..Default::default() }.running();
                let schemes =
                    assign(&model, &candidates, &options, rest, &running, control).unwrap();
                let found: BTreeMap<_, _> = model
                    .tensors
                    .iter()
                    .zip(&schemes)
                    .filter_map(|(t, scheme)| match scheme {
                        Scheme::Keep => None,
                        Scheme::Groups { ty, .. } => Some((t.name.as_str(), ty.name())),
                    })
                    .collect();
                let expected: BTreeMap<_, _> = expected
                    .as_object()
                    .unwrap()
                    .iter()
                    .map(|(name, ty)| (name.as_str(), ty.as_str().unwrap()))
                    .collect();
                for (name, ty) in &expected {
                    if found.get(name) != Some(ty) {
                        problems.push(format!(
                            "{checkpoint} {case} {name}: {:?} not {ty}",
                            found.get(name)
                        ));
                    }
                }
                assert_eq!(found.len(), expected.len());
                cases += 1;
            }
        }
        assert_eq!(cases, 24);
        assert!(problems.is_empty(), "{}", problems.join("\n"));
    }
}
