//! A change begins, steps, is cancelled, and ends.

use super::*;
