"""The notebook, every cell of it, with the quickstart in a seventh of its epochs.

ACTIONJAX_TEST_WHOLE=1 takes all epochs, and asserts what they reach.
"""
import json
import os

import numpy as np
import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

from actionjax.data.builders import synthetic_actions  # noqa: E402
from tests.conftest import ROOT  # noqa: E402


@pytest.mark.slow
def test_notebook_trains_and_draws(tmp_path, monkeypatch, optimised):
  monkeypatch.setenv("ACTIONJAX_DATA", str(tmp_path / "data"))
  monkeypatch.setenv("ACTIONJAX_NOTEBOOK_WORKDIR", str(tmp_path / "run"))
  whole = os.environ.get("ACTIONJAX_TEST_WHOLE") == "1"
  monkeypatch.setenv("ACTIONJAX_NOTEBOOK_CONFIG",
                     "configs/quickstart.py" + ("" if whole else ":share=0.15"))
  notebook = nbformat.read(ROOT / "colabs" / "quickstart.ipynb", as_version=4)
  nbclient.NotebookClient(notebook, timeout=1200, kernel_name="python3",
                          resources={"metadata": {"path": str(ROOT)}}).execute(
                              env=dict(os.environ))
  pictures = [output for cell in notebook.cells if cell.cell_type == "code"
              for output in cell.outputs if "image/png" in output.get("data", {})]
  assert len(pictures) == 3, "clips with poses, attention, confusion"

  found = json.loads((tmp_path / "run" / "metrics.json").read_text())
  assert found["test"]["clips"] == 216 and found["test"]["unreadable"] == 0
  assert found["test"]["top1"] >= 0.14  # a twelfth by chance, with a deviation of 0.02
  if not whole:
    return
  # Other processors round otherwise, and one seed's accuracy moves by a few clips with it: the
  # bounds are what chance and a broken part cannot reach; RESULTS.md has what was measured.
  assert found["test"]["top1"] >= 0.85
  # What only one limb, or only the order of time, tells apart is told apart.
  confusion = np.load(next((tmp_path / "run").glob("*_test/confusion.npy")))
  names = synthetic_actions.CLASS_NAMES
  for a, b in (("wave_left_hand", "wave_right_hand"), ("kick_left", "kick_right"),
               ("sit_down", "stand_up"), ("pick_up", "put_down"), ("push_away", "pull_in")):
    pair = confusion[np.ix_([names.index(a), names.index(b)], [names.index(a), names.index(b)])]
    assert np.trace(pair) >= 0.6 * pair.sum(), (a, b, pair)
