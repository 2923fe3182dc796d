"""When the cache is compressed, and to what size."""
