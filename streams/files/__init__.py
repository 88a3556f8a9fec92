"""The files of a host: who may read them, and when another process uses one."""
