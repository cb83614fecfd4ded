"""The library's 3D convolution beside XLA's direct one and PyTorch's.

Five kernels of the networks here, float32, forward plus backward with respect to
input and kernel. The contestants take turns in one process, so that whatever else the
machine does falls on all of them alike; the table gives medians.
"""
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

from actionjax.ops import compilation, convolution

# Name, kernel, strides, input channels, output channels.
KERNELS = (
    ("1x3x3", (1, 3, 3), (1, 1, 1), 64, 64),
    ("1x3x3 stride 2", (1, 3, 3), (1, 2, 2), 64, 64),
    ("3x1x1", (3, 1, 1), (1, 1, 1), 64, 64),
    ("1x1x1", (1, 1, 1), (1, 1, 1), 64, 256),
    ("3x3x3", (3, 3, 3), (1, 1, 1), 64, 64),
)
SHAPE = (4, 16, 28, 28)  # B, T, H, W


def run(rounds: int = 7, shape: tuple[int, int, int, int] = SHAPE) -> list[dict]:
  """Measures and prints the table.

  Args:
    rounds: timed turns of each contestant, after two that are not counted.
    shape: B, T, H, W of the input.

  Returns:
    One dict for each kernel and one, named "sum", over all: `kernel`, milliseconds
    `ours`, `direct`, `torch` (None without PyTorch) and the ratios `ours/direct`,
    `ours/torch`.
  """
  rows = []
  for name, kernel_size, strides, inputs, outputs in KERNELS:
    contestants = _contestants(kernel_size, strides, inputs, outputs, shape)
    rows.append({"kernel": name, **_medians(contestants, rounds)})
  total = {"kernel": "sum"}
  for column in ("ours", "direct", "torch"):
    times = [row.get(column) for row in rows]
    total[column] = None if None in times else sum(times)
  rows.append(total)
  for row in rows:
    row.setdefault("torch", None)
    row["ours/direct"] = row["ours"] / row["direct"]
    row["ours/torch"] = row["ours"] / row["torch"] if row["torch"] else None
  print(table(rows, shape))
  return rows


def table(rows: list[dict], shape: tuple[int, ...] = SHAPE) -> str:
  """The rows of `run` as text."""
  columns = ("ours", "direct", "torch", "ours/direct", "ours/torch")
  device = jax.devices()[0]
  lines = [f"Forward and backward, ms; input {'x'.join(map(str, shape))}, float32, "
           f"{device.device_kind} ({device.platform})",
           f"{'kernel':<16}" + "".join(f"{column:>13}" for column in columns)]
  for row in rows:
    cells = ["-" if row[column] is None else
             f"{row[column]:.2f}" if "/" in column else f"{row[column]:.1f}"
             for column in columns]
    lines.append(f"{row['kernel']:<16}" + "".join(f"{cell:>13}" for cell in cells))
  return "\n".join(lines)


def _medians(contestants, rounds):
  times = {name: [] for name in contestants}
  for turn in range(rounds + 2):
    for name, call in contestants.items():
      start = time.perf_counter()
      call()
      if turn >= 2:
        times[name].append((time.perf_counter() - start) * 1e3)
  return {name: statistics.median(values) for name, values in times.items()}


def _contestants(kernel_size, strides, inputs, outputs, shape):
  """Name -> function that runs one forward and backward pass to its end."""
  rng = np.random.default_rng(0)
  x = rng.standard_normal((*shape, inputs), dtype=np.float32)
  kernel = rng.standard_normal((*kernel_size, inputs, outputs), dtype=np.float32) * 0.1
  padding = tuple((k // 2, k // 2) for k in kernel_size)

  def ours(lowering, options):
    def step(x, kernel, cotangent):
      y, pull = jax.vjp(
          lambda x, kernel: convolution.conv3d(x, kernel, strides, padding, lowering), x, kernel)
      return y, *pull(cotangent)

    device_x, device_kernel = jnp.asarray(x), jnp.asarray(kernel)
    y = jax.eval_shape(
        lambda: convolution.conv3d(device_x, device_kernel, strides, padding, lowering))
    cotangent = jnp.ones(y.shape)
    compiled = jax.jit(step, compiler_options=options)
    return lambda: jax.block_until_ready(compiled(device_x, device_kernel, cotangent))

  contestants = {"ours": ours("auto", compilation.compiler_options()), "direct": ours("direct", {})}
  torch = _torch_step(x, kernel, strides, padding)
  if torch is not None:
    contestants["torch"] = torch
  return contestants


def _torch_step(x, kernel, strides, padding):
  """PyTorch's pass on the same device kind, in its own layout; None where it can't."""
  try:
    import torch
  except ImportError:
    return None
  on_gpu = jax.default_backend() == "gpu"
  if jax.default_backend() not in ("cpu", "gpu") or on_gpu and not torch.cuda.is_available():
    return None
  device = "cuda" if on_gpu else "cpu"
  x = torch.tensor(np.moveaxis(x, -1, 1).copy(), device=device).requires_grad_()
  kernel = torch.tensor(kernel.transpose(4, 3, 0, 1, 2).copy(), device=device).requires_grad_()
  convolve = lambda: torch.nn.functional.conv3d(
      x, kernel, stride=strides, padding=tuple(low for low, _ in padding))
  cotangent = torch.ones_like(convolve())

  def step():
    x.grad = kernel.grad = None
    convolve().backward(cotangent)
    if on_gpu:
      torch.cuda.synchronize()
  return step
