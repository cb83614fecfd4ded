"""The kinds of steps a recipe is made of, one module each.

A kind is a module with `Config`, a dataclass of the step's keys, and
`run(config, context) -> artifacts`, a JSON-able dict. A config may name a module of its own by a
dotted path.
"""
