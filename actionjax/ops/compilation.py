"""How programs are compiled."""
import functools

import jax
import jax.numpy as jnp


def compiler_options() -> dict[str, str]:
  """Options for `jax.jit(..., compiler_options=...)` under which networks run fast.

  On CPU, XLA gives each 2D convolution to a library (YNNPACK) that runs it on a
  single thread; without it they use all cores, and take up to half as long on two
  that are free. Matrix products go to it one by one: with what follows them, it would
  want every vector that is added to the rows of a feature map as a map of its own, all
  of them at once (Pose-SlowOnly at test: 3.2 times the memory, 1.7 times the time).
  Its own loops leave half of the widest vector registers empty; with
  all of them heat maps of limbs are drawn in three quarters of the time. Elsewhere
  there is nothing to set: the result is empty. An option that this XLA does not know
  is left out.
  """
  return dict(_compiler_options(jax.default_backend()))


@functools.cache
def _compiler_options(backend):
  if backend != "cpu":
    return {}
  wanted = {"xla_cpu_experimental_ynn_fusion_type":
            "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE",
            "xla_cpu_prefer_vector_width": "512"}
  return {option: value for option, value in wanted.items() if _is_known({option: value})}


def _is_known(options):
  try:
    with jax.ensure_compile_time_eval():
      jax.jit(lambda x: x + 1, compiler_options=options).lower(
          jax.ShapeDtypeStruct((), jnp.float32)).compile()
  except Exception:  # XLA names an unknown option or value in errors of several types.
    return False
  return True
