//! Passes over the graph, each of which removes or moves work.

pub(crate) mod attention;
pub(crate) mod column_order;
pub(crate) mod constant_folding;
pub(crate) mod fusion;
pub(crate) mod layer_norm;
pub(crate) mod layout;
pub(crate) mod merge_projections;
pub(crate) mod parsing_views;
pub(crate) mod part_handoff;
pub(crate) mod stride_folding;
