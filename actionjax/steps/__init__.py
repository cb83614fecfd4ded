"""The kinds of steps a recipe is made of, one module each.

`actionjax.planning` says what such a module has; a config may name one of its own by a dotted path.
"""
