"""Speed and memory beside baselines of the same run; not part of the test run: ``python -m tests.benchmarks``."""
