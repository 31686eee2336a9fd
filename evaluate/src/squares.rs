//! Sums of the squares of what meets the columns of a matrix.

use quant_kernels::Parallel;

use crate::run::split;

/// Columns that are summed together at least: a piece of a row of several cache lines.
const COLUMNS: usize = 128;

/// The sums of the squares of each column, row by row. Each thread has columns of its own, so that their
/// number changes no sum.
pub(crate) fn squares_of(threads: &dyn Parallel, rows: &[f32], columns: usize) -> Vec<f32> {
    let mut squares = vec![0.0f32; columns];
    if columns == 0 {
        return squares;
    }
    let parts = threads.threads().max(1);
    if parts == 1 || rows.len() < split::SMALL {
        sum_squares(&mut squares, rows, columns, 0);
        return squares;
    }
    let width = columns.div_ceil(parts).next_multiple_of(COLUMNS);
    let pieces = squares.chunks_mut(width).enumerate();
    split::pieces(threads, pieces, &|(i, sums)| sum_squares(sums, rows, columns, i * width));
    squares
}

/// Adds the squares of the columns from one on.
fn sum_squares(sums: &mut [f32], rows: &[f32], columns: usize, first: usize) {
    let of_sums = first..first + sums.len();
    // Four rows are added in their order while a sum is in a register.
    for rows in rows.chunks(4 * columns) {
        let mut each =
            rows.chunks_exact(columns).map(|row| row.get(of_sums.clone()).unwrap_or_default());
        match [each.next(), each.next(), each.next(), each.next()] {
            [Some(a), Some(b), Some(c), Some(d)] => {
                let four = a.iter().zip(b).zip(c).zip(d);
                for (sum, (((a, b), c), d)) in sums.iter_mut().zip(four) {
                    *sum = *sum + a * a + b * b + c * c + d * d;
                }
            }
            fewer => {
                for row in fewer.into_iter().flatten() {
                    sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x * x);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use quant_kernels::{Pool, Serial};

    use super::*;

    #[test]
    fn the_number_of_threads_changes_no_sum() {
        let columns = 700;
        let rows: Vec<f32> = (0..columns * 39).map(|i| (i as f32 * 0.7).sin() * 3.0).collect();
        let alone = squares_of(&Serial, &rows, columns);
        let third: f32 = rows.chunks(columns).map(|row| row[3]).fold(0.0, |sum, x| sum + x * x);
        assert_eq!(alone[3], third);
        for threads in [2, 3, 8] {
            let pool = Pool::new(threads.try_into().unwrap()).unwrap();
            assert_eq!(squares_of(&pool, &rows, columns), alone, "{threads} threads");
        }
    }
}
