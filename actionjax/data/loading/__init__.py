"""Prepared datasets to batches."""
