"""The judgement: measures, verdicts, and the known deviations. Knows models and tensors, no families."""
