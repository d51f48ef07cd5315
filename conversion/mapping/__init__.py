"""Pure functions on tensors and keys: the key-map engine, splitting and fusing."""
