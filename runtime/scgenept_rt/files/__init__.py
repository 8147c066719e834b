"""Files on disk: locks between processes, durable writes, checksums, the cache directory, and errors of files."""
