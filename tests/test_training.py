"""Training: the step and the loop."""
import functools
import os
import pathlib
import signal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from actionjax.errors import UserError
from actionjax.training import checkpoint, loop, optim, sharding
from actionjax.training import metric_writer as metric_files
from actionjax.training import state as states
from actionjax.training.train_step import apply_masks
from tests import toy

ROOT = pathlib.Path(__file__).resolve().parent.parent


def _run(state, train_step, count, fixed=False, scale=1.0):
  history = []
  for i in range(count):
    state, metrics = train_step(state, toy.batch(0 if fixed else i), np.float32(scale))
    history.append(jax.device_get(metrics))
  return state, history


def test_loss_falls_in_ten_steps():
  _, history = _run(*toy.trainer()[:2], 10, fixed=True)
  assert history[-1]["loss"] < 0.8 * history[0]["loss"]
  assert {"loss", "top1", "gradient_norm"} <= set(history[0])


def test_a_step_depends_on_seed_and_step_alone():
  state, train_step, _ = toy.trainer()
  (a, _), (b, _) = _run(state, train_step, 4), _run(state, train_step, 4)
  assert states.digest(jax.device_get(a.variables())) == states.digest(
      jax.device_get(b.variables()))
  # Dropout draws anew at each step: the same batch, the same weights, another loss.
  later = state.replace(step=state.step + 1)
  first, second = (float(train_step(s, toy.batch(), np.float32(1))[1]["loss"])
                   for s in (state, later))
  assert first != second


def test_compiles_once():
  state, train_step, traces = toy.trainer()
  mesh = sharding.make_mesh()
  for i, scale in enumerate((1.0, 1.0, 0.1, 0.01)):
    batch = sharding.to_devices(toy.batch(i), mesh)
    state, _ = train_step(state, batch, np.float32(scale))
  assert len(traces) == 1


def test_scale_is_on_the_update():
  config = optim.OptimConfig(name="sgd", learning_rate=0.1)
  state, train_step, _ = toy.trainer(config)
  moved = lambda scale: jax.tree.map(
      lambda a, b: np.asarray(a - b),
      train_step(state, toy.batch(), np.float32(scale))[0].params, state.params)
  full, half = moved(1.0), moved(0.5)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, 2 * b, atol=1e-6), full, half)


def test_frozen_parameters_and_their_statistics_stay():
  config = optim.OptimConfig(name="adamw", learning_rate=1e-2, weight_decay=0.1, decay_all=True)
  start, train_step, _ = toy.trainer(config, freeze=("backbone/",))
  end, history = _run(start, train_step, 3)
  for collection in ("params", "batch_stats"):
    before, after = (jax.device_get(getattr(s, collection)) for s in (start, end))
    jax.tree.map(np.testing.assert_array_equal, before["backbone"], after["backbone"])
    for name in set(before) - {"backbone"}:
      for a, b in zip(jax.tree.leaves(before[name]), jax.tree.leaves(after[name])):
        assert not np.array_equal(a, b), (collection, name)
  free, free_history = _run(*toy.trainer(config)[:2], 1)
  assert history[0]["gradient_norm"] < free_history[0]["gradient_norm"]  # no part in the norm
  assert not np.array_equal(free.batch_stats["backbone"]["norm"]["mean"],
                            start.batch_stats["backbone"]["norm"]["mean"])


