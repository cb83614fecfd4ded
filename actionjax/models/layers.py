"""Convolution, pooling and normalisation over clips, float[B,T,H,W,C].

One 3D convolution serves every network here. What it computes never depends on
the backend; how it is computed does. XLA hands the 3D convolutions of GPUs and
TPUs to good kernels, but its CPU backend only does so in two dimensions: there a
3D convolution, and above all its gradient, takes several times as long as the
same arithmetic spelled as matrix products and 2D convolutions. `python -m
actionjax.benchmark --convolutions` measures it.
"""
import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

LOWERINGS = ("auto", "direct", "decomposed")

_3D = ("NTHWC", "THWIO", "NTHWC")
_2D = ("NHWC", "HWIO", "NHWC")

# He et al.'s initialiser by fan-out, as the residual networks here are trained with.
he_fan_out = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


def compiler_options() -> dict[str, str]:
  """Options for `jax.jit(..., compiler_options=...)` under which networks run fast.

  On CPU, XLA gives each 2D convolution to a library (YNNPACK) that runs it on a
  single thread; without it they use all cores, and take up to half as long on two
  that are free. Its own loops leave half of the widest vector registers empty; with
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
            "LIBRARY_FUSION_TYPE_DOT,LIBRARY_FUSION_TYPE_REDUCE",
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


def same_padding(sizes: Sequence[int], window: Sequence[int], strides: Sequence[int],
                 ) -> tuple[tuple[int, int], ...]:
  """TensorFlow's SAME padding, ((low, high), ...): what is odd goes to the high side."""
  padding = []
  for size, width, stride in zip(sizes, window, strides):
    total = max((-(-size // stride) - 1) * stride + width - size, 0)
    padding.append((total // 2, total - total // 2))
  return tuple(padding)


def _resolve_padding(padding, sizes, window, strides):
  """"SAME", "VALID" or explicit pairs -> ((low, high),)*3. Raises ValueError otherwise."""
  if padding == "SAME":
    return same_padding(sizes, window, strides)
  if padding == "VALID":
    return ((0, 0),) * 3
  if isinstance(padding, str) or len(padding) != 3:
    raise ValueError(f"padding {padding!r}: give 'SAME', 'VALID' or three pairs (low, high)")
  return tuple((int(low), int(high)) for low, high in padding)


def conv3d(x: jax.Array, kernel: jax.Array, strides: Sequence[int] = (1, 1, 1),
           padding: str | Sequence[tuple[int, int]] = "SAME", lowering: str = "auto",
           feature_group_count: int = 1) -> jax.Array:
  """3D convolution (cross-correlation) of clips.

  Args:
    x: float[B,T,H,W,I].
    kernel: float[t,h,w,I/groups,O].
    strides: (t, h, w).
    padding: "SAME" (TensorFlow's), "VALID", or ((low, high),)*3 of zeros.
    lowering: "direct" is one XLA convolution; "decomposed" spells it as matrix
      products and 2D convolutions; "auto" takes the latter on CPU only. Both agree
      to rounding, in value and gradient.
    feature_group_count: channel groups; with more than one, every lowering is direct
      except for depthwise kernels.

  Returns:
    float[B,T',H',W',O] in x's type.

  Raises:
    ValueError: unknown lowering or malformed padding.
  """
  if lowering not in LOWERINGS:
    raise ValueError(f"unknown lowering {lowering!r}; known: {', '.join(LOWERINGS)}")
  strides = tuple(strides)
  padding = _resolve_padding(padding, x.shape[1:4], kernel.shape[:3], strides)
  decomposed = (lowering == "decomposed"
                or lowering == "auto" and jax.default_backend() == "cpu")
  depthwise = feature_group_count == x.shape[-1] == kernel.shape[-1] > 1
  if not decomposed or (feature_group_count != 1 and not depthwise):
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=_3D,
                                    feature_group_count=feature_group_count)
  if x.dtype in (jnp.bfloat16, jnp.float16):
    # Partial sums are kept in float32, as one direct convolution would; CPUs have no
    # faster arithmetic for these types anyway.
    y = conv3d(x.astype(jnp.float32), kernel.astype(jnp.float32), strides, padding,
               "decomposed", feature_group_count)
    return y.astype(x.dtype)
  if depthwise:
    return _depthwise(x, kernel, strides, padding)
  return _decomposed(x, kernel, strides, padding)


def _decomposed(x, kernel, strides, padding):
  """Chooses by the kernel's shape. Only axes other than the batch are cut or merged
  behind it, so that a batch sharded over devices stays where it is."""
  # Strides along axes where the kernel is one wide and unpadded only drop positions.
  for axis in range(3):
    if kernel.shape[axis] == 1 and padding[axis] == (0, 0) and strides[axis] > 1:
      x = lax.slice_in_dim(x, 0, None, strides[axis], axis + 1)
      strides = (*strides[:axis], 1, *strides[axis + 1:])
  plain = [kernel.shape[axis] == strides[axis] == 1 and padding[axis] == (0, 0)
           for axis in range(3)]
  if all(plain):
    return _product(x, kernel[0, 0, 0])
  if plain[0]:
    return _spatial(x, kernel[0], strides[1:], padding[1:])
  if plain[1] and plain[2] and strides[0] == 1 and 2 * kernel.shape[-1] <= x.shape[-1]:
    return _temporal(x, kernel[:, 0, 0], padding[0])
  if plain[1] and plain[2]:
    # A 2D convolution over (time, position).
    b, t, h, w, c = x.shape
    y = lax.conv_general_dilated(x.reshape(b, t, h * w, c), kernel[:, :, 0], (strides[0], 1),
                                 (padding[0], (0, 0)), dimension_numbers=_2D)
    return y.reshape(b, y.shape[1], h, w, y.shape[-1])
  if x.shape[-1] <= 4:
    return _stacked_taps(x, kernel, strides, padding)
  if strides[0] == 1:
    return _output_taps(x, kernel, strides, padding)
  return _input_taps(x, kernel, strides, padding)


def _product(x, kernel):
  """[...,I] with a kernel [I,O], as a product of two matrices: of one with more axes, XLA copies
  the transpose for the kernel's gradient."""
  return (x.reshape(-1, x.shape[-1]) @ kernel).reshape(*x.shape[:-1], kernel.shape[-1])


def _spatial(x, kernel, strides, padding):
  """[B,T,H,W,I] with a kernel [h,w,I,O]: a 2D convolution of B·T images."""
  b, t = x.shape[:2]
  convolve = _convolve if max(strides) == 1 else _strided
  y = convolve(x.reshape(b * t, *x.shape[2:]), kernel, tuple(strides), tuple(padding))
  return y.reshape(b, t, *y.shape[1:])


def _convolve(x, kernel, strides, padding):
  if min(min(pair) for pair in padding) < 0:
    # XLA's convolutions on CPU read beyond an array that negative padding crops.
    x = lax.pad(x, jnp.array(0, x.dtype), [(0, 0, 0), *((*pair, 0) for pair in padding), (0, 0, 0)])
    padding = ((0, 0), (0, 0))
  return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=_2D)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _strided(x, kernel, strides, padding):
  """`_convolve` with a gradient of the input that leaves out the zeros which XLA puts between the
  output's pixels to convolve them. In reverse mode only."""
  return _convolve(x, kernel, strides, padding)


def _strided_forward(x, kernel, strides, padding):
  return _convolve(x, kernel, strides, padding), (x, kernel)


def _strided_backward(strides, padding, saved, dy):
  x, kernel = saved
  _, of_kernel = jax.vjp(lambda k: _convolve(x, k, strides, padding), kernel)
  return _input_gradient(dy, kernel, x.shape, strides, padding), *of_kernel(dy)


_strided.defvjp(_strided_forward, _strided_backward)


def _input_gradient(dy, kernel, shape, strides, padding):
  """Of `_convolve`, by phases: input pixels s·q + r of one r were read by every s-th tap alone, so
  that their gradient is a plain convolution of `dy` [N,h,w,O]. The phases are then interleaved."""
  (sh, sw), (height, width) = strides, shape[1:3]
  cells = -(-height // sh), -(-width // sw)

  def taps(axis, r):
    # Output o read s·o + tap - low: tap first + s·u took pixel s·q + r for o = q + shift - u.
    shift, first = divmod(r + padding[axis][0], strides[axis])
    count = max(0, -(-(kernel.shape[axis] - first) // strides[axis]))
    low = count - 1 - shift
    return first, count, (low, cells[axis] + count - 1 - low - dy.shape[1 + axis])

  def phase(r, c):
    (top, rows, vertical), (left, columns, horizontal) = taps(0, r), taps(1, c)
    if not rows or not columns:
      return jnp.zeros((len(dy), *cells, shape[-1]), dy.dtype)
    used = kernel[top::sh, left::sw][::-1, ::-1].swapaxes(2, 3)
    return _convolve(dy, used, (1, 1), (vertical, horizontal))

  rows = [jnp.stack([phase(r, c) for c in range(sw)], 3).reshape(
      len(dy), cells[0], cells[1] * sw, shape[-1]) for r in range(sh)]
  return jnp.stack(rows, 2).reshape(
      len(dy), cells[0] * sh, cells[1] * sw, shape[-1])[:, :height, :width]


def _temporal(x, kernel, padding):
  """[B,T,H,W,I] with a kernel [t,I,O], O much smaller than I, as in bottlenecks: one matrix product
  for all taps, whose results are shifted in time and added. XLA transposes the input for the
  gradient of a convolution, and into these copies it fuses all that made the input, residual sums
  and batch norms included."""
  taps, inputs, outputs = kernel.shape
  y = _product(x, jnp.moveaxis(kernel, 0, 1).reshape(inputs, taps * outputs))
  return _added([y[..., tap * outputs:(tap + 1) * outputs] for tap in range(taps)], padding)


def _added(parts, padding):
  """The sum of what each temporal tap makes of every frame: output frame t is made of input frame
  t + tap - low."""
  low, high = padding
  last = len(parts) - 1
  return sum(_pad(part, ((low - tap, high - (last - tap)), (0, 0), (0, 0)))
             for tap, part in enumerate(parts))


def _time_slices(x, width, stride, padding):
  """The `width` shifted views of a clip that a temporal kernel's taps read."""
  x = _pad(x, (padding, (0, 0), (0, 0)))
  length = (x.shape[1] - width) // stride + 1
  return [lax.slice_in_dim(x, tap, tap + (length - 1) * stride + 1, stride, 1)
          for tap in range(width)]


def _output_taps(x, kernel, strides, padding):
  """Temporal stride 1: convolves every frame with each temporal tap, then adds the
  results shifted in time, so that the input is never copied."""
  return _added([_spatial(x, tap, strides[1:], padding[1:]) for tap in kernel], padding[0])


def _input_taps(x, kernel, strides, padding):
  """Temporal stride over 1: each tap convolves only the frames that it is used on."""
  slices = _time_slices(x, kernel.shape[0], strides[0], padding[0])
  return sum(_spatial(frames, kernel[tap], strides[1:], padding[1:])
             for tap, frames in enumerate(slices))


def _stacked_taps(x, kernel, strides, padding):
  """Few input channels (a stem): the taps' frames are stacked on the channel axis,
  since a 2D convolution of three channels leaves most of the arithmetic units idle."""
  slices = _time_slices(x, kernel.shape[0], strides[0], padding[0])
  kernel = jnp.moveaxis(kernel, 0, 2)
  kernel = kernel.reshape(*kernel.shape[:2], -1, kernel.shape[-1])
  return _spatial(jnp.concatenate(slices, -1), kernel, strides[1:], padding[1:])


def _depthwise(x, kernel, strides, padding):
  """Depthwise: a sum of shifted views times one weight per channel, which XLA fuses."""
  x = _pad(x, padding)
  views = _windows(x, kernel.shape[:3], strides)
  return sum(view * weight for view, weight in zip(views, kernel.reshape(-1, x.shape[-1])))


def _windows(x, window, strides):
  """The shifted, strided views of [B,T,H,W,C] that a window reads, in row-major order."""
  views = [x]
  for axis, (width, stride) in enumerate(zip(window, strides), 1):
    length = (x.shape[axis] - width) // stride + 1
    views = [lax.slice_in_dim(view, tap, tap + (length - 1) * stride + 1, stride, axis)
             for view in views for tap in range(width)]
  return views


def _pad(x, padding, value=0.0):
  """Pads (or, where negative, crops) T, H and W."""
  if all(pair == (0, 0) for pair in padding):
    return x
  config = [(0, 0, 0), *((low, high, 0) for low, high in padding), (0, 0, 0)]
  return lax.pad(x, jnp.array(value, x.dtype), config)


class Conv3D(nn.Module):
  """3D convolution, float[B,T,H,W,I] -> float[B,T',H',W',features].

  Parameters: `kernel` [t,h,w,I/groups,O] and, with use_bias, `bias` [O]; the same for
  every lowering, so a checkpoint moves between backends.

  Attributes:
    features: output channels O.
    kernel_size, strides: (t, h, w).
    padding, lowering, feature_group_count: as in `conv3d`.
    dtype: type computed in (None: that of input and parameters together).
    param_dtype: type of the parameters.
  """
  features: int
  kernel_size: Sequence[int]
  strides: Sequence[int] = (1, 1, 1)
  padding: str | Sequence[tuple[int, int]] = "SAME"
  use_bias: bool = False
  feature_group_count: int = 1
  lowering: str = "auto"
  dtype: Any = None
  param_dtype: Any = jnp.float32
  kernel_init: Callable = he_fan_out
  bias_init: Callable = nn.initializers.zeros_init()

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    if x.ndim != 5:
      raise ValueError(f"{self.name or 'Conv3D'} wants [B,T,H,W,C], got shape {x.shape}")
    shape = (*self.kernel_size, x.shape[-1] // self.feature_group_count, self.features)
    kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype)
    bias = (self.param("bias", self.bias_init, (self.features,), self.param_dtype)
            if self.use_bias else None)
    x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
    x = conv3d(x, kernel, self.strides, self.padding, self.lowering, self.feature_group_count)
    return x if bias is None else x + bias


def batch_norm(momentum: float = 0.9, epsilon: float = 1e-5, use_scale: bool = True,
               **kwargs) -> Callable[..., nn.BatchNorm]:
  """A partial of flax's BatchNorm; call it with `train` and a name to get the module.

  Statistics and parameters stay float32 whatever the input's type. Under jit with a
  sharded batch the statistics are those of the global batch. `momentum` is the share
  of the old running mean that is kept: PyTorch's 0.1 is 0.9 here. PyTorch and flax
  differ in the running variance: flax stores the biased one.
  """
  def make(*, train: bool, **more):
    return nn.BatchNorm(use_running_average=not train, momentum=momentum, epsilon=epsilon,
                        use_scale=use_scale, param_dtype=jnp.float32, **kwargs, **more)
  return make


class ConvUnit(nn.Module):
  """Convolution, batch norm, ReLU; [B,T,H,W,I] -> [B,T',H',W',features].

  Parameters are `conv` and `bn`. With `factorised`, a kernel that extends in both space
  and time becomes 1×k×k, batch norm, ReLU (`spatial`, `bn_spatial`), then k×1×1.

  Attributes:
    norm: from `batch_norm`.
    padding: "SAME", or None for (k//2, k//2), PyTorch's habit.
    activate: whether the ReLU at the end is there.
    zero_scale: starts the last batch norm's scale at 0 instead of 1.
    factorised: width between the two halves, or None for one whole kernel.
  """
  features: int
  kernel_size: tuple[int, int, int]
  strides: tuple[int, int, int] = (1, 1, 1)
  norm: Callable[..., nn.BatchNorm] = batch_norm()
  padding: str | None = None
  activate: bool = True
  zero_scale: bool = False
  factorised: int | None = None
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    def conv(features, kernel_size, strides, name):
      padding = self.padding or tuple((k // 2, k // 2) for k in kernel_size)
      return Conv3D(features, kernel_size, strides, padding, dtype=self.dtype, name=name)

    (kt, kh, kw), (st, sh, sw) = self.kernel_size, self.strides
    if self.factorised and kt > 1 and kh * kw > 1:
      x = conv(self.factorised, (1, kh, kw), (1, sh, sw), "spatial")(x)
      x = nn.relu(self.norm(train=train, dtype=self.dtype, name="bn_spatial")(x))
      kh = kw = sh = sw = 1
    x = conv(self.features, (kt, kh, kw), (st, sh, sw), "conv")(x)
    scale = {"scale_init": nn.initializers.zeros_init()} if self.zero_scale else {}
    x = self.norm(train=train, dtype=self.dtype, name="bn", **scale)(x)
    return nn.relu(x) if self.activate else x


def max_pool(x: jax.Array, window: Sequence[int], strides: Sequence[int] | None = None,
             padding: str | Sequence[tuple[int, int]] = "VALID",
             lowering: str = "auto") -> jax.Array:
  """Maximum over windows (t, h, w) of [B,T,H,W,C]; padding counts as minus infinity.

  "direct" is XLA's reduce-window. On CPU its gradient scatters one window at a time;
  "decomposed" takes maxima of shifted views, axis after axis, four to twenty times as
  fast forward and backward. Values are equal. Gradients are too, except among equal
  largest values: "direct" gives all to the first, "decomposed" shares it between
  them (halving at each comparison). After a ReLU most ties are zeros, whose gradient
  the ReLU stops either way.

  Raises:
    ValueError: unknown lowering or malformed padding.
  """
  if lowering not in LOWERINGS:
    raise ValueError(f"unknown lowering {lowering!r}; known: {', '.join(LOWERINGS)}")
  strides = tuple(strides or window)
  padding = _resolve_padding(padding, x.shape[1:4], window, strides)
  if lowering == "direct" or lowering == "auto" and jax.default_backend() != "cpu":
    return nn.max_pool(x, tuple(window), strides, padding)
  x = _pad(x, padding, -jnp.inf)
  for axis in range(3):
    one = [1, 1, 1]
    one[axis] = window[axis]
    step = [1, 1, 1]
    step[axis] = strides[axis]
    x = functools.reduce(jnp.maximum, _windows(x, one, step))
  return x


def avg_pool(x: jax.Array, window: Sequence[int], strides: Sequence[int] | None = None,
             padding: str | Sequence[tuple[int, int]] = "VALID",
             count_include_pad: bool = False) -> jax.Array:
  """Mean over windows (t, h, w) of [B,T,H,W,C].

  Padded positions are left out of the mean (TensorFlow's way) unless
  count_include_pad, PyTorch's default.

  Raises:
    ValueError: malformed padding.
  """
  strides = tuple(strides or window)
  padding = _resolve_padding(padding, x.shape[1:4], window, strides)
  return nn.avg_pool(x, tuple(window), strides, padding, count_include_pad=count_include_pad)
