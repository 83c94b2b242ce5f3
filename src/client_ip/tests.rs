//! Tests of the module as a whole.

pub(super) mod support;

mod case_table;