def test_frozen_norms_are_those_of_evaluation():
  start, train_step, _ = toy.trainer(freeze=("backbone/",), model=toy.Toy(dropout=0.0))
  rng = np.random.default_rng(0)
  stats = jax.tree.map(lambda leaf: np.float32(rng.uniform(0.5, 2, leaf.shape)), start.batch_stats)
  start = start.replace(batch_stats=stats)
  params, x = jax.device_get(start.params), toy.batch(0)["x"]

  def block(x, name, mean=None, var=None):
    x = x @ params[name]["dense"]["kernel"] + params[name]["dense"]["bias"]
    mean, var = (x.mean(0), x.var(0)) if mean is None else (mean, var)
    x = (x - mean) / np.sqrt(var + 1e-5)
    return np.maximum(x * params[name]["norm"]["scale"] + params[name]["norm"]["bias"], 0)

  logits = block(block(x, "backbone", **stats["backbone"]["norm"]), "neck")
  logits = logits @ params["head"]["kernel"] + params["head"]["bias"]
  losses = np.log(np.exp(logits).sum(-1)) - logits[np.arange(len(x)), toy.batch(0)["label"]]
  _, history = _run(start, train_step, 1)
  np.testing.assert_allclose(history[0]["loss"], losses.mean(), rtol=1e-5)


class _Told(nn.Module):
  """A network whose batch norm is told by its call whether it trains."""
  inputs = ("x",)

  @nn.compact
  def __call__(self, batch, *, train):
    x = nn.Dense(4, name="dense")(batch["x"])
    x = nn.BatchNorm(momentum=0.9, name="norm")(x, use_running_average=not train)
    return nn.Dense(3, name="head")(x), {}


def test_frozen_norms_that_are_told_by_their_call():
  start, train_step, _ = toy.trainer(freeze=("norm/",), model=_Told())
  end, _ = _run(start, train_step, 2)
  jax.tree.map(np.testing.assert_array_equal, start.batch_stats, end.batch_stats)
  free, _ = _run(*toy.trainer(model=_Told())[:2], 2)
  assert not np.array_equal(start.batch_stats["norm"]["mean"], free.batch_stats["norm"]["mean"])


def test_a_partly_frozen_module_keeps_learning_its_statistics():
  start, train_step, _ = toy.trainer(freeze=("backbone/dense/",))
  end, _ = _run(start, train_step, 2)
  mean = lambda s: np.asarray(s.batch_stats["backbone"]["norm"]["mean"])
  assert not np.array_equal(mean(start), mean(end))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_masked_weights_stay_exactly_zero(name):
  config = optim.OptimConfig(name=name, learning_rate=1e-2, weight_decay=0.1)
  state, train_step, _ = toy.trainer(config)
  state, _ = _run(state, train_step, 2)  # moments that would move the weights on
  kernel = state.params["neck"]["dense"]["kernel"]
  mask = jnp.asarray(np.random.default_rng(0).random(kernel.shape) < 0.5)
  masks = jax.tree.map(lambda m: m, state.masks)
  masks["neck"]["dense"]["kernel"] = mask
  state = state.replace(masks=masks, params=apply_masks(state.params, masks))
  end, _ = _run(state, train_step, 4)
  found = np.asarray(end.params["neck"]["dense"]["kernel"])
  assert not found[~np.asarray(mask)].any() and (found[np.asarray(mask)] != 0).all()
  other = np.asarray(end.params["backbone"]["dense"]["kernel"])
  assert (other != 0).all()


def test_average_of_parameters():
  start, train_step, _ = toy.trainer(ema=0.5)
  state, expected = start, np.asarray(start.params["head"]["kernel"], np.float64)
  for i in range(12):
    state, _ = train_step(state, toy.batch(i), np.float32(1))
    # The decay is min(0.5, (1 + n) / (10 + n)): 0.1, 2/11, ..., 0.5 from n = 8 on.
    decay = min(0.5, (1 + i) / (10 + i))
    expected = decay * expected + (1 - decay) * np.asarray(state.params["head"]["kernel"])
  np.testing.assert_allclose(state.ema["head"]["kernel"], expected, atol=1e-6)
  assert state.variables()["params"] is state.ema
  assert toy.trainer()[0].ema is None


