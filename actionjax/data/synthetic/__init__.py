"""The generated actions' makers: `motion` moves bodies, `scene` films, `rendering` draws."""
