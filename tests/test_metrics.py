"""Metrics against hand-worked cases."""
import json

import numpy as np
import pytest

from actionjax.evaluators import metrics
from actionjax.training import metric_writer as metric_files


def test_metrics_by_hand():
  probabilities = np.array([[.7, .2, .1], [.3, .4, .3], [.2, .3, .5], [.6, .3, .1]])
  labels = np.array([0, 2, 2, 1])
  np.testing.assert_array_equal(
      metrics.confusion_matrix(labels, metrics.top_1(probabilities), 3),
      [[1, 0, 0], [1, 0, 0], [0, 1, 1]])
  found = metrics.summarise(probabilities, labels)
  assert found["top1"] == 0.5 and found["top5"] == 1.0 and found["clips"] == 4
  # Classes 0, 1, 2: 1/1, 0/1, 1/2.
  assert found["mean_class_accuracy"] == pytest.approx(0.5)
  assert metrics.top_k(probabilities, labels, 2) == 0.75  # row 1: label 2 ties and loses
  assert metrics.cross_entropy(probabilities, labels) == pytest.approx(
      -np.log([.7, .3, .5, .3]).mean())


def test_classes_that_do_not_occur_do_not_count():
  assert metrics.mean_class_accuracy(np.array([[2, 2, 0], [0, 0, 0], [0, 0, 4]])) == 0.75


def test_equal_probabilities_earn_no_luck():
  labels = np.arange(4)
  assert metrics.top_k(np.full((4, 4), 0.25), labels, 1) == 0.25


def test_writer_drops_rows_it_will_write_again(tmp_path):
  writer = metric_files.MetricWriter(tmp_path, step=0)
  for step in (10, 20, 30):
    writer.write(step, {"loss": step / 10})
  writer.close()
  with (tmp_path / "metrics.jsonl").open("a") as file:
    file.write('{"step": 40, "lo')  # cut short by a kill
  writer = metric_files.MetricWriter(tmp_path, step=20)
  writer.write(30, {"loss": 7.0})
  writer.close()
  rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
  assert rows == [{"step": 10, "loss": 1.0}, {"step": 20, "loss": 2.0}, {"step": 30, "loss": 7.0}]
  assert list((tmp_path / "tensorboard").glob("events*"))
