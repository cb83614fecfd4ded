"""Superclasses from a confusion matrix."""
