"""
What callsheet costs: each figure by one command, beside what the machine allows when nothing else is done.

    python -m benchmarks runs [--n N] [--repeat K] [--json]

Rule: a benchmark measures; nothing here decides whether a figure is good. Medians with their range, floors from the same run.
"""
