"""One batch over several devices."""
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import textwrap

import jax
import numpy as np
import pytest

from actionjax.errors import UserError
from actionjax.training import checkpoint, sharding
from actionjax.training import state as states

ROOT = pathlib.Path(__file__).resolve().parent.parent


def test_batch_sizes_divide_over_the_devices():
  @dataclasses.dataclass
  class Mesh:
    size: int

  sharding.check_batch_size(16, Mesh(8), "config.batch_size")
  for size, below in ((20, 16), (3, 8), (0, 8), (-8, 8)):
    with pytest.raises(UserError) as error:
      sharding.check_batch_size(size, Mesh(8), "config.batch_size")
    assert str(error.value) == (f"config.batch_size={size} does not divide over 8 devices; take a "
                                f"multiple of 8, such as {below}")


DEVICES = textwrap.dedent("""
    import functools
    import itertools
    import json
    import pathlib
    import sys
    import jax
    import numpy as np
    from jax.sharding import Mesh
    from actionjax import configuration, planning
    from actionjax.data.loading import pipeline
    from actionjax.steps import train
    from actionjax.training import checkpoint, initialise, optim, sharding
    from actionjax.training import state as states
    from actionjax.training.train_step import make_train_step

    config = configuration.load(sys.argv[1])
    planned = planning.plan(config).steps[2]
    parsed = train.parse(planned.config, planned.path)
    clips = pipeline.open_split(parsed.data, sys.argv[2], "train")
    found = []
    for count in (1, 8):
      mesh = Mesh(np.array(jax.devices()[:count]), ("data",))
      variables = initialise.fresh_variables(parsed.model, train.test_spec(parsed), 5, mesh)
      labels = optim.frozen_labels(variables["params"], ())
      # Adam would blow rounding up where a gradient is nearly zero.
      optimiser = optim.make(optim.OptimConfig(name="sgd", learning_rate=0.1), 3, labels)
      replicated = sharding.replicated(mesh)
      state = jax.jit(functools.partial(states.create, optimiser=optimiser, ema=False),
                      out_shardings=replicated)(variables)
      step = jax.jit(make_train_step(parsed.model, parsed.loss, optimiser, labels, seed=5,
                                     ema=None), out_shardings=(replicated, None))
      losses = []
      for batch in itertools.islice(pipeline.train_batches(
          clips, parsed.data, batch_size=8, seed=0), 3):
        placed = sharding.to_devices(batch, mesh)
        assert len(placed["video"].sharding.device_set) == count
        state, metrics = step(state, placed, np.float32(1))
        losses.append(float(metrics["loss"]))
      found.append(losses)
    checkpoint.save_model(pathlib.Path(sys.argv[3]), state.variables(), {"steps": 3})
    print(json.dumps([*found, states.digest(jax.device_get(state.variables()))]))
    """)


@pytest.mark.slow
def test_eight_devices_compute_what_one_does(tiny_data_dir, tmp_path):
  result = subprocess.run(
      [sys.executable, "-c", DEVICES, str(ROOT / "tests" / "small_config.py"), tiny_data_dir,
       str(tmp_path / "model")],
      env=os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8",
                        "JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
      capture_output=True, text=True, check=False, cwd=ROOT)
  assert result.returncode == 0, result.stderr
  one, eight, digest = json.loads(result.stdout.splitlines()[-1])
  np.testing.assert_allclose(eight, one, atol=1e-5)
  assert len(set(one)) == 3
  # What eight devices saved, this process' device loads.
  variables, description = checkpoint.load_model(tmp_path / "model")
  assert states.digest(jax.device_get(variables)) == digest and description == {"steps": 3}
