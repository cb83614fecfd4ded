"""Raw files to prepared datasets: in worker processes or a Beam pipeline, staged, and cut."""
