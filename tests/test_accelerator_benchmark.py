"""The benchmark for accelerators, on a CPU: what it counts, chooses, survives and writes."""
import json
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from actionjax.benchmarks.accelerator import cases, flops, jax_side, kernels, report, session, sides
from actionjax.benchmarks.accelerator.remote import Remote, RemoteError, TimeOver
from actionjax.errors import UserError
from actionjax.ops import convolution, lowerings


def _soon(seconds=60):
  return time.monotonic() + seconds


# Operations ---------------------------------------------------------------------------------------


def test_operations_of_convolutions_products_and_loops():
  x = jax.ShapeDtypeStruct((2, 4, 6, 6, 8), jnp.float32)
  kernel = jax.ShapeDtypeStruct((3, 3, 3, 4, 10), jnp.float32)
  grouped = lambda x, k: lowerings.direct(x, k, (1, 2, 2), ((1, 1),) * 3, 2)
  assert flops.count(grouped, x, kernel) == 2 * (2 * 4 * 3 * 3 * 10) * 27 * 4
  a, b = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((5, 7, 3), (5, 3, 4)))
  assert flops.count(jnp.matmul, a, b) == 2 * 5 * 7 * 3 * 4
  square = jax.ShapeDtypeStruct((3, 3), jnp.float32)
  looped = lambda m: lax.scan(lambda c, _: (jax.jit(jnp.matmul)(c, m), None), m, length=6)[0]
  assert flops.count(looped, square) == 6 * 2 * 27


@pytest.mark.parametrize("name,published", [
    # Multiply-adds: PoseC3D, table 2; Carreira & Zisserman's I3D in PySlowFast's and MMAction2's
    # model zoos; PYSKL's ST-GCN++ (1.4 M parameters, two persons).
    ("posec3d", 15.9e9), ("vpn", 111.3e9)])
def test_operations_of_whole_networks(name, published):
  case = cases.case(name, small=False)
  model = cases.build(case, "bfloat16")
  batch = {key: jax.ShapeDtypeStruct(shape, dtype)
           for key, (shape, dtype) in cases.spec(case, 1).items()}
  variables = jax.eval_shape(lambda b: model.init(jax.random.key(0), b, train=False), batch)
  with convolution.forced("direct"):
    count = flops.count(lambda v, b: model.apply(v, b, train=False)[0], variables, batch)
  assert count / 2 == pytest.approx(published, rel=0.02)


# Choices ------------------------------------------------------------------------------------------


def _kernel_row(kind, which, name="a", **ms):
  return {"kernel": name, "kind": kind, "pass": which, "flops": 10**9, "ms": ms}


def test_the_fastest_lowering_is_chosen_for_each_pass():
  rows = [_kernel_row("full", "forward", direct=2.0, stacked=1.0, channels_first=0.1),
          # A large kernel must not outvote a small one: relative times count.
          _kernel_row("full", "forward", "b", direct=100.0, stacked=120.0),
          _kernel_row("full", "input", direct=3.0, stacked="RESOURCE_EXHAUSTED: no"),
          _kernel_row("full", "kernel", direct=3.0, folded=2.0),
          _kernel_row("pointwise", "forward", direct=1.0),  # gradients were not measured
          _kernel_row("transposed", "forward", phases=1.0, dilated=2.0)]
  assert kernels.choose(rows) == {
      "full": {"forward": "stacked", "input": "direct", "kernel": "folded"}}
  # A lowering that was measured on one of two kernels alone says nothing of the other.
  rows.append(_kernel_row("full", "forward", "c", decomposed=0.001, direct=1.0, stacked=1.1))
  assert kernels.choose(rows)["full"]["forward"] == "stacked"


def test_pools_are_chosen_by_training():
  rows = [_kernel_row("max_pool spatial", "forward", direct=1.0, indexed=2.0),
          _kernel_row("max_pool spatial", "gradient", direct=9.0, indexed=3.0),
          _kernel_row("max_pool full", "gradient", direct=1.0, decomposed=2.0, indexed="failed")]
  assert kernels.choose_pools(rows) == {"spatial": "indexed", "full": "direct"}
  file = report.lowerings_file({"device": {"backend": "cpu", "device": "a card", "date": "today"},
                                "kernels": rows})
  assert file["cpu"]["max_pool"] == {"spatial": "indexed", "full": "direct"}
  # What was not measured stays as it is.
  assert file["cpu"]["kinds"] == convolution.measured_file()["cpu"]["kinds"]


