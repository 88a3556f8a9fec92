"""The tables: the RocksDB store, its atomic commit and change feed, readers, the columnar view and queries."""
