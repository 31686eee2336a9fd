//! A value that is made when it is first asked for, with and without a standard library.

/// Where threads ask at the same time, one of the values that they make is kept, or one makes it while
/// the others wait: they are equal.
#[derive(Debug)]
#[cfg(feature = "std")]
pub(crate) struct Once<T>(std::sync::OnceLock<T>);

#[cfg(feature = "std")]
impl<T> Once<T> {
    pub(crate) const fn new() -> Self {
        Self(std::sync::OnceLock::new())
    }

    pub(crate) fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        self.0.get_or_init(make)
    }
}

#[derive(Debug)]
#[cfg(not(feature = "std"))]
pub(crate) struct Once<T>(once_cell::race::OnceBox<T>);

#[cfg(not(feature = "std"))]
impl<T> Once<T> {
    pub(crate) const fn new() -> Self {
        Self(once_cell::race::OnceBox::new())
    }

    pub(crate) fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        self.0.get_or_init(|| alloc::boxed::Box::new(make()))
    }
}