def test_kernels_are_measured_with_every_lowering_once():
  measured = kernels.Kernels().measure("3x1x1", small=True)
  assert [row["pass"] for row in measured] == ["forward", "input", "kernel"]
  for row in measured:
    # `decomposed` comes to the program of `folded` or the other way round; both need not run.
    assert {"direct", "channels_first", "stacked"} <= set(row["ms"]) <= set(lowerings.WAYS)
    assert row["kind"] == "temporal" and row["flops"] == 2 * 8**3 * 64 * 64 * 3
    assert all(ms > 0 for ms in row["ms"].values())
  alone = kernels.Kernels().measure("3x1x1", True, ["stacked"])
  assert [list(row["ms"]) for row in alone] == [["stacked"]] * 3


# Processes ----------------------------------------------------------------------------------------


@pytest.fixture
def toy(tmp_path):
  remote = Remote("tests.remote_toy:Toy", {"TOY": "1"}, str(tmp_path / "log"))
  yield remote
  remote.close()


def test_calls_into_another_process(toy, tmp_path):
  assert toy.call(_soon(), "add", 1, b=2) == 3
  with pytest.raises(RemoteError, match="ValueError: RESOURCE_EXHAUSTED: full") as error:
    toy.call(_soon(), "fail", "RESOURCE_EXHAUSTED: full\nmore")
  assert error.value.out_of_memory and "Traceback" in (tmp_path / "log").read_text()
  assert toy.call(_soon(), "count") == 1 and toy.usable
  toy.renew(_soon())
  assert toy.call(_soon(), "count") == 0
  with pytest.raises(RemoteError, match="exit code 7") as error:
    toy.call(_soon(), "die")
  assert not error.value.out_of_memory and not toy.usable


def test_a_call_that_takes_too_long_ends_with_its_process(toy):
  toy.start("sleep", 60)
  with pytest.raises(TimeOver):
    toy.result(time.monotonic() + 0.2)
  assert not toy.usable


# The session, with processes that answer at once --------------------------------------------------


class _Fake:
  """Stands for `Remote`: a network of 40 bytes a clip on a device of 1000."""
  calls: list = []
  started: list = []
  torch_device = "cpu"
  torch_logits = 1.0
  room = 10**6

  def __init__(self, where, environment, log):
    self.where = where.rpartition(".")[2]
    self.closed = self.usable = False
    self.busy = True  # until it is waited for

  def start(self, method, *args, **kwargs):
    self._answer = (method, args, kwargs)
    _Fake.started.append((method, *args[:1]))

  def result(self, deadline):
    method, args, kwargs = self._answer
    _Fake.calls.append((self.where, method, args, kwargs))
    return getattr(self, f"_{method}")(*args, **kwargs)

  def call(self, deadline, method, *args, **kwargs):
    self.start(method, *args, **kwargs)
    return self.result(deadline)

  def wait(self, deadline):
    self.busy = False

  def close(self):
    self.closed = True

  def _describe(self):
    return {"backend": "cpu", "device": "toy", "jax": "0", "python": "3", "date": "today",
            "memory": None}

  def _peaks(self, small):
    return {"bfloat16": 3e6, "float32": 1e6, "bandwidth": 1e6}

  def _prepare(self, name, small, batch_size=None, **fields):
    self.batch = batch_size or cases.CASES[name].batch_size
    if self.where.startswith("torch"):
      return {"torch": "2", "device": self.torch_device}
    return {"flops": 1000, "parameters": 3, "batch_size": self.batch}

  def _tune(self):
    if self.batch > self.room:
      raise RemoteError("JaxRuntimeError: RESOURCE_EXHAUSTED", "RESOURCE_EXHAUSTED: no room")
    return {"how": "fast"} if self.where.startswith("torch") else {
        "compile_s": {"train": 1.0, "forward": 1.0}, "planned": 48 + 40 * self.batch}

  def _outputs(self):
    return np.full((2, 3), self.torch_logits if self.where.startswith("torch") else 1.0)

  def _block(self, which, count):
    # PyTorch takes twice as long to train.
    return count * (0.2 if self.where.startswith("torch") and which == "train" else 0.1)

  def _memory(self):
    return {"peak": None, "limit": 1000}

  def _compile_again(self):
    return 0.5

  def _fits(self, batch_size):
    return 48 + 40 * batch_size <= 700


@pytest.fixture
def fake(monkeypatch):
  monkeypatch.setattr(sides, "Remote", _Fake)
  for name, value in (("calls", []), ("started", []), ("torch_device", "cpu"),
                      ("torch_logits", 1.0), ("room", 10**6)):
    monkeypatch.setattr(_Fake, name, value)
  monkeypatch.setattr(session.importlib.util, "find_spec", lambda name: object())
  return _Fake


