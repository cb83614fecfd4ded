"""Trained models at work, outside of the runs that made them."""
