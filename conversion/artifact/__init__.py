"""The converted model on disk: staged, checked, published, with its cards."""
