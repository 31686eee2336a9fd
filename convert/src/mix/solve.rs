//! One option for each item, the least loss within a size: the multiple-choice knapsack problem.
//!
//! A Lagrange multiplier gives a choice that is nearly the best and a bound on how much better any
//! other can be. Options that would break that bound are left out; of the rest all combinations are
//! tried, without those that others beat in both size and loss.

/// What may be chosen for an item.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Choice {
    pub(super) bytes: u64,
    pub(super) loss: f64,
}

/// Partial combinations that are kept at most. Where there are more, those that the bound thinks least
/// of go, and the result is within [`Solution::gap`] of the best.
const STATES: usize = 1 << 16;

/// What was chosen.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Solution {
    /// The index of each item's choice.
    pub(super) chosen: Vec<usize>,
    pub(super) bytes: u64,
    pub(super) loss: f64,
    /// How much less any other choice could lose; 0 where the best is proven.
    pub(super) gap: f64,
}

/// The choice of least loss whose bytes are at most `budget`; `None` if there is none. Of equal losses
/// the smaller is taken. Every item has a choice, and all losses are finite.
pub(super) fn solve(items: &[Vec<Choice>], budget: u64) -> Option<Solution> {
    let smallest = choose(items, |choice| choice.bytes as f64);
    if total(items, &smallest).bytes > budget {
        return None;
    }
    let (multiplier, first) = relax(items, budget, smallest);
    let mut best = fill(items, budget, first);
    let reduced = |choice: &Choice| choice.loss + multiplier * choice.bytes as f64;
    // What no choice can go below, whatever the items cost together.
    let least: Vec<f64> =
        items.iter().map(|item| item.iter().map(reduced).fold(f64::INFINITY, f64::min)).collect();
    let bound = least.iter().sum::<f64>() - multiplier * budget as f64;
    let gap = (best.loss - bound).max(0.0);
    // Rounding must not cut the best one off.
    let slack = gap + 1e-12 * (bound.abs() + best.loss.abs());
    let mut order: Vec<usize> = (0..items.len()).collect();
    let open = |item: &usize| {
        let item = items.get(*item).zip(least.get(*item));
        item.map_or(0, |(all, least)| all.iter().filter(|c| reduced(c) - least <= slack).count())
    };
    // Items that are settled first, so that combinations grow late.
    order.sort_by_key(open);
    let mut states = vec![State { bytes: 0, loss: 0.0, excess: 0.0, from: 0, choice: 0 }];
    let mut history: Vec<Vec<(usize, usize)>> = Vec::new();
    let mut left_out = f64::INFINITY;
    for &item in &order {
        let (Some(choices), Some(least)) = (items.get(item), least.get(item)) else { continue };
        let mut next = Vec::new();
        for (choice, of) in choices.iter().enumerate() {
            let excess = reduced(of) - least;
            if excess > slack {
                continue;
            }
            for (from, state) in states.iter().enumerate() {
                let excess = state.excess + excess;
                let bytes = state.bytes.saturating_add(of.bytes);
                if excess <= slack && bytes <= budget {
                    next.push(State { bytes, loss: state.loss + of.loss, excess, from, choice });
                }
            }
        }
        states = undominated(next);
        if states.len() > STATES {
            states.sort_by(|a, b| a.excess.total_cmp(&b.excess));
            left_out = states.iter().skip(STATES).fold(left_out, |least, s| least.min(s.excess));
            states.truncate(STATES);
        }
        history.push(states.iter().map(|state| (state.from, state.choice)).collect());
    }
    let found = states
        .iter()
        .enumerate()
        .min_by(|(_, a), (_, b)| a.loss.total_cmp(&b.loss).then(a.bytes.cmp(&b.bytes)));
    if let Some((end, state)) = found
        && (state.loss, state.bytes) < (best.loss, best.bytes)
    {
        let mut at = end;
        for (&item, made) in order.iter().zip(&history).rev() {
            let Some(&(from, choice)) = made.get(at) else { break };
            if let Some(chosen) = best.chosen.get_mut(item) {
                *chosen = choice;
            }
            at = from;
        }
        let chosen = std::mem::take(&mut best.chosen);
        best = total(items, &chosen);
    }
    best.gap = if left_out.is_finite() { (best.loss - bound - left_out).max(0.0) } else { 0.0 };
    Some(best)
}

/// A combination of choices for some of the items.
#[derive(Clone, Copy, Debug)]
struct State {
    bytes: u64,
    loss: f64,
    /// By how much it is above what the multiplier would choose.
    excess: f64,
    /// Where it came from, and by which choice.
    from: usize,
    choice: usize,
}

/// Those that no other beats in both size and loss.
fn undominated(mut states: Vec<State>) -> Vec<State> {
    states.sort_by(|a, b| a.bytes.cmp(&b.bytes).then(a.loss.total_cmp(&b.loss)));
    let mut least = f64::INFINITY;
    states.retain(|state| {
        let better = state.loss < least;
        least = least.min(state.loss);
        better
    });
    states
}

/// The choice of each item that costs least, the smaller of equal ones.
fn choose(items: &[Vec<Choice>], cost: impl Fn(&Choice) -> f64) -> Vec<usize> {
    let of_item = |item: &Vec<Choice>| {
        let all = item.iter().enumerate();
        let least = all.min_by(|(_, a), (_, b)| {
            cost(a).total_cmp(&cost(b)).then(a.bytes.cmp(&b.bytes)).then(a.loss.total_cmp(&b.loss))
        });
        least.map_or(0, |(index, _)| index)
    };
    items.iter().map(of_item).collect()
}

