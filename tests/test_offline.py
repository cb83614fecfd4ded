"""Packs for machines without network: what is packed, what the packer says, what run.sh does."""
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

from actionjax.data import catalogue
from actionjax.data.preparing import preparation
from tests import offline_stub, raw_utd

ROOT = pathlib.Path(__file__).resolve().parent.parent


sys.path.append(str(ROOT / "launch"))  # as of a script, whose own folder comes first


def _script(name):
  spec = importlib.util.spec_from_file_location(name, ROOT / "launch" / f"{name}.py")
  module = importlib.util.module_from_spec(spec)
  sys.modules[name] = module  # where its dataclasses look for themselves
  spec.loader.exec_module(module)
  return module


offline, offline_run = _script("offline"), _script("offline_run")
EVERYTHING = ",".join(offline.distribution(item) for item in offline.requirements())


def pack(monkeypatch, *arguments) -> int:
  """Calls the packer as its command does; returns its exit status."""
  monkeypatch.setattr(sys, "argv", ["offline.py", *map(str, arguments)])
  try:
    offline.main()
  except SystemExit as end:
    return int(end.code or 0)
  return 0


# ---- packing ----------------------------------------------------------------------------

def test_a_pack_of_the_generated_dataset(tiny_data_dir, tmp_path, monkeypatch, capsys):
  folder = tmp_path / "pack"
  assert pack(monkeypatch, folder, "--dataset=synthetic_actions", "--variant=tiny", "--size=24",
              f"--data_dir={tiny_data_dir}", f"--have={EVERYTHING}") == 0
  content = json.loads((folder / "pack.json").read_text())
  assert content["wheels"] == {} and content["cut"]["size"] == 24
  cut = catalogue.open_dataset(str(folder / "data"), "synthetic_actions", "tiny")
  assert len(cut) == content["clips"] == 48
  tracked = subprocess.run(["git", "-C", ROOT, "ls-files"], capture_output=True, text=True,
                           check=True).stdout.split()
  there = {str(file.relative_to(folder / "checkout"))
           for file in (folder / "checkout").rglob("*") if file.is_file()}
  assert there == {name for name in tracked if (ROOT / name).is_file()}
  assert os.access(folder / "run.sh", os.X_OK)
  printed = capsys.readouterr().out
  assert re.search(r"^total +\d+\.\d\d MiB", printed, re.MULTILINE)
  # A second one does not go over the first.
  assert pack(monkeypatch, folder, "--dataset=synthetic_actions") == 1
  assert "is not an empty folder" in capsys.readouterr().err and (folder / "run.sh").exists()
  # The code in it can be replaced by today's alone.
  (folder / "checkout" / "stale.py").touch()
  (folder / "run.sh").unlink()
  assert pack(monkeypatch, folder, "--checkout_only") == 0
  assert not (folder / "checkout" / "stale.py").exists() and (folder / "run.sh").exists()
  assert (folder / "checkout" / "setup.py").exists()
  again = json.loads((folder / "pack.json").read_text())
  assert again["cut"] == content["cut"] and again["bytes"] == content["bytes"]


@pytest.mark.parametrize("arguments, message", [
    (["--dataset=nowhere"], "unknown dataset 'nowhere'"),
    (["--dataset=utd_mhad"], "utd_mhad is not prepared in .*run: python -m actionjax.prepare"),
    (["--dataset=synthetic_actions", "--variant=tiny", "--mib=0.2"],
     r"the cut takes \d\.\d MiB, more than --mib=0.2; .* would fit|allow more"),
    (["--dataset=synthetic_actions", "--variant=big"], "unknown variant 'big'"),
    (["--dataset=synthetic_actions", "--variant=tiny", "--python=three"], "--python=three must be"),
    (["--dataset=synthetic_actions", "--variant=tiny", "--python=2.7"], "--python=2.7 must be"),
    (["--dataset=synthetic_actions", "--variant=tiny", "--platform=a b"], "--platform=a b must be"),
    (["--dataset=synthetic_actions", "--frames=some"], "argument --frames: invalid int"),
    (["--dataset=synthetic_actions", "--nonsense"], "unrecognized arguments: --nonsense"),
    (["--checkout_only"], "holds no pack"), ([], "--dataset is missing")])
