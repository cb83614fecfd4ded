"""The shipped configs: `--config=configs/NAME.py`."""
