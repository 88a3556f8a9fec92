"""etcd as a candidate: compare-and-swap transactions, and a copy that a watch keeps."""
