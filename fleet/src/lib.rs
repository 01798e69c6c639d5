//! What a fleet keeps of what its GPU programs ask of the operating system: one wide table, Parquet in hive partitions, for engines
//! that people already run. [`schema`] has its columns, [`rows`] makes them of a run, [`partition`] writes them.
//! `docs/reference/fleet-schema.md` describes the table for other programs.

pub mod partition;
pub mod rows;
pub mod schema;
