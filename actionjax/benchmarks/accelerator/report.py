"""What was measured, as text."""
from actionjax.benchmarks.accelerator import kernels
from actionjax.ops import convolution

# Largest difference of logits, relative to their size: what bfloat16's rounding makes of some fifty
# layers.
TOLERANCE = 0.05


def heading(results: dict) -> str:
  """Device, versions, and the rates that shares refer to."""
  device, peaks = results["device"], results["peaks"]
  size = f", {device['memory'] / 2**30:.0f} GiB" if device.get("memory") else ""
  small = " SMALL networks, compiled with few optimisations: no measure of anything." \
      if results["small"] else ""
  return (f"{device['device']} ({device['backend']}{size}), jax {device['jax']}, Python "
          f"{device['python']}, {device['date']}. Matrix products reach "
          f"{peaks['bfloat16'] / 1e12:.4g} TFLOP/s in bfloat16 and {peaks['float32'] / 1e12:.4g} "
          f"in float32, copies {peaks['bandwidth'] / 1e12:.3g} TB/s.{small}")


def share(row: dict, which: str, peaks: dict, side: str = "ours") -> float:
  """Model FLOP utilisation: of a training step three times the forward pass' operations."""
  count = row["flops"] * (3 if which == "train" else 1)
  return count * row[which][side]["median"] / peaks["bfloat16"]


def ratio(row: dict, which: str) -> float | None:
  """Ours to PyTorch's clips a second; None without PyTorch or where outputs differ."""
  if "torch" not in row[which] or row["difference"] > TOLERANCE:
    return None
  return row[which]["ours"]["median"] / row[which]["torch"]["median"]


def line(row: dict, peaks: dict) -> str:
  """A network's row, short, for the terminal."""
  parts = []
  for which in ("train", "forward"):
    ours = row[which]["ours"]
    text = f"{which} {ours['median']:.1f} clips/s ({100 * share(row, which, peaks):.1f} % of peak"
    if (times := ratio(row, which)) is not None:
      text += f", {times:.2f} x PyTorch"
    parts.append(text + ")")
  return f"{row['case']} [{row['lowering']}], batch {row['batch_size']}: " + ", ".join(parts)


def kernel_line(row: dict, peaks: dict) -> str:
  """A kernel's row, short."""
  cells = [f"{way} {ms:.3f}" if not isinstance(ms, str) else f"{way} failed"
           for way, ms in row["ms"].items()]
  best = min((ms for ms in row["ms"].values() if not isinstance(ms, str)), default=None)
  peak = (f" (best {100 * row['flops'] / (best / 1e3) / peaks['bfloat16']:.1f} % of peak)"
          if best and row["flops"] else "")
  return f"{row['kernel']}, {row['pass']}: ms " + ", ".join(cells) + peak


def other_line(row: dict) -> str:
  """Any other row, short."""
  if "what" in row:
    rate = f" ({row['bytes_per_s'] / 1e9:.0f} GB/s written)" if "bytes_per_s" in row else ""
    return f"{row['what']}: {row['value']:.3f} {row['unit']}{rate}"
  return f"{row['title']}: " + ", ".join(
      f"{which} {row[which]['masked']['median']:.1f} clips/s masked, "
      f"{row[which]['compacted']['median']:.1f} compacted "
      f"({row[which]['compacted']['median'] / row[which]['masked']['median']:.2f} times)"
      for which in ("train", "forward"))


def markdown(results: dict) -> str:
  """All tables, as they go into RESULTS.md."""
  peaks = results["peaks"]
  lines = [heading(results), ""] if peaks else []
  if results["rows"]:
    lines += ["| network | batch | pass | clips/s (min to max) | ms | % of peak | PyTorch, clips/s "
              "| ratio | peak memory, GiB (PyTorch) | compiled in, s (again) |",
              "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"]
    for row in results["rows"]:
      lines += [_markdown_row(row, which, peaks) for which in ("train", "forward")]
    lines.append("")
  hows = [f"{row['case']}: {row['torch']['how']} (PyTorch {row['torch']['torch']})"
          for row in results["rows"] if "how" in row.get("torch", {})]
  if hows:
    lines += ["PyTorch ran as " + "; ".join(hows) + ".", ""]
  if results["kernels"]:
    ways = list(dict.fromkeys(way for row in results["kernels"] for way in row["ms"]))
    lines += ["| kernel | pass | " + " | ".join(f"{way}, ms" for way in ways)
              + " | best, % of peak |", "| --- " * (len(ways) + 3) + "|"]
    lines += [_markdown_kernel(row, ways, peaks) for row in results["kernels"]] + [""]
  if results["others"]:
    lines += [f"* {other_line(row)}" for row in results["others"]] + [""]
  lines += [f"* {note}" for note in results["notes"]]
  return "\n".join(lines) + "\n"


def _markdown_row(row, which, peaks):
  ours, times = row[which]["ours"], ratio(row, which)
  torch = row[which].get("torch")
  name = row["title"] + ("" if row["lowering"] == "auto" else f" [{row['lowering']}]")
  memory = _gib(row["ours_memory"]["peak"] or row["planned"])
  if "torch_memory" in row:
    memory += f" ({_gib(row['torch_memory']['peak'])})"
  again = f" ({row['compile_again_s']:.0f})" if "compile_again_s" in row else ""
  batch = str(row["batch_size"]) + (" (smaller: memory)" if row.get("marked") else "")
  if "largest_batch" in row:
    batch += f", {row['largest_batch']} fits"
  train = which == "train"
  cells = [name, batch, which,
           f"{ours['median']:.1f} ({ours['min']:.1f} to {ours['max']:.1f})",
           f"{1e3 * row['batch_size'] / ours['median']:.2f}",
           f"{100 * share(row, which, peaks):.1f}",
           f"{torch['median']:.1f} ({torch['min']:.1f} to {torch['max']:.1f})" if torch else "-",
           "-" if times is None else f"{times:.2f}", memory if train else "",
           f"{row['compile_s'][which]:.0f}{again if train else ''}"]
  return "| " + " | ".join(cells) + " |"


def _markdown_kernel(row, ways, peaks):
  cells = []
  for way in ways:
    ms = row["ms"].get(way)
    cells.append("" if ms is None else "failed" if isinstance(ms, str) else f"{ms:.3f}")
  best = min((ms for ms in row["ms"].values() if not isinstance(ms, str)), default=None)
  peak = (f"{100 * row['flops'] / (best / 1e3) / peaks['bfloat16']:.1f}"
          if best and row["flops"] else "")
  return "| " + " | ".join([row["kernel"], row["pass"], *cells, peak]) + " |"


def _gib(size):
  return "-" if size is None else f"{size / 2**30:.2f}"


def lowerings_file(results: dict) -> dict:
  """What `ops/lowerings.json` holds for this backend, by these measurements; kinds that were not
  measured keep what they had."""
  device, rows = results["device"], results["kernels"]
  before = convolution.measured_file().get(device["backend"], {})
  return {device["backend"]: {
      "device": device["device"], "date": device["date"],
      "kinds": before.get("kinds", {}) | kernels.choose(rows),
      "max_pool": before.get("max_pool", {}) | kernels.choose_pools(rows)}}
