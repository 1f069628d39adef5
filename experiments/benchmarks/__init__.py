"""What the benchmark measures and shows."""
