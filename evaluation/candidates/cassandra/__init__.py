"""Apache Cassandra as a candidate: lightweight transactions, one node, from Maven's jars."""
