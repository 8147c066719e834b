"""Files on disk: locks between processes, durable writes, checksums and the cache directory."""