def test_a_row_beside_pytorch(fake, tmp_path, capsys):
  results = session.run(str(tmp_path / "out"), small=True, only=["posec3d"])
  row, = results["rows"]
  assert row["train"]["ours"]["median"] == pytest.approx(64 / 0.1)
  assert report.ratio(row, "train") == pytest.approx(2)
  # Three passes a training step: 3 * 1000 operations * 640 clips/s of 3e6 a second.
  assert report.share(row, "train", results["peaks"]) == pytest.approx(0.64)
  assert report.share(row, "forward", results["peaks"]) == pytest.approx(0.64 / 3)
  written = json.loads((tmp_path / "out" / "results.json").read_text())
  assert written["rows"] == json.loads(json.dumps(results["rows"]))
  assert "| 2.00 |" in (tmp_path / "out" / "table.md").read_text()
  assert "2.00 x PyTorch" in capsys.readouterr().out


def test_no_ratio_where_outputs_differ(fake, tmp_path):
  fake.torch_logits = 1.2
  results = session.run(str(tmp_path / "out"), small=True, only=["posec3d"])
  assert report.ratio(results["rows"][0], "train") is None
  assert "differ from PyTorch's by 0.200" in results["notes"][0]
  assert "| 2.00 |" not in (tmp_path / "out" / "table.md").read_text()


def test_a_batch_that_does_not_fit_is_halved_and_marked(fake, tmp_path):
  fake.room = 20
  results = session.run(str(tmp_path / "out"), small=True, only=["i3d_resnet50"])
  row, = results["rows"]
  assert row["batch_size"] == 16 and row["marked"] == "smaller batch"
  assert "a batch of 32 does not fit" in results["notes"][0]
  assert "16 (smaller: memory)" in (tmp_path / "out" / "table.md").read_text()
  # PyTorch's side gets the same batch.
  sizes = [kwargs["batch_size"] for where, method, _, kwargs in fake.calls
           if where.startswith("torch") and method == "prepare"]
  assert sizes[-1] == 16


def test_a_network_without_any_room_is_a_note_and_the_rest_goes_on(fake, tmp_path):
  fake.room = 0
  results = session.run(str(tmp_path / "out"), small=True, only=["vpn", "rgbpose"])
  assert not results["rows"] and len([n for n in results["notes"] if "RESOURCE" in n]) == 2


def test_pytorch_without_cuda_beside_a_gpu(fake, tmp_path, monkeypatch):
  monkeypatch.setattr(_Fake, "_describe", lambda self: {
      "backend": "gpu", "device": "toy", "jax": "0", "python": "3", "date": "today",
      "memory": 2**30})
  results = session.run(str(tmp_path / "out"), only=["posec3d", "vpn"])
  assert results["notes"] == ["PyTorch 2 is without CUDA: not measured"]
  assert [set(row["train"]) for row in results["rows"]] == [{"ours"}] * 2


def test_each_lowering_has_a_row_and_the_first_one_pytorch(fake, tmp_path):
  results = session.run(str(tmp_path / "out"), small=True, only=["posec3d"],
                        lowerings=("stacked", "direct"))
  assert [(row["lowering"], set(row["train"])) for row in results["rows"]] == [
      ("stacked", {"ours", "torch"}), ("direct", {"ours"})]


def test_the_largest_batch_is_tried(fake, tmp_path):
  results = session.run(str(tmp_path / "out"), small=True, only=["posec3d", "largest"])
  # 0.9 * (1000 - 48) / 40 = 21, down to 16; 48 + 40 * 16 bytes fit.
  assert results["rows"][0]["largest_batch"] == 16
  assert session.likely_batch({"planned": 48 + 400, "batch_size": 10, "parameters": 3}, 448) == 8


def test_when_the_time_is_over_what_is_finished_stays(fake, tmp_path, monkeypatch):
  def late(self, batch_size):
    raise TimeOver
  monkeypatch.setattr(_Fake, "_fits", late)
  results = session.run(str(tmp_path / "out"), small=True, only=["posec3d", "largest"])
  assert len(results["rows"]) == 1 and "the time was over" in results["notes"][-1]


def test_with_processors_to_spare_the_next_networks_are_prepared_ahead(fake, tmp_path, monkeypatch):
  monkeypatch.setattr(sides.workers, "default_workers", lambda: 16)
  monkeypatch.setattr(_Fake, "_describe", lambda self: {
      "backend": "gpu", "device": "toy", "jax": "0", "python": "3", "date": "today",
      "memory": 2**30})
  fake.torch_device, fake.room = "cuda", 40
  results = session.run(str(tmp_path / "out"), only=list(cases.CASES))
  assert [row["case"] for row in results["rows"]] == list(cases.CASES)
  assert all(set(row["train"]) == {"ours", "torch"} for row in results["rows"])
  order = [(where.split("_")[0], method) for where, method, *_ in fake.calls]
  # The second network of ours is compiled before the first one is timed, while PyTorch's prepare.
  timed = order.index(("jax", "block"))
  assert order[:timed].count(("jax", "tune")) >= 2
  # Batches that do not fit are found out then, and halved when their turn comes.
  sizes = {row["case"]: row["batch_size"] for row in results["rows"]}
  assert sizes["posec3d"] == 32 and sizes["i3d_resnet50"] == 32 and sizes["msg3d"] == 32


