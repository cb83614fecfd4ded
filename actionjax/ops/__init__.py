"""Pure geometry on skeletons and maps, jitted with the models that call it."""
