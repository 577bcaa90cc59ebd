//! room

mod challenge;
