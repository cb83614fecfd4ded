"""Training and inference speed of the library's networks on an accelerator, PyTorch beside them.

`session.run` starts processes that hold the device (`jax_side`, `torch_side`), measures `cases` and
`kernels` in the order of their importance, and writes what is finished after each.
"""
from actionjax.benchmarks.accelerator.session import run

__all__ = ["run"]
