"""The parity suite as a pytest plugin: what a run verifies, reports and keeps."""
