"""The library's part of a case, in a process that holds the device. Driven by `session`."""
import dataclasses
import functools
import pathlib
import re
import tempfile
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from actionjax.benchmarks.accelerator import cases, flops
from actionjax.ops import compilation, convolution
from actionjax.pruning import compact, scores
from actionjax.pruning import masks as pruning_masks
from actionjax.training import optim, state
from actionjax.training.train_step import make_train_step

PASSES = ("train", "forward")


class JaxSide:
  """One case, prepared, compiled and run.

  Methods are called in the order of this text, `block` as often as one likes.
  """

  def prepare(self, name: str, small: bool, lowering: str = "auto", dtype: str = "bfloat16",
              batch_size: int | None = None, form: str = "whole") -> dict:
    """Builds and traces; nothing runs on the device yet.

    Args:
      name: of one of `cases.CASES`.
      lowering: of the convolutions.
      batch_size: instead of the case's own.
      form: "whole"; or, after four passes that each take a tenth of every layer's filters,
        "masked", as training after a pass sees it, or "compacted", without the dead filters.

    Returns:
      `flops` of one clip's forward pass with direct convolutions, `parameters`, and the trained
      `batch_size`.
    """
    self._case = cases.case(name, small)
    self._batch_size = batch_size or self._case.batch_size
    self._dtype, self._lowering = dtype, lowering
    self._model = cases.build(self._case, dtype)
    one = self._abstract_batch(1)
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(0)}
    self._abstract = jax.eval_shape(
        functools.partial(self._model.init, train=False), keys, one)
    self._variables, self._masks = cases.variables(self._abstract), None
    if form != "whole":
      self._prune(form)
    with convolution.forced("direct"):
      count = flops.count(lambda v, b: self._model.apply(v, b, train=False)[0],
                          self._abstract, one)
    self._lower()
    return {"flops": count, "batch_size": self._batch_size,
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(self._abstract["params"]))}

  def tune(self) -> dict:
    """Compiles, XLA trying its kernels out, and puts everything onto the device.

    Returns:
      `compile_s`: seconds of tracing and compilation by pass; `planned` bytes of the training step.
    """
    self._compiled = {}
    for which, lowered in self._lowered.items():
      start = time.perf_counter()
      self._compiled[which] = lowered.compile()
      self._seconds[which] += time.perf_counter() - start
    self._put()
    return {"compile_s": self._seconds, "planned": planned_bytes(self._compiled["train"])}

  def weights(self) -> dict[str, Any]:
    """What the variables are, for the other side: NumPy arrays."""
    return self._variables

  def outputs(self) -> np.ndarray:
    """Logits float32[B,N] of the random weights."""
    return np.asarray(self._compiled["forward"](self._fixed, self._batch), np.float32)

  def block(self, which: str, count: int) -> float:
    """Runs a pass so many times; seconds until the last result is there."""
    start = time.perf_counter()
    if which == "train":
      one = np.float32(1)
      for _ in range(count):
        self._state, metrics = self._compiled["train"](self._state, self._batch, one)
      jax.block_until_ready(metrics)
    else:
      for _ in range(count):
        logits = self._compiled["forward"](self._fixed, self._batch)
      jax.block_until_ready(logits)
    return time.perf_counter() - start

  def memory(self) -> dict:
    """`peak` bytes that the device held and its `limit`; None where the device does not tell."""
    stats = jax.devices()[0].memory_stats() or {}
    return {"peak": stats.get("peak_bytes_in_use"), "limit": stats.get("bytes_limit")}

  def profile(self, steps_traced: int = 3) -> list[dict]:
    """Where a training step's time goes: `op`, an operation of the compiled program, what it
    comes from (`source`), milliseconds and calls a step, the longest first."""
    with tempfile.TemporaryDirectory() as folder:
      with jax.profiler.trace(folder):
        self.block("train", steps_traced)
      file, = pathlib.Path(folder).rglob("*.xplane.pb")
      planes = list(jax.profiler.ProfileData.from_file(str(file)).planes)
    # Accelerators have planes of their own; on CPUs operations stand among the host's events.
    planes = [plane for plane in planes if "/device:" in plane.name] or planes
    sources = dict(re.findall(r'^\s*(?:ROOT )?%?(\S+) = .*?op_name="([^"]*)"',
                              self._compiled["train"].as_text(), re.MULTILINE))
    total: dict[str, list[float]] = {}
    for event in (event for plane in planes for line in plane.lines for event in line.events):
      op = dict(event.stats).get("hlo_op")
      if op:
        entry = total.setdefault(str(op), [0.0, 0])
        entry[0] += event.duration_ns / 1e6 / steps_traced
        entry[1] += 1 / steps_traced
    return [{"op": op, "source": sources.get(op, ""), "ms": ms, "calls": calls}
            for op, (ms, calls) in sorted(total.items(), key=lambda item: -item[1][0])]

  def compile_again(self) -> float:
    """Seconds that tracing and compiling the training step take with JAX's cache on disk, as in a
    process that is started again."""
    self._lower(("train",))
    start = time.perf_counter()
    self._lowered["train"].compile()
    return self._seconds["train"] + time.perf_counter() - start

  def fits(self, batch_size: int) -> bool:
    """Whether a training step of another batch runs. Frees what was there before."""
    self._state = self._batch = self._fixed = self._compiled = None
    self._batch_size = batch_size
    self._lower(("train",))
    try:
      # Kernels need not be the fastest ones here; trying them out would take most of the time.
      options = {"xla_gpu_autotune_level": "0"} if jax.default_backend() == "gpu" else {}
      self._compiled = {"train": self._lowered["train"].compile(options)}
      self._put()
      self.block("train", 1)
    except jax.errors.JaxRuntimeError as error:
      if "RESOURCE_EXHAUSTED" not in str(error):
        raise
      return False
    return True

  def _prune(self, form):
    params = self._variables["params"]
    masks = pruning_masks.unpruned(params)
    for _ in range(4):
      params = pruning_masks.apply_masks(params, masks)
      masks = pruning_masks.make_masks(scores.filter_scores(params), masks, 0.1)
    self._variables = self._variables | {
        "params": jax.device_get(pruning_masks.apply_masks(params, masks))}
    if form == "masked":
      self._masks = masks
      return
    section, smaller = compact.compact(self._case.model, self._variables, masks)
    self._case = dataclasses.replace(self._case, model=section)
    self._model = cases.build(self._case, self._dtype)
    self._variables = jax.device_get(smaller)
    self._abstract = jax.eval_shape(lambda: self._variables)

  def _abstract_batch(self, batch_size):
    return {name: jax.ShapeDtypeStruct(shape, dtype)
            for name, (shape, dtype) in cases.spec(self._case, batch_size).items()}

  def _lower(self, passes=PASSES):
    labels = optim.frozen_labels(self._abstract["params"], ())
    optimiser = optim.make(cases.optim(self._case), 1000, labels)
    self._make_state = functools.partial(state.create, optimiser=optimiser, ema=False,
                                         masks=self._masks)
    train_step = make_train_step(self._model, cases.loss(self._case), optimiser, labels, seed=0,
                                 ema=None)
    options = compilation.compiler_options()
    batch = self._abstract_batch(self._batch_size)
    with convolution.forced(self._lowering):
      lower = {
          "train": lambda: jax.jit(train_step, donate_argnums=0, compiler_options=options).lower(
              jax.eval_shape(self._make_state, self._abstract), batch,
              jax.ShapeDtypeStruct((), jnp.float32)),
          "forward": lambda: jax.jit(
              lambda variables, batch: self._model.apply(variables, batch, train=False)[0],
              compiler_options=options).lower(self._abstract, batch)}
      self._lowered, self._seconds = {}, {}
      for which in passes:
        start = time.perf_counter()
        self._lowered[which] = lower[which]()
        self._seconds[which] = time.perf_counter() - start

  def _put(self):
    self._fixed = jax.device_put(self._variables)
    # A copy: the step takes its buffers over.
    self._state = self._make_state(jax.tree.map(jnp.copy, self._fixed))
    self._batch = jax.device_put(cases.batch(self._case, self._batch_size))


def planned_bytes(compiled) -> int | None:
  """What XLA planned to hold at once on the device; None where it does not tell."""
  plan = compiled.memory_analysis()
  if plan is None:
    return None
  return (plan.argument_size_in_bytes + plan.output_size_in_bytes + plan.temp_size_in_bytes
          - plan.alias_size_in_bytes)
