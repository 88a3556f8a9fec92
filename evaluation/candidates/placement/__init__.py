"""OpenStack Placement on MariaDB as two candidates: as its gate jobs set it up, and at its best."""
