"""Ways to compute one 3D convolution, [B,T,H,W,I] with a kernel [t,h,w,I/groups,O].

All of them agree to rounding, in value and gradient; they differ in what a backend makes of them.
XLA hands 2D convolutions in sixteen bits to kernels that read channels last, and 3D ones to kernels
that want them first; its CPU backend computes 3D convolutions, and above all their gradients,
several times slower than the same arithmetic as matrix products and 2D convolutions. Only axes
other than the batch are cut or merged behind it, so that a batch that is split over devices stays
where it is.

Each way is called as `way(x, kernel, strides, padding, groups)` with padding ((low, high),)*3.
"""
import functools

import jax
import jax.numpy as jnp
from jax import lax

_3D = ("NTHWC", "THWIO", "NTHWC")
_3D_CHANNELS_FIRST = ("NCTHW", "THWIO", "NCTHW")
_2D = ("NHWC", "HWIO", "NHWC")


def direct(x, kernel, strides, padding, groups):
  """One XLA convolution."""
  return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=_3D,
                                  feature_group_count=groups)


def channels_first(x, kernel, strides, padding, groups):
  """One XLA convolution in the order (B,C,T,H,W). Between two of them the transposes cancel."""
  y = lax.conv_general_dilated(jnp.moveaxis(x, -1, 1), kernel, strides, padding,
                               dimension_numbers=_3D_CHANNELS_FIRST, feature_group_count=groups)
  return jnp.moveaxis(y, 1, -1)


def folded(x, kernel, strides, padding, groups):
  """2D convolutions and matrix products: frames are images of the batch; a temporal kernel is one
  over (time, place), and one that extends in space too is a sum over its frames."""
  x, strides = _thinned(x, kernel, strides, padding)
  plain = _plain(kernel, strides, padding)
  if groups > 1:
    convolve = functools.partial(_folded_images, groups=groups)
    return _summed_taps(x, kernel, strides, padding, convolve)
  if all(plain):
    return _product(x, kernel[0, 0, 0])
  if plain[1] and plain[2]:
    return _over_time_and_place(x, kernel, strides[0], padding[0])
  return _summed_taps(x, kernel, strides, padding, _folded_images)


def stacked(x, kernel, strides, padding, groups):
  """As `folded`, but the frames that a temporal kernel reads are copied side by side on the channel
  axis, so that the whole kernel is one 2D convolution or matrix product."""
  if groups > 1 or kernel.shape[0] == 1:
    return folded(x, kernel, strides, padding, groups)
  slices = _time_slices(x, kernel.shape[0], strides[0], padding[0])
  wide = jnp.moveaxis(kernel, 0, 2)
  wide = wide.reshape(*wide.shape[:2], -1, wide.shape[-1])
  return folded(jnp.concatenate(slices, -1), wide[None], (1, *strides[1:]),
                ((0, 0), *padding[1:]), 1)


def decomposed(x, kernel, strides, padding, groups):
  """What two-core CPUs run fastest, chosen by the kernel's shape; gradients of strided kernels are
  convolutions by phases. Kernels in groups that are not depthwise are direct."""
  if groups > 1 and not groups == x.shape[-1] == kernel.shape[-1]:
    return direct(x, kernel, strides, padding, groups)
  if x.dtype in (jnp.bfloat16, jnp.float16) and jax.default_backend() == "cpu":
    # Partial sums are kept in float32, as one direct convolution would; CPUs have no
    # faster arithmetic for these types anyway.
    y = decomposed(x.astype(jnp.float32), kernel.astype(jnp.float32), strides, padding, groups)
    return y.astype(x.dtype)
  if groups > 1:
    return _shifted_views(x, kernel, strides, padding)
  x, strides = _thinned(x, kernel, strides, padding)
  plain = _plain(kernel, strides, padding)
  if all(plain):
    return _product(x, kernel[0, 0, 0])
  if plain[0]:
    return _phased_images(x, kernel[0], strides[1:], padding[1:])
  if plain[1] and plain[2]:
    if strides[0] == 1 and 2 * kernel.shape[-1] <= x.shape[-1]:
      return _temporal_product(x, kernel[:, 0, 0], padding[0])
    return _over_time_and_place(x, kernel, strides[0], padding[0])
  if x.shape[-1] <= 4:
    # A 2D convolution of a stem's three channels leaves most of the arithmetic units idle.
    return stacked(x, kernel, strides, padding, 1)
  return _summed_taps(x, kernel, strides, padding, _phased_images)


WAYS = {"direct": direct, "channels_first": channels_first, "decomposed": decomposed,
        "folded": folded, "stacked": stacked}


def _thinned(x, kernel, strides, padding):
  """Strides along axes where the kernel is one wide and unpadded only drop positions: drops them,
  and returns the strides that are left."""
  for axis in range(3):
    if kernel.shape[axis] == 1 and padding[axis] == (0, 0) and strides[axis] > 1:
      x = lax.slice_in_dim(x, 0, None, strides[axis], axis + 1)
      strides = (*strides[:axis], 1, *strides[axis + 1:])
  return x, strides


def _plain(kernel, strides, padding):
  """Along which axes a convolution does nothing."""
  return [kernel.shape[axis] == strides[axis] == 1 and padding[axis] == (0, 0)
          for axis in range(3)]


