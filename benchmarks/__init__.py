"""How fast the lab is: one script a question, ``python -m benchmarks NAME``; see README.md."""
