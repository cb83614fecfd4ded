"""PyTorch's part of a case: the same network, weights, batch, loss and optimiser.

What a good PyTorch program does: channels last, autocast, a compiled network, fused optimisers,
cuDNN trying its kernels out, and the whole training step as one CUDA graph. What does not work on a
machine is left out, and `tune` says so.
"""
import contextlib
import time

import jax
import numpy as np
import torch

from actionjax.benchmarks import torch_twins
from actionjax.benchmarks.accelerator import cases


class TorchSide:
  """One case; methods as of `jax_side.JaxSide`."""

  def prepare(self, name: str, small: bool, dtype: str = "bfloat16",
              batch_size: int | None = None) -> dict:
    """Builds the network, compiles it and runs it once.

    Returns:
      `torch`, its version, and `device`.
    """
    self._case = cases.case(name, small)
    self._batch_size = batch_size or self._case.batch_size
    self._dtype = getattr(torch, dtype)
    self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    self._cuda = self._device.type == "cuda"
    self._compiles = not small
    self._notes = []
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")  # as JAX on GPUs does
    torch.backends.cudnn.allow_tf32 = True
    model = cases.build(self._case, dtype)
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(0)}
    one = {key: jax.ShapeDtypeStruct(shape, kind)
           for key, (shape, kind) in cases.spec(self._case, 1).items()}
    self._network = torch_twins.twin(model, one)
    abstract = jax.eval_shape(lambda keys, batch: model.init(keys, batch, train=False), keys, one)
    torch_twins.load(self._network, cases.variables(abstract))
    torch_twins.channels_last(self._network.to(self._device))
    self._objective = torch_twins.Objective(**self._case.loss).to(self._device)
    self._put()
    self._functions()
    self._run_once()
    self._optimiser.zero_grad(set_to_none=True)
    if self._cuda:
      # Others may be measured before this one's turn comes.
      torch.cuda.empty_cache()
    return {"torch": torch.__version__, "device": self._device.type}

  def tune(self) -> dict:
    """Lets cuDNN choose its kernels and captures graphs.

    Returns:
      `how` it runs, in words.
    """
    torch.backends.cudnn.benchmark = True
    self._run_once()
    if self._cuda:
      # What cuDNN took to try its kernels out is not what a step needs.
      torch.cuda.empty_cache()
      torch.cuda.reset_peak_memory_stats()
      for which in ("train", "forward"):
        self._attempt(f"no CUDA graph of {which}", lambda which=which: self._capture(which))
    return {"how": ", ".join(["channels last", "autocast", *self._notes])}

  def outputs(self) -> np.ndarray:
    """Logits float32[B,N] of the weights that both sides begin with, before any step."""
    return self._before

  def block(self, which: str, count: int) -> float:
    """As of `JaxSide`."""
    self._network.train(which == "train")
    self._wait()
    start = time.perf_counter()
    for _ in range(count):
      self._calls[which]()
    self._wait()
    return time.perf_counter() - start

  def memory(self) -> dict:
    """`peak` bytes; None on a CPU."""
    return {"peak": torch.cuda.max_memory_allocated() if self._cuda else None}

  def _put(self):
    arrays = cases.batch(self._case, self._batch_size)
    self._batch = {name: torch.as_tensor(value).to(self._device) for name, value in arrays.items()}
    self._batch["label"] = self._batch["label"].long()
    fields = cases.optim(self._case)
    make = dict(lr=fields.learning_rate, weight_decay=fields.weight_decay)
    if fields.name == "sgd":
      self._optimiser = torch.optim.SGD(
          self._network.parameters(), momentum=fields.momentum, nesterov=fields.nesterov,
          fused=True, **make)
    else:
      self._optimiser = torch.optim.Adam(
          self._network.parameters(), betas=(fields.b1, fields.b2), fused=True,
          capturable=self._cuda, **make)
    self._clip = fields.clip_norm

  def _autocast(self):
    if self._dtype == torch.float32:
      return contextlib.nullcontext()
    return torch.autocast(self._device.type, self._dtype)

  def _functions(self):
    def objective(batch):
      with self._autocast():
        logits, out = self._network(batch)
      return self._objective(logits.float(), out, batch)

    def logits(batch):
      with self._autocast():
        return self._network(batch)[0].float()

    self._eager = {"train": objective, "forward": logits}
    self._run = dict(self._eager)
    if self._compiles:
      self._run = {which: torch.compile(function) for which, function in self._eager.items()}
    self._calls = {"train": self._step, "forward": self._forward}

  def _step(self):
    self._optimiser.zero_grad(set_to_none=True)
    value = self._run["train"](self._batch)
    value.backward()
    if self._clip is not None:
      torch.nn.utils.clip_grad_norm_(self._network.parameters(), self._clip)
    self._optimiser.step()
    return value

  def _forward(self):
    with torch.no_grad():
      return self._run["forward"](self._batch)

  def _run_once(self):
    # Outputs come first: a step moves weights and statistics.
    if not hasattr(self, "_before"):
      self._network.eval()
      self._before = self._tried("forward", self._forward).cpu().numpy()
      self._network.train()
      self._tried("train", self._step)
      if self._compiles and not any("not compiled" in note for note in self._notes):
        self._notes.append("compiled")
    for which in ("forward", "train"):
      self._network.train(which == "train")
      self._calls[which]()
    self._wait()

  def _tried(self, which, call):
    """`call()`, without compilation where that fails."""
    try:
      return call()
    except torch.cuda.OutOfMemoryError:
      raise
    except Exception as error:
      if self._run[which] is self._eager[which]:
        raise
      print(f"{which}: {type(error).__name__}: {error}", flush=True)
      self._notes.append(f"{which} not compiled ({type(error).__name__})")
      self._run[which] = self._eager[which]
      return call()

  def _attempt(self, note, call):
    try:
      call()
    except torch.cuda.OutOfMemoryError:
      raise
    except Exception as error:
      print(f"{note}: {type(error).__name__}: {error}", flush=True)
      self._notes.append(f"{note} ({type(error).__name__})")
      torch.cuda.synchronize()

  def _capture(self, which):
    self._network.train(which == "train")
    call = {"train": self._step, "forward": self._forward}[which]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
      for _ in range(3):
        call()
    torch.cuda.current_stream().wait_stream(side)
    self._optimiser.zero_grad(set_to_none=True)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
      call()
    graph.replay()
    torch.cuda.synchronize()
    self._calls[which] = graph.replay
    self._notes.append(f"CUDA graph of {which}")

  def _wait(self):
    if self._cuda:
      torch.cuda.synchronize()
