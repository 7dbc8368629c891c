//! What reads and writes need of owners that change.

use super::*;