def test_mistakes_get_one_line(arguments, message, tiny_data_dir, tmp_path, monkeypatch, capsys):
  folder = tmp_path / "pack"
  assert pack(monkeypatch, folder, f"--data_dir={tiny_data_dir}", f"--have={EVERYTHING}",
              *arguments) == 1
  said = capsys.readouterr().err
  assert re.match(rf"error: .*({message})", said) and said.count("\n") == 1
  assert not folder.exists()


def test_the_shell_script_reaches_the_packer():
  run = subprocess.run([ROOT / "launch" / "offline.sh", "x", "--dataset=x", "--nonsense"],
                       capture_output=True, text=True, env=os.environ | {"PYTHON": sys.executable})
  assert run.returncode == 1 and run.stderr.startswith("error: unrecognized arguments")


def test_platform_tags_are_spelled_out_downwards():
  assert offline.tags("manylinux_2_28_x86_64")[:2] == ["manylinux_2_28_x86_64",
                                                       "manylinux_2_27_x86_64"]
  assert {"manylinux_2_17_x86_64", "manylinux2014_x86_64", "manylinux_2_12_x86_64",
          "manylinux2010_x86_64", "manylinux1_x86_64", "linux_x86_64"} <= set(
              offline.tags("manylinux_2_28_x86_64"))
  assert "manylinux_2_28_x86_64" not in offline.tags("manylinux_2_17_x86_64")
  assert offline.tags("musllinux_1_2_aarch64") == [
      "musllinux_1_2_aarch64", "musllinux_1_1_aarch64", "musllinux_1_0_aarch64", "linux_aarch64"]
  assert offline.tags("macosx_11_0_arm64") == ["macosx_11_0_arm64"]


def test_what_only_present_packages_pull_in_stays_away():
  def item(name, *needs):
    return {"metadata": {"name": name, "version": "1", "requires_dist": list(needs)}}

  report = [item("A_package", "b>=1", "c[fast]", 'old; python_version < "3.10"'),
            item("b", "only-of-b", "shared"), item("c", 'speed; extra == "fast"', "shared",
                                                   'docs; extra == "docs"'),
            item("only.of.b"), item("shared"), item("speed"), item("docs"), item("old")]
  found = offline.needed(report, ["a-package"], {"b"}, {"python_version": "3.12"})
  assert sorted(found) == ["a-package", "c", "shared", "speed"]
  assert "old" in offline.needed(report, ["a-package"], set(), {"python_version": "3.9"})
  assert offline.needed(report, ["a-package"], {"a-package"}, {}) == {}


@pytest.mark.slow
def test_training_needs_only_what_is_packed(runs, tmp_path):
  """Of all that is installed here, only the closure of `requirements` may be imported."""
  from pip._vendor.packaging.requirements import Requirement
  allowed, waiting = set(), [Requirement(item) for item in offline.requirements()]
  while waiting:
    requirement = waiting.pop()
    name = offline.normal(requirement.name)
    if (name, *sorted(requirement.extras)) in allowed:
      continue
    allowed.add((name, *sorted(requirement.extras)))
    try:
      needs = importlib.metadata.requires(name) or ()
    except importlib.metadata.PackageNotFoundError:
      continue
    for further in map(Requirement, needs):
      if further.marker is None or any(further.marker.evaluate({"extra": extra})
                                       for extra in ("", *requirement.extras)):
        waiting.append(further)
  names = {entry[0] for entry in allowed} | {"actionjax"}
  blocked = sorted(top for top, owners in importlib.metadata.packages_distributions().items()
                   if not names & {offline.normal(owner) for owner in owners}
                   and top.isidentifier() and not top.startswith("_"))
  assert {"av", "tensorflow_datasets", "pytest"} <= set(blocked)
  (tmp_path / "sitecustomize.py").write_text(
      "import sys\n"
      f"BLOCKED = {set(blocked)!r}\n"
      "class Finder:\n"
      "  def find_spec(self, name, path=None, target=None):\n"
      "    if name.partition('.')[0] in BLOCKED:\n"
      "      raise ImportError(f'{name} is blocked')\n"
      "sys.meta_path.insert(0, Finder())\n")
  prefix = ("env", f"PYTHONPATH={tmp_path}")
  check = subprocess.run([*prefix, sys.executable, "-c", "import av"], capture_output=True,
                         text=True)
  assert "av is blocked" in check.stderr
  metrics = runs.finish(tmp_path / "run", "first=1,second=1,save=1", prefix=prefix)
  assert metrics["test"]["clips"] == 12


