"""Shared fixtures: where real data lies, and a small generated dataset."""
import os
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def test_data() -> pathlib.Path:
  """Folder of the real datasets; the test is skipped where none is named."""
  if not os.environ.get("ACTIONJAX_TEST_DATA"):
    pytest.skip("ACTIONJAX_TEST_DATA names no folder with real datasets")
  return pathlib.Path(os.environ["ACTIONJAX_TEST_DATA"])


@pytest.fixture(scope="session")
def tiny_data_dir(tmp_path_factory) -> str:
  """A data_dir with the generated dataset's `tiny` variant."""
  from actionjax.data import preparation
  directory = tmp_path_factory.mktemp("data")
  preparation.prepare("synthetic_actions", data_dir=str(directory), variant="tiny", workers=2)
  return str(directory)
