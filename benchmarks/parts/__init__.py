"""The parts of the benchmark: each measures, and says by which rows it is judged."""
