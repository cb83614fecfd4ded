"""Foreign files: nothing in them is executed, and memory is bounded."""
