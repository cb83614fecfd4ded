"""What a clip on disk is."""