def test_a_failed_network_does_not_keep_the_next_ones_from_being_prepared(fake, tmp_path,
                                                                         monkeypatch):
  monkeypatch.setattr(sides.workers, "default_workers", lambda: 16)
  monkeypatch.setattr(_Fake, "_describe", lambda self: {
      "backend": "gpu", "device": "toy", "jax": "0", "python": "3", "date": "today",
      "memory": 2**30})
  fake.torch_device = "cuda"
  tune = _Fake._tune

  def failing(self):
    if self.batch == 8 and self.where.startswith("jax"):  # VPN's and RGBPose-SlowFast's
      raise RemoteError("ValueError: no", "ValueError: no")
    return tune(self)

  monkeypatch.setattr(_Fake, "_tune", failing)
  results = session.run(str(tmp_path / "out"), only=list(cases.CASES))
  assert results["notes"] == ["vpn: ValueError: no", "rgbpose: ValueError: no"]
  assert [row["case"] for row in results["rows"]] == [
      name for name in cases.CASES if name not in ("vpn", "rgbpose")]
  # Three are prepared at a time. The second group's begins once the first is through, VPN included:
  # RGBPose-SlowFast's before HAC, which stands before it in that group, is timed.
  before = fake.started[:fake.started.index(("prepare", "rgbpose"))]
  assert before.index(("prepare", "hac")) > max(
      at for at, call in enumerate(before) if call[0] == "block")


@pytest.mark.parametrize("arguments,message", [
    ({"only": ["posec4d"]}, "--only=posec4d is unknown; known: posec3d"),
    ({"lowerings": ["fast"]}, "--lowerings=fast is unknown; known: auto"),
    ({}, "no accelerator: JAX sees CPUs alone here .*--small")])
def test_what_cannot_be_measured_is_named(arguments, message, fake, tmp_path):
  with pytest.raises(UserError, match=message):
    session.run(str(tmp_path / "out"), **arguments)
  assert not (tmp_path / "out").exists()


def test_results_of_another_run_are_not_mixed_with(fake, tmp_path):
  (tmp_path / "file").write_text("")
  for out in (tmp_path, tmp_path / "file"):
    with pytest.raises(UserError, match="is not an empty folder; give a new one"):
      session.run(str(out), small=True)


# Sides --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_our_side_trains_and_tells_where_the_time_goes(monkeypatch):
  side = jax_side.JaxSide()
  described = side.prepare("stgcnpp", True)
  assert described["batch_size"] == 2 and described["flops"] > 0
  assert side.tune()["planned"] > 4 * described["parameters"]
  before = side.outputs()
  assert before.shape == (2, 60) and np.isfinite(before).all() and before.std() > 0
  assert side.block("train", 2) > 0 and side.block("forward", 1) > 0
  assert int(side._state.step) == 2
  # Training moves its own copy of the weights.
  np.testing.assert_array_equal(side.outputs(), before)
  rows = side.profile(2)
  assert any("backbone" in row["source"] for row in rows)
  assert rows == sorted(rows, key=lambda row: -row["ms"])
  assert side.fits(3)
  monkeypatch.setattr(jax_side.JaxSide, "block", _no_room)
  assert not side.fits(4)


def _no_room(self, which, count):
  raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")


@pytest.mark.slow
def test_the_compacted_network_computes_what_the_masked_one_does():
  outputs = {}
  for form in ("masked", "compacted"):
    side = jax_side.JaxSide()
    outputs[form, "size"] = side.prepare("hac", True, dtype="float32", form=form)["parameters"]
    side.tune()
    outputs[form] = side.outputs()
  np.testing.assert_allclose(outputs["masked"], outputs["compacted"], rtol=1e-4, atol=1e-4)
  assert outputs["compacted", "size"] < 0.9 * outputs["masked", "size"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["posec3d", "vpn", "stgcnpp"])
def test_pytorchs_side_agrees_within_the_types_rounding(name):
  pytest.importorskip("torch")
  from actionjax.benchmarks.accelerator import torch_side
  for dtype, tolerance in (("float32", 1e-3), ("bfloat16", report.TOLERANCE)):
    ours, theirs = jax_side.JaxSide(), torch_side.TorchSide()
    ours.prepare(name, True, dtype=dtype)
    ours.tune()
    assert theirs.prepare(name, True, dtype=dtype)["device"] == "cpu"
    assert "autocast" in theirs.tune()["how"]
    assert session._difference(ours.outputs(), theirs.outputs()) < tolerance
    assert theirs.block("train", 1) > 0 and theirs.block("forward", 1) > 0


# The command --------------------------------------------------------------------------------------
