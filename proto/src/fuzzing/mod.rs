//! Bodies of the fuzz targets. Each takes arbitrary bytes and panics on a finding.

pub mod data_packet;
pub mod replay_vs_model;
pub mod seal_open;

#[cfg(test)]
mod tests;
