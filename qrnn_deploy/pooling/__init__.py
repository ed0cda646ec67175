"""The pooling operator: its specification and its PyTorch form."""
