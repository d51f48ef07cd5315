"""The architecture of BEiT: what its families, BEiT itself and Data2Vec-Vision, have in common."""