# ---- running ----------------------------------------------------------------------------

class Packed:
  """Starts a pack's run.sh on CPUs."""

  def __init__(self, script: pathlib.Path, results: pathlib.Path, more=None, prefix=()):
    self.script, self.results, self.prefix = script, results, prefix
    self.environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHON": sys.executable,
                                     "PIP_NO_INDEX": "1", **(more or {})}

  def start(self, minutes="10", *arguments):
    return subprocess.Popen([*self.prefix, self.script, self.results, minutes, *arguments],
                            env=self.environment, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, cwd=self.script.parent.parent)

  def finish(self, minutes="10", *arguments) -> tuple[int, str]:
    process = self.start(minutes, *arguments)
    output, _ = process.communicate(timeout=400)
    return process.returncode, output

  def summary(self) -> dict:
    return json.loads((self.results / "summary.json").read_text())

  def wait_for(self, process, ready) -> None:
    deadline = time.monotonic() + 240
    while not ready():
      assert process.poll() is None and time.monotonic() < deadline, process.stdout.read()
      time.sleep(0.05)


@pytest.fixture
def stub(tmp_path):
  return Packed(offline_stub.write(tmp_path / "pack"), tmp_path / "results")


@pytest.mark.slow
def test_parts_run_in_order_and_a_failure_does_not_keep_from_the_others(stub):
  code, output = stub.finish()
  assert code == 1, output
  summary = stub.summary()
  parts = summary["parts"]
  assert {name: row["status"] for name, row in parts.items()} == {
      "benchmark": "failed", "stgcnpp": "finished", "posec3d": "failed", "vpn": "finished"}
  assert parts["benchmark"]["error"] == "exit status 1: error: no accelerator"
  assert parts["posec3d"]["error"] == "exit status 1: error: something is wrong"
  assert parts["vpn"]["metrics"]["test"]["top1"] == 0.75
  assert parts["vpn"]["steps"] == [{"name": "network", "done": True, "minutes": 0.1, "loss": 1.0,
                                    "devices": "1 stub", "total": 6, "step": 6, "top1": 0.5,
                                    "clips_per_second": 7.0, "data_wait_share": 0.0}]
  assert f"--config.data_dir={stub.script.parent / 'data'}" in parts["vpn"]["command"]
  assert set(summary["machine"]) >= {"python", "jax", "flax", "device"}
  assert summary["pack"]["cut"]["size"] == 64
  table = (stub.results / "summary.md").read_text()
  assert "| vpn | finished | 75.0 % | network 6/6 | 7 |" in table and "size 64" in table
  # Once more: what is done stays, what failed is tried again.
  code, output = stub.finish("10", "--skip=benchmark,posec3d")
  assert code == 0 and output.count("is done already") == 2
  assert (stub.results / "vpn" / "starts").read_text() == "0\n"


@pytest.mark.slow
def test_asked_to_end_it_saves_and_goes_on(stub):
  stub.results.mkdir()
  (stub.results / "wait").touch()
  process = stub.start("10", "--only=stgcnpp,vpn")
  rows = stub.results / "stgcnpp" / "00_network" / "metrics.jsonl"
  stub.wait_for(process, lambda: rows.exists() and rows.read_text().count("\n") == 2)
  process.send_signal(signal.SIGTERM)
  output, _ = process.communicate(timeout=60)
  assert process.returncode == 143, output
  parts = stub.summary()["parts"]
  assert parts["stgcnpp"]["status"] == "stopped" and parts["vpn"]["status"] == "not started"
  assert (parts["stgcnpp"]["steps"][0]["step"], parts["stgcnpp"]["steps"][0]["total"]) == (2, 6)
  assert "network 2/6" in (stub.results / "summary.md").read_text()
  (stub.results / "wait").unlink()
  code, output = stub.finish("10", "--only=stgcnpp,vpn")
  assert code == 0, output
  assert (stub.results / "stgcnpp" / "starts").read_text() == "0\n2\n"
  assert stub.summary()["parts"]["stgcnpp"]["status"] == "finished"


@pytest.mark.slow
def test_when_the_time_is_over_it_stops(stub):
  stub.results.mkdir()
  (stub.results / "wait").touch()
  code, output = stub.finish("0.6", "--only=vpn")
  assert code == 3 and "the same line again goes on" in output
  # On a busy machine looking at its packages may take all of the time.
  assert stub.summary()["parts"].get("vpn", {}).get("status") in ("stopped", "not started")


