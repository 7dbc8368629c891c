//! A change is checked, and its parts are found.

use super::*;
