"""Archives: the records of a log in Parquet files, with a manifest. An archive is read as a log."""
