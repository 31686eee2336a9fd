//! Who looks at a run.

use super::matrix::Matrix;

/// Sees what goes into the products with weights.
pub trait Observer {
    /// The rows of activations that meet a tensor, `columns` values each: those of all tokens of a
    /// chunk in their order; of a tensor with experts those that pass one of them, expert by expert.
    fn matmul_input(&mut self, tensor: &str, expert: Option<usize>, rows: &[f32], columns: usize);

    /// The same rows where they meet several tensors, which need be looked at once only.
    fn matmul_inputs(
        &mut self,
        tensors: &[&str],
        expert: Option<usize>,
        rows: &[f32],
        columns: usize,
    ) {
        for tensor in tensors {
            self.matmul_input(tensor, expert, rows, columns);
        }
    }
}

/// The observer of a run, if there is one.
pub(crate) struct Watch<'a>(pub(crate) Option<&'a mut dyn Observer>);

impl Watch<'_> {
    pub(crate) fn input(&mut self, matrix: &Matrix, rows: &[f32]) {
        self.inputs(&[matrix], rows);
    }

    /// Rows that meet several matrices.
    pub(crate) fn inputs(&mut self, matrices: &[&Matrix], rows: &[f32]) {
        if let (Some(observer), Some(first)) = (&mut self.0, matrices.first()) {
            let names: Vec<_> = matrices.iter().map(|matrix| matrix.name.as_str()).collect();
            observer.matmul_inputs(&names, None, rows, first.columns);
        }
    }

    /// Rows of which each meets the next `used` of the ids, in each of some matrices.
    pub(crate) fn expert_inputs(
        &mut self,
        matrices: &[&Matrix],
        x: &[f32],
        ids: &[u32],
        used: usize,
    ) {
        let (Some(observer), Some(matrix)) = (&mut self.0, matrices.first()) else { return };
        let names: Vec<_> = matrices.iter().map(|matrix| matrix.name.as_str()).collect();
        let mut order: Vec<_> = ids.iter().enumerate().collect();
        order.sort_by_key(|(_, expert)| **expert);
        for same in order.chunk_by(|a, b| a.1 == b.1) {
            let Some((_, expert)) = same.first() else { continue };
            let start = |i: usize| i / used * matrix.columns;
            let row = |i: usize| x.get(start(i)..start(i) + matrix.columns).unwrap_or_default();
            let rows: Vec<f32> = same.iter().flat_map(|(i, _)| row(*i)).copied().collect();
            observer.matmul_inputs(&names, Some(**expert as usize), &rows, matrix.columns);
        }
    }
}
