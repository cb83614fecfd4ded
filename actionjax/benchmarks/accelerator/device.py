"""What the device can do at most, measured: matrix products and copies."""
import platform
import statistics
import time

import jax
import jax.numpy as jnp


class Device:
  """Called in a process that holds the device."""

  def describe(self) -> dict:
    """Backend, name and memory of the device, and versions."""
    device = jax.devices()[0]
    stats = device.memory_stats() or {}
    return {"backend": jax.default_backend(), "device": device.device_kind,
            "devices": jax.device_count(), "memory": stats.get("bytes_limit"),
            "jax": jax.__version__, "python": platform.python_version(),
            "date": time.strftime("%Y-%m-%d")}

  def peaks(self, small: bool) -> dict:
    """Largest rates seen: `bfloat16` and `float32` FLOP/s of square products (at JAX's default
    precision, as networks compute), `bandwidth` in bytes/s, read and written."""
    found = {}
    for dtype in ("bfloat16", "float32"):
      rates = []
      for size in (256,) if small else (4096, 8192, 12288):
        x = jax.random.normal(jax.random.key(0), (size, size), jnp.float32).astype(dtype)
        product = jax.jit(lambda a, b: a @ b)
        seconds = repeat(lambda x=x, product=product: product(x, x), 3 if small else 20)
        rates.append(2 * size**3 / seconds)
      found[dtype] = max(rates)
    x = jnp.ones(2**20 if small else 2**29, jnp.bfloat16)
    double = jax.jit(lambda x: x * 2)
    seconds = repeat(lambda: double(x), 3 if small else 20)
    return found | {"bandwidth": 2 * x.nbytes / seconds}


def repeat(call, count: int, blocks: int = 3) -> float:
  """Seconds of a call: the median of blocks of `count` calls that are not waited for one by one."""
  jax.block_until_ready(call())
  times = []
  for _ in range(blocks):
    start = time.perf_counter()
    for _ in range(count):
      result = call()
    jax.block_until_ready(result)
    times.append((time.perf_counter() - start) / count)
  return statistics.median(times)
