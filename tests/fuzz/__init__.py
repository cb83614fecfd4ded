"""Fuzzing of everything that reads a user's raw files: `python -m tests.fuzz --parser=pickle`.

Inputs are mutated again and again; one that takes a parser's code a new way is kept and mutated
further (`campaign`). Whatever an input is, its parser has to give a sound result or the documented
error in one line: a crash, a hang, an allocation beyond the bound, a file opened elsewhere, a
program or a module started is a finding, kept with its input (`watch`).
"""
