"""Transport devices: their folder on a file system, their keys, and what is done with them outside a migration."""
