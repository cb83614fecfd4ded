"""A checkout that stands in for this one in a pack: trainings of a few sleeps, no accelerator."""
import json
import pathlib

MAIN = '''
import json, pathlib, signal, sys, time
workdir = next(pathlib.Path(a[10:]) for a in sys.argv if a.startswith("--workdir="))
step_dir = workdir / "00_network"
step_dir.mkdir(parents=True, exist_ok=True)
saved, total = workdir / "saved", 6
at = int(saved.read_text()) if saved.exists() else 0
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
with (workdir / "starts").open("a") as starts:
  starts.write(f"{at}\\n")
print(f"training network: 12 clips, {total} steps of 2 clips", flush=True)
with (step_dir / "metrics.jsonl").open("a") as rows:
  while at < total:
    time.sleep(0.2)
    at += 1
    rows.write(json.dumps({"step": at, "loss": 1.0, "top1": 0.5, "clips_per_second": 7.0,
                           "data_wait_share": 0.0}) + "\\n")
    rows.flush()
    while (workdir.parent / "wait").exists() and at == 2 and not asked:
      time.sleep(0.05)
    if asked:
      saved.write_text(str(at))
      sys.exit(f"stopped on request at step {at}; run the same command to go on")
if workdir.name == "posec3d":
  sys.exit("error: something is wrong")
(step_dir / "done.json").write_text(json.dumps(
    {"artifacts": {"steps": total}, "minutes": 0.1, "devices": "1 stub"}))
(workdir / "metrics.json").write_text(json.dumps({"test": {"top1": 0.75, "clips": 8}}))
'''


def write(folder: pathlib.Path) -> pathlib.Path:
  """A whole pack whose commands do next to nothing; returns its run.sh.

  While RESULTS/wait exists, a training stays at step 2 until it is asked to end. posec3d fails at
  its end, and so does the benchmark.
  """
  root = pathlib.Path(__file__).resolve().parent.parent
  package = folder / "checkout" / "actionjax"
  package.mkdir(parents=True)
  (package / "__init__.py").touch()
  (package / "main.py").write_text(MAIN)
  (package / "benchmark.py").write_text("import sys; sys.exit('error: no accelerator')")
  (folder / "checkout" / "launch").mkdir()
  for source, target in (("offline_run.py", "checkout/launch/offline_run.py"),
                         ("offline_summary.py", "checkout/launch/offline_summary.py"),
                         ("offline_run.sh", "run.sh")):
    (folder / target).write_bytes((root / "launch" / source).read_bytes())
  (folder / "run.sh").chmod(0o755)
  (folder / "wheels").mkdir()
  (folder / "pack.json").write_text(json.dumps({
      "python": "3.11", "dataset": "utd_mhad", "variant": "cropped", "version": "1.1.0",
      "commit": "abc", "changed": False, "cut": {"size": 64, "frames": 8, "bits": 8}}))
  return folder / "run.sh"
