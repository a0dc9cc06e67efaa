"""Long runs: read ahead, shared by processes, kept while they grow, and where every result came from."""