def test_padding_rows_do_not_count_in_the_metrics():
  state, train_step, _ = toy.trainer()
  batch = toy.batch()
  batch["valid"][5:] = 0
  one = train_step(state, batch, np.float32(1))[1]
  batch["label"][5:] = (batch["label"][5:] + 1) % 3
  other = train_step(state, batch, np.float32(1))[1]
  assert float(one["loss"]) == float(other["loss"])
  assert float(one["top1"]) == float(other["top1"])


def _digest(state):
  return states.digest(jax.device_get(state.variables()))


@pytest.mark.slow
def test_resuming_gives_the_same_bits(tmp_path):
  whole, _ = toy.fit(tmp_path / "whole", total_steps=7, checkpoint_every=2)
  for length in (3, 5, 7):  # each goes on where the one before ended
    state, _ = toy.fit(tmp_path / "cut", total_steps=length, checkpoint_every=2)
    assert int(state.step) == length
  assert _digest(state) == _digest(whole)
  rows = [metric_files.read(tmp_path / name / "metrics.jsonl") for name in ("whole", "cut")]
  assert [r["step"] for r in rows[0]] == [r["step"] for r in rows[1]] == list(range(1, 8))
  assert [r["loss"] for r in rows[0]] == [r["loss"] for r in rows[1]]


def test_validations_drive_best_and_plateau(tmp_path):
  values = [0.2, 0.5, 0.4, 0.5, 0.3, 0.3, 0.6]
  seen = []

  def validate(variables):
    seen.append(variables)
    return {"top1": values[len(seen) - 1]}

  _, progress = toy.fit(
      tmp_path, total_steps=14, validate_every=2, validate=validate,
      optimiser=optim.OptimConfig(plateau_factor=0.1, plateau_patience=1))
  # No better value than 0.5 at 6, 8 (patience over: x 0.1), 10, 12 (x 0.1); better at 14.
  assert (progress.best, progress.best_step, progress.waited) == (0.6, 14, 0)
  assert progress.scale == pytest.approx(0.01) and len(seen) == 7
  checkpoints = checkpoint.TrainingCheckpoints(tmp_path / "checkpoints", {})
  assert checkpoints.latest("best") == checkpoints.latest("last") == 14
  checkpoints.close()
  rows = [r for r in metric_files.read(tmp_path / "metrics.jsonl") if "validation_top1" in r]
  assert [(r["step"], r["validation_top1"]) for r in rows] == list(zip(range(2, 15, 2), values))


def test_a_loss_as_monitor_is_better_when_smaller():
  progress = checkpoint.Progress()
  config, optimiser = loop.LoopConfig(1, monitor="loss"), optim.OptimConfig()
  for step, value in ((1, 3.0), (2, 1.0), (3, 2.0)):
    loop._judge(progress, {"loss": value}, config, optimiser, step)
  assert (progress.best, progress.best_step, progress.waited) == (1.0, 2, 1)
  with pytest.raises(UserError, match="monitor 'loss' is not a validation metric; known: top1"):
    loop._judge(progress, {"top1": 1.0}, config, optimiser, 4)


def test_best_is_on_disk_before_the_last_that_names_it(tmp_path):
  # Killed between the two writes, a run would otherwise take an older model for the best.
  state, _, _ = toy.trainer()
  checkpoints = checkpoint.TrainingCheckpoints(tmp_path, {})
  order = []
  for kind in ("best", "last"):
    manager = checkpoints._managers[kind]
    for name in ("save", "wait_until_finished"):
      call = getattr(manager, name)

      def record(*args, _seen=(kind, name), _call=call, **kwargs):
        order.append(_seen)
        return _call(*args, **kwargs)

      setattr(manager, name, record)
  state = state.replace(step=state.step + 3)
  checkpoints.save("best", state, checkpoint.Progress())
  checkpoints.save("last", state, checkpoint.Progress())
  checkpoints.close()
  started = order.index(("best", "save"))
  assert ("best", "wait_until_finished") in order[started:order.index(("last", "save"))]


