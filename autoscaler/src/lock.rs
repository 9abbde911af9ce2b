//! Taking a lock whatever became of its holder before.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The value in `mutex`. A holder that panicked left it as it was after its last statement, which is
/// as good as any: everything here is written whole.
pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
