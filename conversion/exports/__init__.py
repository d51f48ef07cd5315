"""What a converted model becomes beyond transformers: written for a runtime, run there, and judged like the model."""
