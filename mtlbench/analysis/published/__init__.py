"""Published tables beside our runs: what agrees and what does not.

`beside` is the way in. `ilt` is the paper that this benchmark is built around; `optimization` those
on multi-task optimisation, whose tables most others repeat. Each has its numbers as a CSV file.
"""
