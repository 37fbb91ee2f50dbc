//! Values whose type the compiler should not look into.
//!
//! DataFusion's `LogicalPlan` and `Expr` are large, mutually recursive enums. Every async function
//! that holds one makes the compiler prove anew that the whole of it is `Send`; a dozen such
//! functions cost minutes of build time. Behind a trait object the proof is immediate.

use std::fmt;
use std::sync::Arc;

trait Holds<T>: Send + Sync {
    fn value(&self) -> &T;
}

struct Held<T>(T);

impl<T: Send + Sync> Holds<T> for Held<T> {
    fn value(&self) -> &T {
        &self.0
    }
}

/// A shared value behind a trait object.
pub struct Opaque<T>(Arc<dyn Holds<T>>);

impl<T: Send + Sync + 'static> Opaque<T> {
    /// Hides `value`'s type.
    pub fn new(value: T) -> Self {
        Self(Arc::new(Held(value)))
    }
}

impl<T> Opaque<T> {
    /// The value.
    pub fn get(&self) -> &T {
        self.0.value()
    }
}

impl<T> Clone for Opaque<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: fmt::Debug> fmt::Debug for Opaque<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}
