"""The store: one RocksDB database for each partition, open for writing."""