@pytest.mark.parametrize("what", ["loss", "gradient norm"])
def test_divergence_names_the_step_and_the_last_good_checkpoint(tmp_path, what):
  def poisoned(step):
    for batch in toy.batches(step):
      if step == 4:
        batch["x"][0, 0] = np.nan
      step += 1
      yield batch

  if what == "loss":
    run = functools.partial(toy.fit, tmp_path, batches=poisoned)
  else:
    state, train_step, _ = toy.trainer()

    def spoilt(state, batch, scale):
      state, metrics = train_step(state, batch, scale)
      if int(state.step) == 5:
        metrics["gradient_norm"] = jnp.inf
      return state, metrics

    run = functools.partial(toy.fit, tmp_path, setup=(state, spoilt, None))
  with pytest.raises(loop.TrainingDiverged) as error:
    run(total_steps=9, checkpoint_every=2, log_every=3)
  message = str(error.value)
  assert f"the {what} became" in message and "at step 5" in message
  assert f"step 4 in {tmp_path / 'checkpoints' / 'last'}" in message
  checkpoints = checkpoint.TrainingCheckpoints(tmp_path / "checkpoints", {})
  assert checkpoints.latest() == 4
  checkpoints.close()


def test_divergence_before_any_checkpoint(tmp_path):
  def poisoned(step):
    for batch in toy.batches(step):
      batch["x"][:] = np.inf
      yield batch
  with pytest.raises(loop.TrainingDiverged, match="at step 1; last good .*: none was saved"):
    toy.fit(tmp_path, batches=poisoned)


@pytest.mark.slow
@pytest.mark.parametrize("at", [3, 6])
def test_a_stop_request_is_kept_until_the_step_is_saved(tmp_path, at):
  whole, _ = toy.fit(tmp_path / "whole", checkpoint_every=100)

  def interrupting(step):
    for batch in toy.batches(step):
      step += 1
      if step == at + 1 or at == 6:  # the feed is two batches ahead
        os.kill(os.getpid(), signal.SIGTERM)
      yield batch

  before = signal.getsignal(signal.SIGTERM)
  with pytest.raises(SystemExit) as stopped:
    toy.fit(tmp_path / "cut", batches=interrupting, checkpoint_every=100)
  assert "stopped on request" in str(stopped.value)
  assert signal.getsignal(signal.SIGTERM) is before
  state, _ = toy.fit(tmp_path / "cut", checkpoint_every=100)
  assert _digest(state) == _digest(whole)


def test_a_stop_request_at_the_very_end_is_heard(tmp_path):
  def validate(variables):
    del variables
    return {"top1": 0.5}

  state, train_step, _ = toy.trainer()

  def last_step(state, batch, scale):
    if int(state.step) == 5:
      os.kill(os.getpid(), signal.SIGTERM)
    return train_step(state, batch, scale)

  for kwargs in ({}, dict(validate=validate, validate_every=6)):
    directory = tmp_path / str(len(kwargs))
    with pytest.raises(SystemExit):
      toy.fit(directory, setup=(state, last_step, None), **kwargs)
    end, progress = toy.fit(directory, setup=(state, train_step, None), **kwargs)
    assert int(end.step) == 6 and progress.validated == (6 if kwargs else 0)


@pytest.mark.slow
def test_a_checkpoint_of_another_model_is_refused_in_one_line(tmp_path):
  toy.fit(tmp_path, total_steps=2)
  for setup, detail in ((toy.trainer(model=toy.Toy(width=5)), "has shape (8,) there and (5,) here"),
                        (toy.trainer(optim.OptimConfig(name="sgd")), "")):
    with pytest.raises(UserError) as error:
      toy.fit(tmp_path, total_steps=4, setup=setup)
    message = str(error.value)
    assert f"checkpoint {tmp_path / 'checkpoints' / 'last' / '2'} does not fit" in message
    assert detail in message and "\n" not in message and len(message) < 600
