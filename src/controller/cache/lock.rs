//! Locks a mutex whose content is valid after every statement.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex whose invariants hold after every statement, so that a poisoned lock can be ignored.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