fn total(items: &[Vec<Choice>], chosen: &[usize]) -> Solution {
    let choices = items.iter().zip(chosen).filter_map(|(item, index)| item.get(*index));
    let (bytes, loss) = choices.fold((0u64, 0.0), |(bytes, loss), choice| {
        (bytes.saturating_add(choice.bytes), loss + choice.loss)
    });
    Solution { chosen: chosen.to_vec(), bytes, loss, gap: 0.0 }
}

/// The smallest multiplier whose choice fits, nearly, and that choice.
fn relax(items: &[Vec<Choice>], budget: u64, smallest: Vec<usize>) -> (f64, Solution) {
    let at = |multiplier: f64| {
        let cost = |choice: &Choice| choice.loss + multiplier * choice.bytes as f64;
        total(items, &choose(items, cost))
    };
    let free = at(0.0);
    if free.bytes <= budget {
        return (0.0, free);
    }
    let (mut low, mut high, mut best) = (0.0, 1e-12, total(items, &smallest));
    while high < 1e12 && at(high).bytes > budget {
        (low, high) = (high, high * 4.0);
    }
    for _ in 0..80 {
        let middle = 0.5 * (low + high);
        let found = at(middle);
        if found.bytes <= budget {
            (high, best) = (middle, found);
        } else {
            low = middle;
        }
    }
    (high, best)
}

/// Spends what is left of the budget where it helps most.
fn fill(items: &[Vec<Choice>], budget: u64, mut solution: Solution) -> Solution {
    loop {
        let left = budget.saturating_sub(solution.bytes);
        let mut best: Option<(f64, usize, usize)> = None;
        for (i, (item, chosen)) in items.iter().zip(&solution.chosen).enumerate() {
            let Some(now) = item.get(*chosen) else { continue };
            for (j, choice) in item.iter().enumerate() {
                let gain = now.loss - choice.loss;
                let fits = choice.bytes <= now.bytes.saturating_add(left);
                if gain > 0.0 && fits && best.is_none_or(|(most, ..)| gain > most) {
                    best = Some((gain, i, j));
                }
            }
        }
        let Some((_, item, choice)) = best else { return solution };
        if let Some(chosen) = solution.chosen.get_mut(item) {
            *chosen = choice;
        }
        solution = total(items, &solution.chosen);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All combinations.
    fn naive(items: &[Vec<Choice>], budget: u64) -> Option<(f64, u64)> {
        let mut all = vec![(0.0, 0u64)];
        for item in items {
            all = all
                .iter()
                .flat_map(|(loss, bytes)| {
                    item.iter().map(move |c| (loss + c.loss, bytes + c.bytes))
                })
                .collect();
        }
        all.retain(|(_, bytes)| *bytes <= budget);
        all.into_iter().min_by(|a, b| a.0.total_cmp(&b.0))
    }

    fn random(seed: &mut u64) -> u64 {
        *seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        *seed >> 33
    }

    fn items(seed: &mut u64, count: usize) -> Vec<Vec<Choice>> {
        let mut one = || Choice {
            bytes: 32 * (1 + random(seed) % 40),
            loss: (random(seed) % 1000) as f64 / 999.0,
        };
        (0..count).map(|i| (0..1 + i % 5).map(|_| one()).collect()).collect()
    }

    #[test]
    fn the_best_of_all_combinations_is_found() {
        let mut seed = 7;
        for round in 0..300 {
            let items = items(&mut seed, 1 + round % 8);
            let most: u64 = items.iter().filter_map(|i| i.iter().map(|c| c.bytes).max()).sum();
            for share in [0, 30, 45, 60, 80, 100] {
                let budget = most * share / 100;
                let found = solve(&items, budget);
                let expected = naive(&items, budget);
                assert_eq!(found.is_some(), expected.is_some(), "{items:?} {budget}");
                let (Some(found), Some((loss, _))) = (found, expected) else { continue };
                assert!(found.bytes <= budget && found.gap == 0.0);
                assert!((found.loss - loss).abs() < 1e-9, "{found:?} {loss} {items:?} {budget}");
                assert_eq!(total(&items, &found.chosen).bytes, found.bytes);
            }
        }
    }

    /// As a model of 60 layers, with losses that fall by powers.
    #[test]
    fn large_problems_are_solved_exactly_and_leave_little() {
        let mut seed = 3;
        let bits = [2.0625, 2.5625, 2.625, 3.0625, 3.4375, 4.25, 4.5, 5.5, 6.5625, 8.5, 16.0f64];
        let items: Vec<Vec<Choice>> = (0..420)
            .map(|_| {
                let weights = 65536 * (16 + random(&mut seed) % 512);
                let sensitivity = (1 + random(&mut seed) % 1000) as f64;
                let choice = |bits: &f64| {
                    let wobble = 1.0 + (random(&mut seed) % 100) as f64 / 500.0;
                    Choice {
                        bytes: (weights as f64 * bits / 8.0) as u64,
                        loss: sensitivity * wobble * (-1.3 * bits).exp2(),
                    }
                };
                bits.iter().map(choice).collect()
            })
            .collect();
        let most: u64 = items.iter().filter_map(|i| i.last().map(|c| c.bytes)).sum();
        for share in [15, 20, 29, 41] {
            let budget = most * share / 100;
            let found = solve(&items, budget).expect("it fits");
            assert!(found.bytes <= budget && found.gap == 0.0, "{}", found.gap);
            assert!(budget - found.bytes < budget / 10_000, "{} left", budget - found.bytes);
        }
    }

    #[test]
    fn nothing_to_choose_from_is_solved() {
        assert_eq!(solve(&[], 0).map(|s| s.bytes), Some(0));
        let one = [vec![Choice { bytes: 64, loss: 1.0 }]];
        assert!(solve(&one, 63).is_none());
        assert_eq!(solve(&one, 64).map(|s| s.chosen), Some(vec![0]));
    }
}
