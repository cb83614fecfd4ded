"""A plan as text: what a config is going to do, before it does it."""
from collections.abc import Iterator, Mapping

from actionjax.planning import Plan, Repeat


def lines(plan: Plan) -> Iterator[str]:
  """The plan, line by line; estimates of memory, which take a compilation each, come last.

  Steps come with all that is left to defaults in the config, and where it is known, with their
  clips, updates and parameters.
  """
  yield f"{plan.name}: seed {plan.seed}, data in {plan.data_dir or 'the default folder'}"
  for position, step in enumerate(plan.steps):
    yield ""
    if isinstance(step, Repeat):
      yield f"{position:02d} {step.name} (repeat, up to {step.config.passes} passes)"
      yield from _section({key: value for key, value in step.section().items()
                           if key not in ("kind", "name", "steps")}, 1)
      for number, inner in enumerate(step.steps):
        yield from _step(number, inner, 1)
    else:
      yield from _step(position, step, 0)
  for problem in plan.problems:
    yield ""
    yield f"not yet: {problem}"
  evaluations = [step for step in plan.flatten() if step.outline.at_once is not None]
  if evaluations:
    yield ""
    yield "arrays inside the network at test, as its trace counts them:"
  for step in evaluations:
    yield f"  {step.name}: {step.outline.at_once()}"
  trainings = [step for step in plan.flatten() if step.outline.memory is not None]
  if trainings:
    yield ""
    yield "memory of one training step, as XLA reckons it:"
  for step in trainings:
    needed = step.outline.memory()
    yield f"  {step.name}: " + ("XLA does not tell" if needed is None else
                                f"{needed / 2**20:,.0f} MiB on all devices together")


def _step(position, step, depth) -> Iterator[str]:
  facts = ", ".join(f"{value:,} {name}" if isinstance(value, int) else f"{name} {value}"
                    for name, value in step.outline.facts.items())
  after = f", after {', '.join(step.after)}" if step.after else ""
  yield ("  " * depth + f"{position:02d} {step.name} ({step.kind}{after})"
         + (f": {facts}" if facts else ""))
  yield from _section({key: value for key, value in step.section().items()
                       if key not in ("kind", "name")}, depth + 1)


def _section(section: Mapping, depth: int) -> Iterator[str]:
  for key, value in section.items():
    if isinstance(value, Mapping) and value:
      yield "  " * depth + f"{key}:"
      yield from _section(value, depth + 1)
    else:
      yield "  " * depth + f"{key}: {value}"