def _product(x, kernel):
  """[...,I] with a kernel [I,O], as a product of two matrices: of one with more axes, XLA copies
  the transpose for the kernel's gradient."""
  return (x.reshape(-1, x.shape[-1]) @ kernel).reshape(*x.shape[:-1], kernel.shape[-1])


def _over_time_and_place(x, kernel, stride, padding):
  """A kernel [t,1,1,I,O] as a 2D convolution over (time, position)."""
  b, t, h, w, c = x.shape
  y = lax.conv_general_dilated(x.reshape(b, t, h * w, c), kernel[:, :, 0], (stride, 1),
                               (padding, (0, 0)), dimension_numbers=_2D)
  return y.reshape(b, y.shape[1], h, w, y.shape[-1])


def _summed_taps(x, kernel, strides, padding, convolve):
  """The sum of what `convolve`, `[B,T,H,W,I], [h,w,I,O], strides, padding -> [B,T,H',W',O]`, makes
  of the frames with each temporal tap of the kernel."""
  if strides[0] == 1:
    # Every frame with every tap, the results shifted in time: the input is never copied.
    return _added([convolve(x, tap, strides[1:], padding[1:]) for tap in kernel], padding[0])
  # Each tap convolves only the frames that it is used on.
  slices = _time_slices(x, kernel.shape[0], strides[0], padding[0])
  return sum(convolve(frames, tap, strides[1:], padding[1:])
             for frames, tap in zip(slices, kernel))


def _added(parts, padding):
  """The sum of what each temporal tap makes of every frame: output frame t is made of input frame
  t + tap - low."""
  low, high = padding
  last = len(parts) - 1
  return sum(pad(part, ((low - tap, high - (last - tap)), (0, 0), (0, 0)))
             for tap, part in enumerate(parts))


def _time_slices(x, width, stride, padding):
  """The `width` shifted views of a clip that a temporal kernel's taps read."""
  x = pad(x, (padding, (0, 0), (0, 0)))
  length = (x.shape[1] - width) // stride + 1
  return [lax.slice_in_dim(x, tap, tap + (length - 1) * stride + 1, stride, 1)
          for tap in range(width)]


def _temporal_product(x, kernel, padding):
  """[B,T,H,W,I] with a kernel [t,I,O], O much smaller than I, as in bottlenecks: one matrix product
  for all taps, whose results are shifted in time and added. XLA transposes the input for the
  gradient of a convolution, and into these copies it fuses all that made the input, residual sums
  and batch norms included."""
  taps, inputs, outputs = kernel.shape
  y = _product(x, jnp.moveaxis(kernel, 0, 1).reshape(inputs, taps * outputs))
  return _added([y[..., tap * outputs:(tap + 1) * outputs] for tap in range(taps)], padding)


def _folded_images(x, kernel, strides, padding, groups=1):
  """[B,T,H,W,I] with a kernel [h,w,I/groups,O]: a 2D convolution of B*T images."""
  b, t = x.shape[:2]
  y = _convolve(x.reshape(b * t, *x.shape[2:]), kernel, tuple(strides), tuple(padding), groups)
  return y.reshape(b, t, *y.shape[1:])


def _phased_images(x, kernel, strides, padding):
  """The same, with gradients of strided kernels by phases."""
  if max(strides) == 1:
    return _folded_images(x, kernel, strides, padding)
  b, t = x.shape[:2]
  y = _strided(x.reshape(b * t, *x.shape[2:]), kernel, tuple(strides), tuple(padding))
  return y.reshape(b, t, *y.shape[1:])


def _convolve(x, kernel, strides, padding, groups=1):
  if min(min(pair) for pair in padding) < 0:
    # XLA's convolutions on CPU read beyond an array that negative padding crops.
    x = lax.pad(x, jnp.array(0, x.dtype), [(0, 0, 0), *((*pair, 0) for pair in padding), (0, 0, 0)])
    padding = ((0, 0), (0, 0))
  return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=_2D,
                                  feature_group_count=groups)


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


def _shifted_views(x, kernel, strides, padding):
  """Depthwise: a sum of shifted views times one weight per channel, which XLA fuses."""
  views = windows(pad(x, padding), kernel.shape[:3], strides)
  return sum(view * weight for view, weight in zip(views, kernel.reshape(-1, x.shape[-1])))


def windows(x, window, strides):
  """The shifted, strided views that a window reads: [B,T,H,W,C] -> list of [B,T',H',W',C], in
  row-major order."""
  views = [x]
  for axis, (width, stride) in enumerate(zip(window, strides), 1):
    length = (x.shape[axis] - width) // stride + 1
    views = [lax.slice_in_dim(view, tap, tap + (length - 1) * stride + 1, stride, axis)
             for view in views for tap in range(width)]
  return views


def pad(x, padding, value=0.0):
  """Pads (or, where negative, crops) T, H and W."""
  if all(pair == (0, 0) for pair in padding):
    return x
  config = [(0, 0, 0), *((low, high, 0) for low, high in padding), (0, 0, 0)]
  return lax.pad(x, jnp.array(value, x.dtype), config)
