"""What ``make bench`` measures, one module a question; each answer is one file in ``results/bench/``.

A speed depends on the processor and on what else it does that minute. So what is compared is measured alternately, in
one run, and its ratio is what holds.
"""