@pytest.mark.parametrize("arguments, message", [
    (["R", "0"], "MINUTES=0 must be above 0"), (["R", "ten"], "invalid float value: 'ten'"),
    (["R", "5", "--only=vpm"], "there is no part 'vpm'; known: benchmark, stgcnpp, posec3d, vpn"),
    (["R"], "required: MINUTES"), (["/dev/null/R", "5"], "cannot make /dev/null/R")])
def test_mistakes_at_running_get_one_line(arguments, message, stub, monkeypatch, capsys):
  monkeypatch.chdir(stub.results.parent)
  monkeypatch.setattr(sys, "argv", ["offline_run.py", str(stub.script.parent), *arguments])
  try:
    code = offline_run.main()
  except SystemExit as end:
    code = end.code
  said = capsys.readouterr().err
  assert code == 1 and said.startswith("error: ") and message in said and said.count("\n") == 1


def test_wheels_of_another_python_get_one_line(stub, monkeypatch):
  (stub.script.parent / "wheels" / "nowhere_to_be-1-cp27-cp27m-win32.whl").touch()
  with pytest.raises(offline_run.RunError, match="not a supported wheel.*PYTHON=... ./run.sh"):
    offline_run.install(stub.script.parent)


def test_a_broken_pack_and_mixed_results_get_one_line(stub, monkeypatch, capsys):
  stub.results.mkdir()
  (stub.results / "state.json").write_text(json.dumps({"small": True, "parts": {}}))
  monkeypatch.setattr(sys, "argv", ["x", str(stub.script.parent), str(stub.results), "5"])
  assert offline_run.main() == 1 and "holds results with --small" in capsys.readouterr().err
  (stub.script.parent / "pack.json").unlink()
  assert offline_run.main() == 1 and "holds no whole pack" in capsys.readouterr().err


def _listens(workdir) -> bool:
  """Whether the process that runs there has taken up SIGTERM, as the training loop does."""
  for entry in pathlib.Path("/proc").glob("[0-9]*"):
    try:
      if f"--workdir={workdir}\0".encode() in (entry / "cmdline").read_bytes():
        caught, = re.findall(r"^SigCgt:\s*(\w+)", (entry / "status").read_text(), re.MULTILINE)
        return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)
    except OSError:  # it has ended since
      pass
  return False


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_a_real_training_in_a_pack_without_network(tmp_path, monkeypatch):
  """Packed, run without network, ended while it trains, and run again."""
  raw_utd.write(tmp_path / "raw", [(a, s, 1) for a in range(1, 28) for s in (1, 2)], frames=6)
  preparation.prepare("utd_mhad", str(tmp_path / "raw"), str(tmp_path / "prepared"), workers=2)
  assert pack(monkeypatch, tmp_path / "pack", "--dataset=utd_mhad", "--size=64",
              f"--data_dir={tmp_path / 'prepared'}", f"--have={EVERYTHING}") == 0
  shutil.rmtree(tmp_path / "prepared")
  cutoff = ["unshare", "--net", "--map-root-user"]
  permitted = shutil.which("unshare") and subprocess.run([*cutoff, "true"]).returncode == 0
  packed = Packed(tmp_path / "pack" / "run.sh", tmp_path / "results",
                  prefix=cutoff if permitted else (),
                  more={"https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"})
  process = packed.start("10", "--small", "--only=stgcnpp")
  rows = packed.results / "stgcnpp" / "00_network" / "metrics.jsonl"
  packed.wait_for(process, lambda: _listens(rows.parent.parent))
  process.send_signal(signal.SIGTERM)
  output, _ = process.communicate(timeout=240)
  part = packed.summary()["parts"]["stgcnpp"]
  assert process.returncode == 143 and part["status"] == "stopped", output
  assert part["steps"][0]["step"] < part["steps"][0]["total"] == 3
  code, output = packed.finish("10", "--small", "--only=stgcnpp")
  assert code == 0, output
  log = (packed.results / "stgcnpp.log").read_text()
  assert "resuming at step" in log
  part = packed.summary()["parts"]["stgcnpp"]
  assert part["status"] == "finished" and part["metrics"]["test"]["clips"] == 27
  assert part["metrics"]["test"]["cut"]["size"] == 64
  table = (packed.results / "summary.md").read_text()
  assert "network 3/3" in table and "small settings" in table
