"""Plots and tables from a finished workdir."""
