"""How far the parts of an offline run are, by the files that they leave, and in words.

Needs nothing but the standard library, as `offline_run`.
"""
import json
import pathlib
import re
import statistics


def read_json(path: pathlib.Path, otherwise):
  """A JSON file's content, or something else where there is none that is whole."""
  try:
    return json.loads(path.read_text())
  except (OSError, ValueError):
    return otherwise


def progress(workdir: pathlib.Path, log: pathlib.Path) -> list[dict]:
  """The steps of a recipe that have begun, as their files and the log tell.

  Returns:
    dicts of name, done, and for trainings step, total, clips_per_second (the median of the
    logged), loss, top1; devices and minutes where done.
  """
  text = log.read_text(errors="replace") if log.exists() else ""
  totals = {name: int(total) for name, total in
            re.findall(r"^training (\S+): \d+ clips, (\d+) steps", text, re.MULTILINE)}
  found = []
  for directory in sorted(workdir.glob("[0-9][0-9]_*")):
    name = directory.name[3:]
    done = read_json(directory / "done.json", None)
    row: dict = {"name": name, "done": done is not None}
    if done is not None:
      row |= {"minutes": done.get("minutes"), "devices": done.get("devices")}
      row["total"] = done["artifacts"].get("steps")
    row["total"] = row.get("total") or totals.get(name)
    logged = [json.loads(line) for line in _whole_lines(directory / "metrics.jsonl")]
    logged = [line for line in logged if "loss" in line]
    if logged:
      last = logged[-1]
      # The first row's time is compilation, and so is that of every resumed run: the median.
      speeds = [line["clips_per_second"] for line in logged if "clips_per_second" in line]
      row |= {"step": last["step"], "loss": last["loss"], "top1": last.get("top1")}
      if speeds:
        row["clips_per_second"] = statistics.median(speeds)
        row["data_wait_share"] = statistics.median(
            line["data_wait_share"] for line in logged if "data_wait_share" in line)
    saved = re.findall(r"stopped on request at step (\d+)", text)
    if saved and not row["done"] and row["total"]:
      row["step"] = max(row.get("step", 0), int(saved[-1]))
    found.append({key: value for key, value in row.items() if value is not None})
  return found


def _whole_lines(path: pathlib.Path) -> list[str]:
  try:
    return [line for line in path.read_text().splitlines() if line.endswith("}")]
  except OSError:
    return []


def describe(row: dict) -> str:
  """How far a part is, in words."""
  words = row["status"]
  if "error" in row:
    words += f", {row['error']}"
  metrics = row.get("metrics", {}).get("test")
  if metrics:
    return (f"{words}, top-1 {100 * metrics['top1']:.1f} % of {metrics['clips']} test clips, "
            f"{row['minutes']:.1f} minutes")
  begun = [step for step in row.get("steps", ()) if "step" in step]
  if begun and row["status"] != "finished":
    words += f", {begun[-1]['name']} at step {begun[-1]['step']} of {begun[-1].get('total', '?')}"
  return f"{words}, {row['minutes']:.1f} minutes"


def table(summary: dict) -> str:
  """summary.md."""
  machine, pack = summary["machine"], summary["pack"]
  versions = ", ".join(f"{name} {machine[name]}" for name in (
      "python", "jax", "jaxlib", "flax", "optax", "numpy") if name in machine)
  cut = pack.get("cut", {})
  what = ", ".join(f"{name} {value}" for name, value in cut.items()
                   if value not in (None, False) and name != "from_key")
  lines = [
      "# Results" + (" of the small settings, which tell nothing of accuracy"
                     if summary["small"] else ""), "",
      f"Device: {machine.get('device', 'unknown')} ({machine.get('backend', 'unknown')}); "
      f"{versions}.",
      f"Checkout: {pack.get('commit', 'unknown')}{' with changes' if pack.get('changed') else ''}.",
      f"Data: {pack.get('dataset')}/{pack.get('variant')} {pack.get('version')}, a cut: {what}.",
      "", "| part | status | top-1 | step | clips/s | minutes | device |",
      "| --- | --- | --- | --- | --- | --- | --- |"]
  for part, row in summary["parts"].items():
    test = row.get("metrics", {}).get("test", {})
    trained = [step for step in row.get("steps", ()) if "step" in step]
    places = "; ".join(f"{s['name']} {s['step']}/{s.get('total', '?')}" for s in trained)
    speeds = "; ".join(f"{s['clips_per_second']:.0f}" for s in trained if "clips_per_second" in s)
    top1 = f"{100 * test['top1']:.1f} %" if "top1" in test else ""
    status = row["status"] + (f" ({row['error']})" if "error" in row else "")
    lines.append(f"| {part} | {status.replace('|', '/')} | {top1} | {places} | {speeds} | "
                 f"{row['minutes']:.1f} | {', '.join(row.get('devices', ()))} |")
  lines += ["", "Commands, in the checkout:", ""]
  lines += [f"    {row['command']}" for row in summary["parts"].values() if "command" in row]
  return "\n".join(lines) + "\n"
